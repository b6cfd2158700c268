"""Installs this repository into a notebook's Python without changing the runtime's own packages.

The jax, jaxlib, libtpu and numpy of a Colab runtime fit each other and the accelerator. A different
jax finds no TPU. So pip installs ``.[EXTRA]`` under constraints, in up to two attempts:

1. The constraints keep every installed package at its version.
2. If pip finds no way, they keep only these four and the plugins of jax, and the notebook prints
   which other packages changed.

If that is impossible too, nothing is installed, and one sentence names the requirement that is the
cause.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:
    raise SystemExit(
        f"error: {sys.executable} lacks the package `packaging`, which reads requirements. "
        "Every Jupyter kernel has it. To install it, run `python -m pip install packaging`"
    ) from None

ROOT = Path(__file__).resolve().parents[1]
NAME = "lumloss-jax"
_HELD = re.compile(r"(jax|jaxlib|numpy|libtpu|jax-(cuda|rocm).*)")
_ADVICE = (
    "These are the runtime's own packages and are not changed, because jax, jaxlib and libtpu fit "
    "each other and the accelerator. Choose a newer runtime (in Colab: Runtime, Change runtime "
    "type, Runtime version), or a TAG of this repository that was made for this runtime."
)


class CannotInstall(Exception):
    """The runtime's packages do not fit what this repository needs; the message says why."""


def listed() -> dict[str, str]:
    """Versions of the installed packages, by name."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "list",
        "--format=freeze",
        "--disable-pip-version-check",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise CannotInstall(
            f"Nothing can be installed without pip, and this Python says: {ran.stderr.strip()}. "
            f"Fix it with `{sys.executable} -m ensurepip`, or with `uv pip install pip` if uv "
            "made the environment."
        )
    return {
        _plain(name): version
        for name, _, version in (line.partition("==") for line in ran.stdout.splitlines())
    }


def held(installed: Mapping[str, str]) -> list[str]:
    """Constraints that keep the packages that must not change."""
    return [f"{name}=={version}" for name, version in installed.items() if _HELD.fullmatch(name)]


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Packages that were installed and now have a different version or are gone."""
    return [
        f"{name} {version} -> {after.get(name, 'removed')}"
        for name, version in before.items()
        if after.get(name) != version and name != NAME
    ]


def requirements(extra: str, project: Path = ROOT / "pyproject.toml") -> Iterator[Requirement]:
    """Requirements of the project with an extra, including the extras that it names in turn."""
    table = tomllib.loads(project.read_text())["project"]
    if extra not in table["optional-dependencies"]:
        raise CannotInstall(
            f"There is no extra {extra!r}. Choose one of "
            f"{', '.join(table['optional-dependencies'])}."
        )
    for line in (*table["dependencies"], *table["optional-dependencies"][extra]):
        asked = Requirement(line)
        if _plain(asked.name) == NAME:
            for other in sorted(asked.extras):
                yield from requirements(other, project)
        else:
            yield asked


def missing(asked: Iterable[Requirement], installed: Mapping[str, str]) -> list[Requirement]:
    """Requirements that the installed packages do not meet."""
    return [
        one
        for one in asked
        if (version := installed.get(_plain(one.name))) is None
        or not one.specifier.contains(version, prereleases=True)
    ]


def check_held(asked: Iterable[Requirement], constraints: Iterable[str]) -> None:
    """Refuses a runtime whose constrained packages are too old, before pip is asked."""
    versions = {
        _plain(name): version for name, _, version in (line.partition("==") for line in constraints)
    }
    wrong = [one for one in missing(asked, versions) if _plain(one.name) in versions]
    if wrong:
        # Each is named once, because extras of the project ask for the same requirements again.
        needed = ", ".join(dict.fromkeys(str(one) for one in wrong))
        there = ", ".join(
            dict.fromkeys(f"{one.name} {versions[_plain(one.name)]}" for one in wrong)
        )
        raise CannotInstall(f"lumloss_jax needs {needed}, and this runtime has {there}. {_ADVICE}")


def pip_install(arguments: Iterable[str], constraints: Iterable[str]) -> None:
    """Runs ``pip install`` under constraints; if pip finds no way, the error gives its reasons."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("".join(f"{line}\n" for line in constraints))
        # Without --quiet, because pip would then leave out the cause of a conflict.
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        ran = subprocess.run(
            [*command, "--constraint", str(file), *arguments], capture_output=True, text=True
        )
    if ran.returncode != 0:
        raise CannotInstall(explain(ran.stdout + ran.stderr, constraints))


def explain(output: str, constraints: Iterable[str]) -> str:
    """Turns the output of a pip that found no way into a sentence."""
    constraints = list(constraints)
    beginning = f"pip cannot install lumloss_jax together with {', '.join(constraints)}"
    if conflict := re.search(r"The conflict is caused by:\n((?:[ \t]+\S.*\n)+)", output):
        lines = [" ".join(line.split()) for line in conflict[1].splitlines()]
        reasons = dict.fromkeys(
            line for line in lines if not line.startswith("The user requested (constraint)")
        )
        return f"{beginning}: {'; '.join(reasons)}. {_ADVICE}"
    if absent := re.search(r"No matching distribution found for (.*)", output):
        return (
            f"{beginning}: there is no {absent[1].strip()} for Python "
            f"{sys.version_info.major}.{sys.version_info.minor} on this machine, or there is no "
            "network to download it."
        )
    errors = [
        line for line in output.splitlines() if line.strip() and not line.startswith("WARNING")
    ]
    return f"{beginning}. The last lines of its output:\n" + "\n".join(errors[-10:])


def install_extra(extra: str) -> None:
    """Installs the repository with an extra, unless everything is installed already."""
    asked = list(requirements(extra))
    installed = {_plain(each.name): each.version for each in metadata.distributions()}
    if not missing([*asked, Requirement(NAME)], installed):
        print(f"lumloss_jax and everything that [{extra}] needs are installed: nothing to do")
        return
    before = listed()
    constraints = held(before)
    print(f"keeping {', '.join(constraints) or 'nothing: jax and numpy are not installed yet'}")
    check_held(asked, constraints)
    wanted = ["--editable", f"{ROOT}[{extra}]"]
    try:
        pip_install(
            wanted, [f"{name}=={version}" for name, version in before.items() if name != NAME]
        )
    except CannotInstall:
        print("pip cannot keep everything else as it is. Trying again, keeping only these.")
        pip_install(wanted, constraints)
    print(f"installed lumloss_jax with [{extra}]")
    if changed := moved(before, listed()):
        print(
            f"had to change {', '.join(changed)}. If one of them was already imported, restart the "
            "runtime."
        )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
