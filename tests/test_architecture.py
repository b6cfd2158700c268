"""Who may import whom, and how files are cut: the plan of the house, read off the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lumloss_jax", "train")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST = 350

# Where images are restored: inference, the verb of the command line, and trained networks compared.
RESTORING = (
    "train.inference",
    "train.verbs",
    "train.experiments.networks.members",
    "train.experiments.networks.starts",
)

# What each folder of the application may import from it, beside itself: files or whole folders.
FOLDERS = {
    "train.balancing": "",
    "train.files": "errors",
    "train.monitoring": "console errors data.images files",
    "train.devices": "config console data.batch errors files state",
    "train.checkpoints": "config data.splits devices errors files monitoring network state",
    "train.compilation": "assembly bounds config console data.batch devices errors",
    "train.environment": "bounds console data files inference.exports",
    "train.pytorch": "bounds checkpoints console devices errors files inference.scoring network",
    "train.data": "console errors files",
    "train.data.formats": "",
    "train.data.inspection": "bounds console data errors files",
    "train.inference": "bounds checkpoints console data devices errors files network",
    "train.inference.exports": (
        "bounds checkpoints console errors files inference.predict inference.tiles network"
    ),
    "train.inference.tiles": "data.images devices errors",
    "train.inference.files": (
        "data errors files inference.predict inference.retouch inference.tiles"
    ),
    "train.inference.scoring": "console data errors files randomness",
    "train.experiments": (
        "assembly bounds checkpoints config console data devices errors files inference.scoring "
        "study"
    ),
    "train.experiments.networks": (
        "assembly balancing bounds checkpoints config console data degradation devices errors "
        "experiments.compare_config experiments.statistics files guard "
        "inference.predictors inference.scoring loop monitoring network objective optimizer pixels "
        "randomness state step training validation"
    ),
    "train.experiments.statistics": "data errors files inference.scoring",
    "train.study": (
        "assembly bounds checkpoints config console data errors experiments files inference"
    ),
    "train.study.messages": "errors",
    "train.experiments.report": "checkpoints.versions data experiments.statistics files "
    "inference.scoring",
}

# Folders that nothing but the command line opens, and the files that may open them beside it.
OPENED_BY = {
    "train.compilation": (),
    "train.environment": (),
    "train.pytorch": (),
    "train.data.inspection": (),
    "train.experiments": ("train.presets", "train.study.networks"),
    "train.study": ("train.__main__", "train.experiments.people"),
}

# What of the study the server may import: it starts at once, and no mapping leaves it.
SERVING = "guard messages rules sent sequential server serve study_checks study_file votes"

# What the light half may import beside the standard library: numpy comes with jax.
LIGHT = ("lumloss_jax", "jax", "chex", "numpy")


def name_of(path: Path) -> str:
    """lumloss_jax/losses/__init__.py -> lumloss_jax.losses."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it.

    For ``from a import b`` it is a.b, if that is a module here.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inside or {node.module}
    return found


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden() -> Iterator[tuple[str, str, str]]:
    """Every import against the plan, with its reason."""
    for name, imported in IMPORTS.items():
        for other in sorted(imported):
            arrow = (name, other)
            if below(name, "lumloss_jax") and below(other, "train"):
                yield *arrow, "the library stands without the application"
            if below(name, "lumloss_jax") and not below(name, "lumloss_jax.models"):
                if below(other, "lumloss_jax.models"):
                    yield *arrow, "the light half knows no networks"
                if other.split(".")[0] not in (*LIGHT, *sys.stdlib_module_names):
                    yield *arrow, "the light half imports jax, chex and numpy only"
            if below(name, "lumloss_jax.metrics") and below(other, "lumloss_jax.losses"):
                yield *arrow, "metrics do not depend on losses"
            if below(name, "lumloss_jax.models") and below(
                other, "lumloss_jax.losses", "lumloss_jax.metrics"
            ):
                yield *arrow, "networks do not depend on what they are trained with"
            if name.startswith("lumloss_jax.losses._") and not below(
                other, "lumloss_jax.losses._penalties"
            ):
                may = name.split(".")[-1].startswith(("_composition", "_spec"))
                if below(other, "lumloss_jax.losses") and not may:
                    yield *arrow, "a loss imports no sibling but _penalties"
            served = name.removeprefix("train.study.")
            if below(name, "train.study") and served in SERVING.split():
                if other.split(".")[0] in ("jax", "numpy", "scipy", "pyvips") or (
                    below(other, "train.study")
                    and not below(other, *(f"train.study.{part}" for part in SERVING.split()))
                ):
                    yield *arrow, "the server of a study starts at once"
            if name == "train.step" and below(other, "train.devices.sharding"):
                yield *arrow, "the step knows no device"
            if name == "train.devices.sharding" and below(other, "train.step"):
                yield *arrow, "devices stand beside the step, not above it"
            if name == "train.objective" and below(other, "lumloss_jax.models", "train.network"):
                yield *arrow, "the objective knows no network"
            if below(name, "train.data") and below(other, "jax"):
                yield *arrow, "data are NumPy's until they are put on devices"
            if below(other, "train.presets") and name != "train.verbs":
                yield *arrow, "presets are for the command line"
            folder = max((f for f in FOLDERS if below(name, f)), key=len, default=None)
            if folder and below(other, "train") and not below(other, folder):
                if not below(other, *(f"train.{part}" for part in FOLDERS[folder].split())):
                    yield *arrow, f"{folder} may import {FOLDERS[folder] or 'nothing'}"
            for opened, openers in OPENED_BY.items():
                if below(other, opened) and not below(name, opened, "train.verbs", *openers):
                    yield *arrow, f"only the command line opens {opened}"


