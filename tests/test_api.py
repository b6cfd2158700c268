"""What every public function keeps to: signature, docstring, and its line in docs/functions.md.

The library's functions are imported; those of the application are read off its source.
"""

import ast
import importlib
import inspect
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import lumloss_jax

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("losses", "metrics", "color", "degradations", "models")
PUBLIC = {
    f"{package}.{name}": getattr(module, name)
    for package in PACKAGES
    for module in [importlib.import_module(f"lumloss_jax.{package}")]
    for name in module.__all__
}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if isinstance(value, types.FunctionType)}
LOSSES = {
    name: value
    for name, value in FUNCTIONS.items()
    if list(inspect.signature(value).parameters)[:1] == ["predictions"]
}
LOSSES = {name: value for name, value in LOSSES.items() if name.startswith("losses.")}
METRICS = {name: value for name, value in FUNCTIONS.items() if name.startswith("metrics.")}
METRICS.pop("metrics.flip_map")  # one value per pixel, for figures
COLOR = {name: value for name, value in FUNCTIONS.items() if name.startswith("color.")}

# What has no formula or no publication of its own, and why.
NO_FORMULA = {
    "losses.dwa_init": "a state",
    "losses.dwa_update": "keeps two numbers; the formula is dwa_weights'",
    "losses.gradient_norms": "norms, as the name says",
    "losses.gradnorm_init": "a state; the formula is gradnorm_update's",
    "losses.make_loss": "what the spec says",
    "losses.parse_loss": "a grammar",
    "losses.uncertainty_init": "a state; the formula is uncertainty_loss's",
} | {name: "a network or its weights" for name in FUNCTIONS if name.startswith("models.")}
for metric in ("models.lpips", "models.dists"):
    del NO_FORMULA[metric]
NO_REFERENCE = {
    "losses.dwa_init": "dwa_weights has it",
    "losses.dwa_update": "dwa_weights has it",
    "losses.gradient_norms": "gradnorm_update has it",
    "losses.gradnorm_init": "gradnorm_update has it",
    "losses.make_loss": "our own",
    "losses.parse_loss": "our own",
    "losses.uncertainty_init": "uncertainty_loss has it",
    "losses.uncertainty_weights": "uncertainty_loss has it",
    "losses.weighted_sum": "arithmetic",
} | {name: "PRESETS has it, network by network" for name in FUNCTIONS if name.startswith("models.")}
for metric in ("models.lpips", "models.dists"):
    del NO_REFERENCE[metric]

each_function = pytest.mark.parametrize("name", FUNCTIONS)


def sections(function: Callable) -> dict[str, str]:
    """Sections of a function's docstring, as :func:`sections_of` gives them."""
    return sections_of(inspect.getdoc(function) or "")


def sections_of(docstring: str) -> dict[str, str]:
    """Google-style sections of a docstring by title; what stands before them is ""."""
    parts = re.split(r"^([A-Z][a-z]+):$", docstring, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").splitlines()[0]


def listed_row(name: str) -> str:
    value = PUBLIC[name]
    said = (
        first_line(value)
        if callable(value)
        else "The named networks, with parameters and MACs per pixel."
    )
    said = re.sub(r":math:`([^`]*)`", r"$\1$", re.sub(r":(?:func|class):(`[^`]*`)", r"\1", said))
    # Markdown would set the a in italics and drop its stars
    said = said.replace("L*a*b*", r"L\*a\*b\*")
    return f"| `{name}` | {said.replace('|', chr(92) + '|')} |"


def test_the_front_door_opens_the_loss_and_its_packages():
    assert lumloss_jax.luminance_l1_loss is lumloss_jax.losses.luminance_l1_loss
    assert lumloss_jax.luminance_l1_terms is lumloss_jax.losses.luminance_l1_terms
    assert {*PACKAGES} - {"models"} <= set(lumloss_jax.__all__)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_two_images_then_options_by_keyword(name):
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["predictions", "targets"]
    assert all(
        p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in list(parameters.values())[2:]
    ) or (
        name == "losses.perceptual_loss"  # there are no features to begin with
    )
    assert {"mask", "axis_name"} <= set(parameters)
    assert "reduction" not in parameters


@pytest.mark.parametrize("name", METRICS)
def test_metrics_take_two_images_and_the_protocol_by_keyword(name):
    parameters = inspect.signature(METRICS[name]).parameters
    assert list(parameters)[:2] == ["predictions", "targets"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
    defaults = {"data_range": 1.0, "crop_border": 0, "mask": None, "gt_mean": None}
    assert {key: parameters[key].default for key in defaults} == defaults


@pytest.mark.parametrize("name", COLOR)
def test_colour_functions_take_one_image(name):
    first, *options = inspect.signature(COLOR[name]).parameters.values()
    assert first.name == "image"
    assert all(
        option.kind is option.KEYWORD_ONLY and option.default is not option.empty
        for option in options
    )


def test_degradations_take_a_key_first():
    module = importlib.import_module("lumloss_jax.degradations")
    # A type, a maker, no randomness
    for name in set(module.__all__) - {
        "SensorVariances",
        "compose",
        "sigma_ramp",
    }:
        assert next(iter(inspect.signature(getattr(module, name)).parameters)) == "key", name


@each_function
def test_docstrings_explain_every_argument_in_order(name):
    described = re.findall(
        r"^  \**(\w+): ", sections(FUNCTIONS[name]).get("Args", ""), flags=re.MULTILINE
    )
    assert described == list(inspect.signature(FUNCTIONS[name]).parameters)


@each_function
def test_docstrings_say_what_comes_back_what_is_raised_and_show_it(name):
    found = sections(FUNCTIONS[name])
    assert {"Returns", "Raises", "Example"} <= set(found)
    assert ">>>" in found["Example"]
    assert first_line(FUNCTIONS[name]).endswith(".")


@each_function
def test_docstrings_give_formula_and_source_or_there_is_a_reason(name):
    found = sections(FUNCTIONS[name])
    assert (".. math::" in found[""]) != (name in NO_FORMULA)
    assert ("References" in found) != (name in NO_REFERENCE)


@pytest.mark.parametrize("name", {**LOSSES, **METRICS})
def test_what_is_to_be_small_or_large_says_so(name):
    returns = sections(FUNCTIONS[name])["Returns"]
    direction = r"two scalars" if name.endswith("_terms") else r"(lower|higher) is better"
    assert re.search(direction, " ".join(returns.split()))
    shape = "shape ``[...]``" if name in METRICS else "()"
    assert shape in returns


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if isinstance(value, type)]
)
def test_classes_explain_their_fields(name):
    fields = set(inspect.get_annotations(PUBLIC[name])) - {"parent", "name"}
    fields = {
        field for field in fields if "ClassVar" not in str(PUBLIC[name].__annotations__[field])
    }
    described = re.findall(r"^  (\w+): ", inspect.getdoc(PUBLIC[name]) or "", flags=re.MULTILINE)
    assert fields <= set(described)


