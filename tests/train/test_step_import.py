"""Other programs can use the update without the code that reads and shows photographs.

Commands do not import what they may not need, because importing takes a second.
"""

import json
import subprocess
import sys

HOSTS = ("PIL", "grain", "orbax", "pyvips", "skimage", "tensorboardX", "tyro")

# Parts of packages that only some runs need, and late
LATE = ("scipy.ndimage", "scipy.optimize", "skimage.restoration._denoise")


def loaded_by(*modules: str) -> list[str]:
    """Names of all modules that a new process has after it imported these."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


def test_importing_the_update_loads_nothing_of_the_host() -> None:
    loaded = loaded_by("train.step")
    assert "train.step" in loaded
    assert [name for name in HOSTS if name in loaded] == []
    assert [name for name in loaded if name.startswith("train.data.")] == ["train.data.batch"]


def test_fit_and_restore_begin_without_what_they_may_not_need() -> None:
    loaded = loaded_by("train.loop", "train.inference.restore")
    assert "train.inference.restore" in loaded
    assert [name for name in LATE if name in loaded] == []
