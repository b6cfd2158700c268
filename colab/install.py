"""Installs this repository into a notebook's Python without moving what the runtime is made of.

jax, jaxlib, libtpu and numpy of a Colab runtime fit each other and the accelerator: another jax
finds no TPU. So pip installs ``.[EXTRA]`` under a file of constraints: first one that holds all
that is installed where it is; where there is no such way, one that holds these four and the plugins
of jax, and what moved is named. Where that cannot be either, nothing is installed, and one sentence
says which requirement it is.
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
        f"error: {sys.executable} lacks the package `packaging`, by which requirements are read; "
        "every Jupyter kernel brings it, and so does `python -m pip install packaging`"
    ) from None

ROOT = Path(__file__).resolve().parents[1]
NAME = "lumloss-jax"
_HELD = re.compile(r"(jax|jaxlib|numpy|libtpu|jax-(cuda|rocm).*)")
_MEND = (
    "These are the runtime's own and are not moved: jax, jaxlib and libtpu fit each other and "
    "the accelerator. Take a newer runtime (in Colab: Runtime, Change runtime type, Runtime "
    "version), or a TAG of this repository made for it."
)


class CannotInstall(Exception):
    """What the runtime has and what this repository needs do not go together; says so in a sentence."""


def listed() -> dict[str, str]:
    """What is installed: its version by its name."""
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
            f"Mend it by `{sys.executable} -m ensurepip`, or by `uv pip install pip` where uv "
            "made the environment."
        )
    return {
        _plain(name): version
        for name, _, version in (line.partition("==") for line in ran.stdout.splitlines())
    }


def held(installed: Mapping[str, str]) -> list[str]:
    """Constraints on what nothing may change."""
    return [f"{name}=={version}" for name, version in installed.items() if _HELD.fullmatch(name)]


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Packages that were installed and are now of another version, or gone."""
    return [
        f"{name} {version} -> {after.get(name, 'removed')}"
        for name, version in before.items()
        if after.get(name) != version and name != NAME
    ]


def requirements(extra: str, project: Path = ROOT / "pyproject.toml") -> Iterator[Requirement]:
    """What the project asks for with an extra, extras that name other extras of its own followed."""
    table = tomllib.loads(project.read_text())["project"]
    if extra not in table["optional-dependencies"]:
        raise CannotInstall(
            f"There is no extra {extra!r}; there are {', '.join(table['optional-dependencies'])}."
        )
    for line in (*table["dependencies"], *table["optional-dependencies"][extra]):
        asked = Requirement(line)
        if _plain(asked.name) == NAME:
            for other in sorted(asked.extras):
                yield from requirements(other, project)
        else:
            yield asked


def missing(asked: Iterable[Requirement], installed: Mapping[str, str]) -> list[Requirement]:
    """Requirements that what is installed, by name, does not meet."""
    return [
        one
        for one in asked
        if (version := installed.get(_plain(one.name))) is None
        or not one.specifier.contains(version, prereleases=True)
    ]


def check_held(asked: Iterable[Requirement], constraints: Iterable[str]) -> None:
    """Refuses, before pip is asked, a runtime whose held packages are too old."""
    versions = {
        _plain(name): version for name, _, version in (line.partition("==") for line in constraints)
    }
    wrong = [one for one in missing(asked, versions) if _plain(one.name) in versions]
    if wrong:
        # Once each: extras of the project ask for its other requirements again.
        needed = ", ".join(dict.fromkeys(str(one) for one in wrong))
        there = ", ".join(
            dict.fromkeys(f"{one.name} {versions[_plain(one.name)]}" for one in wrong)
        )
        raise CannotInstall(f"lumloss_jax needs {needed}, and this runtime has {there}. {_MEND}")


def pip_install(arguments: Iterable[str], constraints: Iterable[str]) -> None:
    """Runs ``pip install`` under constraints; where pip finds no way, its own reasons are in the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("".join(f"{line}\n" for line in constraints))
        # Not --quiet: pip would leave out what a conflict is caused by.
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        ran = subprocess.run(
            [*command, "--constraint", str(file), *arguments], capture_output=True, text=True
        )
    if ran.returncode != 0:
        raise CannotInstall(explain(ran.stdout + ran.stderr, constraints))


def explain(output: str, constraints: Iterable[str]) -> str:
    """What pip says when it finds no way, as a sentence."""
    constraints = list(constraints)
    beginning = f"pip cannot install lumloss_jax beside {', '.join(constraints)}"
    if conflict := re.search(r"The conflict is caused by:\n((?:[ \t]+\S.*\n)+)", output):
        lines = [" ".join(line.split()) for line in conflict[1].splitlines()]
        reasons = dict.fromkeys(
            line for line in lines if not line.startswith("The user requested (constraint)")
        )
        return f"{beginning}: {'; '.join(reasons)}. {_MEND}"
    if absent := re.search(r"No matching distribution found for (.*)", output):
        return (
            f"{beginning}: there is no {absent[1].strip()} for Python "
            f"{sys.version_info.major}.{sys.version_info.minor} on this machine, or no network to "
            "fetch it by."
        )
    errors = [
        line for line in output.splitlines() if line.strip() and not line.startswith("WARNING")
    ]
    return f"{beginning}. Its last words:\n" + "\n".join(errors[-10:])


def install_extra(extra: str) -> None:
    """Installs the repository with an extra, unless all is there already."""
    asked = list(requirements(extra))
    installed = {_plain(each.name): each.version for each in metadata.distributions()}
    if not missing([*asked, Requirement(NAME)], installed):
        print(f"lumloss_jax and all that [{extra}] asks for are installed: nothing to do")
        return
    before = listed()
    constraints = held(before)
    print(f"holding {', '.join(constraints) or 'nothing: no jax and no numpy are here yet'}")
    check_held(asked, constraints)
    wanted = ["--editable", f"{ROOT}[{extra}]"]
    try:
        pip_install(
            wanted, [f"{name}=={version}" for name, version in before.items() if name != NAME]
        )
    except CannotInstall:
        print("pip finds no way that moves nothing else; it is asked again, with these alone held")
        pip_install(wanted, constraints)
    print(f"installed lumloss_jax with [{extra}]")
    if changed := moved(before, listed()):
        print(
            f"had to move {', '.join(changed)}: if one of them was imported already, restart the "
            "runtime"
        )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