def test_every_public_name_has_its_line_in_the_table():
    listed = [
        line
        for line in (ROOT / "docs" / "functions.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert listed == [listed_row(name) for name in PUBLIC]


# --- the application, read off its source

# Signatures that others prescribe.
PRESCRIBED = {
    "train/pytorch/torch_pickle.py": {"_Machine._ordered_dict"},  # called with what a pickle holds
    "train/pytorch/zip_files.py": {"_Bounded.read", "_Bounded.seek"},  # a file's
}
TRAIN = sorted((ROOT / "train").rglob("*.py"))
each_train_file = pytest.mark.parametrize(
    "path", TRAIN, ids=lambda path: path.relative_to(ROOT).as_posix()
)


class Function(NamedTuple):
    """A function of the application: its name with its class, and whether others may call it."""

    name: str
    node: ast.FunctionDef
    is_public: bool

    @property
    def parameters(self) -> list[str]:
        """Names in order, without self; those of ``*`` and ``**`` last."""
        given = self.node.args
        found = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        found += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
        return found[1:] if found[:1] in (["self"], ["cls"]) else found


def functions_of(path: Path) -> list[Function]:
    """Functions and methods of a file, and functions within them."""
    found: list[Function] = []

    def visit(node: ast.AST, above: str, is_public: bool) -> None:
        for child in ast.iter_child_nodes(node):
            name = f"{above}{getattr(child, 'name', '')}"
            if isinstance(child, ast.ClassDef):
                visit(child, f"{name}.", is_public and not child.name.startswith("_"))
            elif isinstance(child, ast.FunctionDef):
                plain = child.name == "__init__" or not child.name.startswith("_")
                found.append(Function(name, child, is_public and plain))
                visit(child, f"{name}.", False)
            else:
                visit(child, above, is_public)

    visit(ast.parse(path.read_text()), "", True)
    return found


def without_sections(path: Path) -> list[str]:
    """Public functions of three parameters or more that lack Args, Returns or Raises."""
    found = []
    for name, node, is_public in functions_of(path):
        function = Function(name, node, is_public)
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        if not is_public or len(function.parameters) < 3 or "overload" in decorators:
            continue
        held = sections_of(ast.get_docstring(node) or "")
        described = re.findall(r"^  \**(\w+): ", held.get("Args", ""), flags=re.MULTILINE)
        if described != function.parameters:
            found.append(f"{name}: Args")
        returns = "None" if node.returns is None else ast.unparse(node.returns)
        gives = returns not in ("None", "NoReturn") and "contextmanager" not in decorators
        if gives and "Returns" not in held:
            found.append(f"{name}: Returns")
        if raises(node) and "Raises" not in held:
            found.append(f"{name}: Raises")
    return found


def raises(node: ast.FunctionDef) -> bool:
    """Whether a function raises something itself, other than what it has caught."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Raise) and inner.exc is not None:
            if not (isinstance(inner.exc, ast.Name) and inner.exc.id == "error"):
                return True
    return False


def positional_defaults(path: Path) -> list[str]:
    """Functions with a default that may be passed by position."""
    accepted = PRESCRIBED.get(path.relative_to(ROOT).as_posix(), set())
    found = []
    for function in functions_of(path):
        if function.node.args.defaults and function.name not in accepted:
            found.append(function.name)
    return found


@each_train_file
def test_functions_of_the_application_say_what_they_take_return_and_raise(path):
    assert without_sections(path) == []


@each_train_file
def test_defaults_in_the_application_are_passed_by_keyword(path):
    assert positional_defaults(path) == []


def test_the_rules_of_the_application_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "file.py"
    path.write_text(
        "def f(a, b, c=1) -> int:\n"
        '    """One.\n\n    Args:\n      a: one.\n      b: two.\n    """\n'
        "    raise ValueError\n"
    )
    assert without_sections(path) == ["f: Args", "f: Returns", "f: Raises"]
    assert positional_defaults(path) == ["f"]
