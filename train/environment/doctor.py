"""``python -m train doctor``: what a bug report needs, and what is wrong with this installation.

Every line says what was found, and, if something is missing, what to do. Nothing is downloaded or
compiled. A folder that the program would write to is tried with a file that is removed again.
Programs that ``export`` wrote get a line each, which says whether jax still loads them.
"""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from train.bounds import check_name
from train.console import make_console
from train.files.trust import why_untrusted
from train.inference.exports.stablehlo import examine_program

_PACKAGE = "lumloss-jax"
_SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy")
# Extras that a user may need; the others are for developers.
_EXTRAS = ("train", "compare", "study", "tfds", "onnx", "tpu")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?.*?(?:extra == ['\"](\w+)['\"])?$")
# Variables that change what jax, glibc or TensorFlow Datasets do.
_VARIABLES = (
    "JAX_PLATFORMS",
    "JAX_COMPILATION_CACHE_DIR",
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "CUDA_VISIBLE_DEVICES",
    "GLIBC_TUNABLES",
    "OMP_NUM_THREADS",
    "TFDS_DATA_DIR",
)
_INSTALL = 'pip install -e ".[train]"'
_REMOTE = re.compile(r"\w{2,}:/")  # such as gs://bucket; a drive has one letter
_LEAST_FREE = 1_000_000_000  # bytes on a disk: checkpoints and photographs soon need as many
_LEAST_MEMORY = 4_000_000_000  # bytes


@dataclass(frozen=True)
class DoctorConfig:
    """Say what this program runs on, what is missing, and what to do about it."""

    programs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="")
    ] = ()
    """Files of export --format stablehlo. Each gets a line that says whether jax still loads it."""

    def __post_init__(self) -> None:
        for program in self.programs:
            check_name("the program", program)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    found: str
    advice: str = ""
    """What to do; "" if nothing is wrong."""


def doctor(config: DoctorConfig) -> int:
    """Prints what this program runs on, and returns 1 if something needs attention."""
    console = make_console(soft_wrap=True)
    programs = [Finding(str(path), *examine_program(path)) for path in config.programs]
    findings = [*examine_machine(cache=_cache_folder()), *programs]
    for finding in findings:
        _print(finding, console)
    wrong = [finding for finding in findings if finding.advice]
    if wrong:
        console.print(
            f"{len(wrong)} of {len(findings)} lines need attention: "
            f"{', '.join(finding.topic for finding in wrong)}."
        )
    else:
        console.print("Nothing needs attention.")
    return 1 if wrong else 0


def examine_machine(*, cache: str | os.PathLike[str]) -> Iterator[Finding]:
    """Examines the machine, the packages and the folders.

    Args:
      cache: folder of compiled programs.

    Returns:
      An iterator over the lines of the report.
    """
    yield Finding("system", f"{platform.platform()}, {platform.machine()}")
    yield Finding("python", f"{platform.python_version()}, {platform.python_implementation()}")
    yield Finding("versions", ", ".join(map(_version, (_PACKAGE, *_SHOWN))))
    yield _libvips()
    yield _devices()
    yield _memory()
    yield _threads()
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "extras", f"unknown, because {_PACKAGE} is not installed", f"Install it: {_INSTALL}"
        )
        requirements = []
    for extra, packages in packages_by_extra(requirements).items():
        yield _extra(extra, packages)
    yield _folder("runs", "runs", "Start the program in a folder that you may write to.")
    yield _folder(
        "cache",
        os.fspath(cache),
        "Set JAX_COMPILATION_CACHE_DIR to a folder that you may write to.",
    )
    data = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    yield _folder("data sets", data, "Set TFDS_DATA_DIR to a folder that you may write to.")
    given = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    yield Finding("variables", ", ".join(given) or "none that change what this program does")


