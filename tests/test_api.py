"""What every public function keeps to: its signature, its docstring, its line in docs/functions.md."""

import importlib
import inspect
import re
import types
from collections.abc import Callable
from pathlib import Path

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

each_function = pytest.mark.parametrize("name", FUNCTIONS)


def sections(function: Callable) -> dict[str, str]:
    """Google-style sections of a docstring by title; what stands before them is ""."""
    parts = re.split(r"^([A-Z][a-z]+):$", inspect.getdoc(function) or "", flags=re.MULTILINE)
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
