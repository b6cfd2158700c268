"""Settings for every test: four CPU devices, a compilation cache, the folder of shared data."""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# Before jax is imported: where libtpu is installed (for compiling ahead of time) jax would look for
# a TPU, and two processes of pytest-xdist may both load it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
# Nobody reads from which lines of Python an operation of a compiled program comes.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# XLA optimizes little and compiles each program in one piece, because compiling takes most of the
# time of the tests and each has one core. Started processes inherit this.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests the programs that users run, as `make test-slow` and `make
# test-all` do.
QUICK = ["--xla_cpu_parallel_codegen_split_count=1"]
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")  # later versions end at an unknown flag
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in given if flag not in QUICK), *QUICK])

import hypothesis
import jax
import pytest

from tests.shared_data import ROOT, SHARED, needs_shared

# The scripts that made golden numbers need other packages.
collect_ignore = ["golden"]

# Before the first computation: afterwards the number of devices is fixed.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


# Each of the many operations in their examples is compiled as a program of its own.
SLOW_EXAMPLES = {
    "ciede2000_loss",
    "cidnet_loss",
    "flip",
    "flip_loss",
    "flip_map",
    "haarpsi",
    "haarpsi_loss",
    "lpips",
    "lpips_layers",
    "mdsi",
    "ms_gmsd",
    "ms_ssim_loss",
    "nlpd",
    "nlpd_loss",
    "psnr_hvs_m",
    "s_cielab",
}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow examples, and what asks for ``shared``, by itself or by another fixture."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.split(".")[-1] in SLOW_EXAMPLES:
            item.add_marker(pytest.mark.slow)
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(needs_shared)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Path:
    """Expected numbers kept in the repository."""
    return ROOT / "tests" / "golden"


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Frees a module's compiled programs at its end; nothing of them is used again."""
    yield
    jax.clear_caches()