def packages_by_extra(requirements: list[str]) -> dict[str, list[str]]:
    """Sorts requirements by the extras that a user may need.

    Args:
      requirements: as a package states them, such as ``"optuna>=4.5; extra == 'compare'"``.

    Returns:
      Names of packages by extra. Packages of "train" are not repeated for the other extras.
    """
    found: dict[str, list[str]] = {extra: [] for extra in _EXTRAS}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement.strip())
        if match is None or match[3] not in found:
            continue
        if match[1].lower().replace("_", "-") == _PACKAGE:
            continue  # An extra includes another extra of this package.
        # The extra of jax for TPUs brings libtpu.
        found[match[3]].append("libtpu" if (match[1], match[2]) == ("jax", "tpu") else match[1])
    for extra in _EXTRAS[1:]:
        found[extra] = [package for package in found[extra] if package not in found["train"]]
    return {extra: packages for extra, packages in found.items() if packages}


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def _libvips() -> Finding:
    try:
        from train.data.libvips import pyvips
    # The package may be missing, or may not find its library.
    except Exception as error:
        return Finding(
            "libvips",
            f"cannot be loaded: {str(error).splitlines()[0]}",
            f"Photographs are read with it. Install it: {_INSTALL}",
        )
    return Finding("libvips", ".".join(str(pyvips.version(part)) for part in range(3)))


def _devices() -> Finding:
    try:
        devices = jax.local_devices()
    # A driver that does not fit raises one of many errors.
    except Exception as error:
        return Finding(
            "devices",
            f"jax found none: {str(error).splitlines()[0]}",
            "Install the jax that fits your driver, or set JAX_PLATFORMS=cpu.",
        )
    found = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    if devices[0].platform != "cpu":
        limit = (devices[0].memory_stats() or {}).get("bytes_limit")
        return Finding("devices", f"{found}, {limit / 1e9:.1f} GB each" if limit else found)
    if os.path.exists("/dev/nvidia0"):
        return Finding(
            "devices",
            f"{found}, although this machine has an NVIDIA GPU",
            'Install jax for it: pip install "jax[cuda13]"',
        )
    return Finding("devices", found)


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf.
        return Finding("memory", "unknown on this system")
    found = f"{total / 1e9:.1f} GB"
    if total < _LEAST_MEMORY:
        return Finding(
            "memory", found, "Use a smaller --tile to restore, and a smaller --batch-size to train."
        )
    return Finding("memory", found)


def _threads() -> Finding:
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return Finding("threads", f"{usable} of {cores} processor cores may be used")


def _extra(extra: str, packages: list[str]) -> Finding:
    missing = [package for package in packages if not _is_installed(package)]
    if not missing:
        return Finding(f"extra {extra}", "complete")
    command = f'pip install -e ".[{extra}]"'
    if extra == "train":
        return Finding("extra train", f"lacks {', '.join(missing)}", f"Install it: {command}")
    # The others are a choice, so a missing one needs no attention.
    return Finding(f"extra {extra}", f"not installed ({', '.join(missing)}); {command}")


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _folder(topic: str, folder: str, advice: str) -> Finding:
    """Tries to write where the folder is, or where it would be made."""
    if _REMOTE.match(folder):
        return Finding(topic, f"{folder} is not on this machine, so it was not tried")
    # Unlike Path.expanduser, this raises nothing if there is no home.
    folder = os.path.expanduser(folder)
    whole = Path(folder).absolute()
    try:
        # Path.exists raises an error for names that are too long or not permitted.
        there = next(path for path in (whole, *whole.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(topic, f"{folder} cannot be written to: {error.strerror}", advice)
    found = f"{folder} can be written to, {free / 1e9:.1f} GB free"
    if topic == "cache" and (why := why_untrusted(folder)):
        return Finding(
            topic,
            f"{folder} is not used, because it {why}",
            "Set JAX_COMPILATION_CACHE_DIR to a folder to which only you can write.",
        )
    if free < _LEAST_FREE:
        return Finding(topic, found, f"Free some space. {advice}")
    return Finding(topic, found)


def _cache_folder() -> str:
    config: Any = jax.config
    return config.jax_compilation_cache_dir or ".cache"


def _print(finding: Finding, console: Console) -> None:
    line = f"{finding.topic:>13}  {finding.found}"
    console.print(f"{line}. {finding.advice}" if finding.advice else line)
