"""Importing the library and calling a loss loads little.

Each case runs in a process of its own.
"""

import json
import subprocess
import sys

HEAVY = (
    "PIL",
    "flax",
    "grain",
    "optax",
    "orbax",
    "pyvips",
    "scipy",
    "skimage",
    "tensorflow",
    "torch",
)

PROGRAM = """
import json, sys
import chex, jax
theirs = set(sys.modules)
import lumloss_jax
imported = set(sys.modules)
jax.config.update("jax_num_cpu_devices", 2)  # JAX refuses this once a backend is up
import numpy as np
image = np.zeros((1, 16, 16, 3), np.float32)
loss = float(lumloss_jax.luminance_l1_loss(image, image))
loss += float(lumloss_jax.losses.make_loss("luminance_l1(window_size=3) + ssim")(image, image)[0])
report = {"ours": sorted(imported - theirs), "all": sorted(sys.modules)}
print(json.dumps({**report, "loss": loss, "devices": jax.device_count()}))
"""


def test_import_and_call_bring_in_jax_and_chex_only() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    report = json.loads(ran.stdout)
    assert report["loss"] == 0
    # Importing computed nothing: the number of devices was still free
    assert report["devices"] == 2
    strangers = {
        name
        for name in report["ours"]
        if name.split(".")[0] not in {"lumloss_jax", *sys.stdlib_module_names}
    }
    assert strangers == set()  # nothing that jax and chex had not imported already
    assert not any(name.startswith("lumloss_jax.models") for name in report["all"])
    assert [name for name in HEAVY if name in report["all"]] == []
