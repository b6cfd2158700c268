"""tests/lowest-versions.txt, for `make test-lowest`, holds the lower bounds of pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOWEST = dict(
    line.split("==")
    for line in (ROOT / "tests" / "lowest-versions.txt").read_text().splitlines()
    if line[0] != "#"
)
# In Colab's runtimes of August 2026.
COLAB = {
    "chex": "0.1.90",
    "flax": "0.11.2",
    "grain": "0.2.18",
    "jax": "0.7.2",
    "jaxlib": "0.7.2",
    "numpy": "2.1.3",
    "optax": "0.2.8",
    "orbax-checkpoint": "0.12.4",
}


# Upper bounds, which CONTRIBUTING.md gives the reason for.
BELOW = {"orbax-checkpoint": "1"}


def bounds(*extras: str) -> dict[str, str]:
    """Name -> lower bound, of the project and some of its extras."""
    lines = PROJECT["dependencies"] + [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ]
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.name != PROJECT["name"]:
            versions = {each.operator: each.version for each in requirement.specifier}
            found[requirement.name] = versions.pop(">=")
            below = {"<": BELOW[requirement.name]} if requirement.name in BELOW else {}
            assert versions == below, f"{requirement}: lower bounds only"
    return found


def test_every_lower_bound_of_the_library_and_the_trainer_is_installed_as_it_stands():
    for name, bound in bounds("models", "train").items():
        # 24.3 is of a series whose first release is 24.3.25: the lowest that there is may have more
        # digits.
        assert re.fullmatch(re.escape(bound) + r"(\.\d+)*", LOWEST[name]), (
            f"{name}: {bound} or newer, {LOWEST[name]}"
        )


def test_exceptions_to_lower_bounds_only_are_named():
    named = (ROOT / "CONTRIBUTING.md").read_text().partition("have lower bounds only")[2]
    for name, version in BELOW.items():
        assert f"`{name}` is the\n  one exception: it must be below {version} " in named


def test_what_tests_are_run_with_stands_at_its_lower_bound_too():
    asked = bounds("dev")
    for name in ("dm-pix", "hypothesis", "pytest", "pytest-xdist"):
        assert Version(LOWEST[name]).release[:2] == Version(asked[name]).release[:2], name


@pytest.mark.parametrize("name", COLAB)
def test_no_lower_bound_is_above_colabs_version(name):
    assert Version(LOWEST[name]) <= Version(COLAB[name])


def test_every_line_is_of_something_that_is_installed():
    brought_by_jax = {"jaxlib", "numpy"}
    assert set(LOWEST) <= set(bounds("models", "train", "dev")) | brought_by_jax