def test_no_import_against_the_plan():
    assert list(forbidden()) == []


@pytest.mark.parametrize(
    ("name", "other", "reason"),
    [
        ("lumloss_jax.losses._luminance", "optax", "jax, chex and numpy"),
        ("lumloss_jax.losses._luminance", "lumloss_jax.losses._regression", "sibling"),
        ("lumloss_jax.metrics._distortion", "lumloss_jax.losses", "metrics"),
        ("lumloss_jax.models._dncnn", "lumloss_jax.metrics", "trained with"),
        ("lumloss_jax.models._dncnn", "train.step", "application"),
        ("lumloss_jax.color._luma", "lumloss_jax.models", "no networks"),
        ("train.step", "train.devices.sharding", "no device"),
        ("train.devices.sharding", "train.step", "beside the step"),
        ("train.objective", "lumloss_jax.models", "no network"),
        ("train.data.pipeline", "jax.numpy", "NumPy"),
        ("train.loop", "train.presets", "command line"),
        ("train.loop", "train.experiments.compare", "opens train.experiments"),
        ("train.assembly", "train.pytorch.torch_files", "opens train.pytorch"),
        ("train.monitoring.meters", "train.devices.sharding", "train.monitoring may import"),
        ("train.inference.predict", "train.loop", "train.inference may import"),
        ("train.data.formats.png", "train.data.images", "may import nothing"),
        ("train.loop", "train.study.server", "opens train.study"),
        ("train.study.create", "train.loop", "train.study may import"),
        ("train.study.server", "numpy", "starts at once"),
        ("train.study.votes", "train.study.results", "starts at once"),
    ],
)
def test_each_rule_would_be_noticed(name, other, reason, monkeypatch):
    assert name in IMPORTS
    monkeypatch.setitem(IMPORTS, name, {other})
    assert any(arrow[:2] == (name, other) and reason in arrow[2] for arrow in forbidden())


def test_imports_run_in_no_circle():
    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for other in IMPORTS[name] & set(MODULES):
            # A package's door imports its rooms; a room that imports a sibling by the package's
            # name passes the door.
            if not below(name, other):
                visit(other, (*path, name))
        done.add(name)

    done: set[str] = set()
    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize(
    "path", [*FILES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_the_root_of_the_application_can_be_read_at_a_glance():
    assert len(list((ROOT / "train").glob("*.py"))) <= 26


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_of_the_plan_exist_and_use_what_they_may(folder):
    """A permission that nobody uses is taken back."""
    used = set().union(*(imported for name, imported in IMPORTS.items() if below(name, folder)))
    for part in FOLDERS[folder].split():
        assert any(below(other, f"train.{part}") for other in used), part


def test_no_room_for_odds_and_ends():
    names = [part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts]
    assert not {
        "utils",
        "_utils",
        "helpers",
        "_helpers",
        "misc",
        "_misc",
        "common",
        "_common",
    } & set(names)


def names_of(path: Path, *kinds: type[ast.AST]) -> list[str]:
    """Classes or functions that a file defines, at any depth, without leading underscores."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node.name.lstrip("_") for node in nodes if isinstance(node, kinds)]


def test_no_two_classes_of_the_application_share_a_name():
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        if below(name, "train"):
            for found in names_of(path, ast.ClassDef):
                places.setdefault(found, []).append(name)
    assert {found: names for found, names in places.items() if len(names) > 1} == {}


def test_images_are_restored_and_checkpoints_loaded():
    """``restore`` is the verb for images, and stands only where images are restored."""
    places = {
        name
        for name, path in MODULES.items()
        if below(name, "train") and any("restor" in found for found in functions_of(path))
    }
    assert {name for name in places if not below(name, *RESTORING)} == set()


def test_folders_of_runs_are_held_in_one_way():
    """Links out of a run are refused there, so nothing that writes to a run may pass it by."""
    places = {
        name
        for name, path in MODULES.items()
        if below(name, "train") and "locks.hold(" in path.read_text()
    }
    # Single checkpoints are written to new folders.
    new = {"train.checkpoints.checkpoint", "train.pytorch.import_weights"}
    assert places - new == {"train.checkpoints.run_folder"}


def functions_of(path: Path) -> list[str]:
    return names_of(path, ast.FunctionDef)


def test_the_librarys_files_stand_behind_their_packages():
    """The public path is the package: other files of the library begin with an underscore."""
    library = [path for path in FILES if path.is_relative_to(ROOT / "lumloss_jax")]
    assert [path for path in library if not path.name.startswith("_")] == []


def test_doors_list_what_they_open_in_order():
    for path in FILES:
        listed = [
            ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        for names in listed:
            assert list(names) == sorted(names), path
        assert listed or path.name != "__init__.py" or path.parent.parts[-2] != "lumloss_jax", path


def test_tests_mirror_the_packages_and_are_no_package():
    # tests/golden/deep/make.py makes expected numbers
    golden = ROOT / "tests" / "golden"
    folders = {path.parent for path in TESTS if golden not in path.parents} - {ROOT / "tests"}
    for folder in folders:
        assert (ROOT / folder.relative_to(ROOT / "tests")).is_dir(), f"{folder}: mirrors no folder"
    assert not list((ROOT / "tests").rglob("__init__.py"))
    # A conftest.py holds none, nor a program that tests start, nor what several tests import.
    shared = set().union(*map(imports, TESTS))
    others = [
        path
        for path in TESTS
        if path.name != "conftest.py" and "if __name__ == " not in path.read_text()
    ]
    without = [
        path
        for path in others
        if "def test_" not in path.read_text() and name_of(path) not in shared
    ]
    assert without == []
