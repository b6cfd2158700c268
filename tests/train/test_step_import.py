"""Other programs can use the update without the code that reads and shows photographs."""

import json
import subprocess
import sys

HOSTS = ("PIL", "grain", "orbax", "pyvips", "skimage", "tensorboardX", "tyro")

PROGRAM = """
import json, sys
import train.step
print(json.dumps(sorted(sys.modules)))
"""


def test_importing_the_update_loads_nothing_of_the_host() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    loaded = json.loads(ran.stdout)
    assert "train.step" in loaded
    assert [name for name in HOSTS if name in loaded] == []
    assert [name for name in loaded if name.startswith("train.data.")] == ["train.data.batch"]
