"""Layer by layer gives the same pixels as the whole photograph, for NAFNet and CIDNet."""

import functools
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from lumloss_jax.models import create_model, variable_shapes
from tests.slow_cases import slow_for
from train.errors import InputError
from train.inference import layered
from train.inference.layered import LayeredPredictor
from train.inference.predictors import predictor_for
from train.inference.tiles import features, spilled
from train.inference.tiles.tiles import photograph_of

NAFNET = {"width": 4, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (1, 1)}
CIDNET = {"features": (4, 4, 4, 6), "heads": (1, 2, 2)}
# Name, fields, and the options under which the predictor gives the whole photograph
CASES = {
    "nafnet, exact": ("nafnet", NAFNET, {"exact": True}),
    "nafnet, local": ("nafnet", {**NAFNET, "window": (24, 40)}, {}),
    "nafnet, local on one axis": ("nafnet", {**NAFNET, "window": (400, 16)}, {}),
    "cidnet": ("cidnet", CIDNET, {}),
    "cidnet with factors": (
        "cidnet",
        # Layer norms over few channels amplify rounding
        {
            "features": (8, 8, 8, 8),
            "heads": (1, 2, 2),
            "norm": True,
            "saturation": 1.3,
            "brightness": 0.8,
            "gamma": 1.5,
        },
        {},
    ),
}


def network(name: str, fields: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A network in which every weight counts."""
    model = create_model(name, **fields)
    rng = np.random.default_rng(2)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        kind = path[-1].key
        if kind in ("scale", "temperature", "k"):
            return rng.uniform(0.7, 1.3, leaf.shape).astype(np.float32)
        if kind == "kernel":
            size = np.sqrt(np.prod(leaf.shape[:-1]))
            return (rng.normal(size=leaf.shape) / size).astype(np.float32)
        return rng.uniform(-0.3, 0.3, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, dict(variable_shapes(model)))
    for last in ("ending", "color_out", "intensity_out"):
        if last in variables["params"]:
            variables["params"][last]["kernel"] *= 0.1
    return model, variables


def whole(name: str, fields: dict[str, Any], image: np.ndarray) -> np.ndarray:
    model, variables = network(name, fields)
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x))(variables, image[None])[0])


def predictor(name: str, fields: dict[str, Any], **options: Any) -> LayeredPredictor:
    model, variables = network(name, fields)
    made = predictor_for(model, variables["params"], {}, **options)
    assert isinstance(made, LayeredPredictor)
    return made


@functools.cache
def in_strips(case: str) -> LayeredPredictor:
    """What restores the photograph below in strips, compiled once for the tests of it."""
    name, fields, options = CASES[case]
    return predictor(name, fields, tile=16, **options)


def photograph() -> np.ndarray:
    """Its sides are no multiples of a stride, and it has several strips at each level."""
    return np.random.default_rng(1).uniform(0, 1, (93, 61, 3)).astype(np.float32)


@slow_for("case", CASES, ["nafnet, local on one axis", "cidnet", "cidnet with factors"])
def test_layer_by_layer_is_the_whole_photograph(case: str) -> None:
    name, fields, _ = CASES[case]
    image, made = photograph(), in_strips(case)
    shares: list[float] = []
    restored = np.concatenate(list(made._layer_by_layer(photograph_of(image), shares.append)))
    assert sum(shares) == pytest.approx(1)
    expected = whole(name, fields, image)
    assert expected.std() > 0.1
    atol = 3e-5 * max(1, np.abs(expected).max())  # NAFNet's output has no bound
    np.testing.assert_allclose(restored, expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(made.restore(image), np.clip(restored, 0, 1))


@slow_for("case", ["nafnet, local", "cidnet"], ["cidnet"])
def test_a_photograph_of_few_rows_has_one_strip(case: str) -> None:
    name, fields, options = CASES[case]
    image = np.random.default_rng(5).uniform(0, 1, (3, 61, 3)).astype(np.float32)
    made = predictor(name, fields, tile=16, **options)
    expected = np.clip(whole(name, fields, image), 0, 1)
    np.testing.assert_allclose(made.restore(image), expected, rtol=0, atol=1e-4)


def test_the_local_form_is_the_default_and_is_said() -> None:
    """It has no effect on photographs that fit in the window."""
    made = predictor("nafnet", NAFNET)
    assert made.model.window == layered.LOCAL_WINDOW
    small, large = (np.full((5, width, 3), 0.5, np.float32) for width in (384, 385))
    assert made.notes(photograph_of(small)) == []
    (note,) = made.notes(photograph_of(large))
    assert "means over windows of 384x384 pixels. --exact takes" in note
    exact = predictor("nafnet", NAFNET, exact=True)
    assert exact.model.window == () and exact.notes(photograph_of(large)) == []


@slow_for("case", ["nafnet, exact", "cidnet"], ["cidnet"])
def test_the_ensemble_is_the_mean_over_flips_and_turns(case: str) -> None:
    name, fields, options = CASES[case]
    if name == "nafnet":  # of two levels, which are enough for strips
        fields = {**fields, "encoder_blocks": (1,), "decoder_blocks": (1,)}
    image = np.random.default_rng(3).uniform(0.2, 0.6, (40, 24, 3)).astype(np.float32)
    at_once, in_layers = (
        predictor(name, fields, tile=tile, self_ensemble=True, **options).restore(image)
        for tile in (64, 16)
    )
    np.testing.assert_allclose(in_layers, at_once, rtol=0, atol=3e-5)


def test_changes_of_more_than_half_the_range_give_a_warning() -> None:
    fields = {"width": 4, "encoder_blocks": (0,), "middle_blocks": 1, "decoder_blocks": (0,)}
    model, variables = network("nafnet", fields)
    variables["params"]["ending"]["kernel"] *= 30
    made = predictor_for(model, variables["params"], {}, tile=32)
    assert isinstance(made, LayeredPredictor)
    photograph = photograph_of(np.random.default_rng(4).random((20, 20, 3), np.float32))
    list(made.strips(photograph))
    assert made.far_share > 0.001
    assert "of the pixels changed by more than half of the range" in made.notes(photograph)[-1]
    calm = predictor("nafnet", {**fields, "middle_blocks": 0}, tile=32)
    calm._variables["params"]["ending"]["kernel"] *= 0
    list(calm.strips(photograph))
    assert calm.far_share == 0 and calm.notes(photograph) == []


# CIDNet consists of many programs.
@slow_for("case", ["nafnet, exact", "nafnet, local", "cidnet"], ["cidnet"])
def test_the_size_on_disk_is_announced_and_is_the_true_one(case: str, monkeypatch: Any) -> None:
    """The announced number is the largest sum of the files that exist at once."""
    alive: dict[int, int] = {}
    most = [0]

    class Counted(features.Features):
        def __init__(self, height: int, width: int, channels: int) -> None:
            super().__init__(height, width, channels)
            alive[id(self)] = 4 * height * width * channels
            most[0] = max(most[0], sum(alive.values()))

        def close(self) -> None:
            del alive[id(self)]
            super().close()

    monkeypatch.setattr(spilled, "Features", Counted)
    monkeypatch.setattr(layered, "Features", Counted)
    image, made = photograph_of(photograph()), in_strips(case)
    list(made.strips(image))
    assert most[0] == made._bytes_on_disk(image) > 0 and not alive
    said = made.announcement(image)
    assert f"up to {math.ceil(most[0] / 1e6)} MB in {tempfile.gettempdir()}" in said
    assert predictor("nafnet", NAFNET).announcement(image) == ""  # it fits one tile


def test_too_little_space_is_an_error_before_the_work_starts(monkeypatch: Any) -> None:
    made = predictor("nafnet", NAFNET, tile=16)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    image = photograph_of(np.zeros((93, 61, 3), np.float32))
    with pytest.raises(InputError, match="has 0.0 GB. Free some space there"):
        next(made.strips(image))


def test_a_disk_that_fills_up_is_named(monkeypatch: Any, tmp_path: Path) -> None:
    made = predictor("nafnet", NAFNET, tile=16)

    class Full:
        def seek(self, place: int) -> None:
            pass

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(features.tempfile, "TemporaryFile", Full)
    with pytest.raises(InputError, match="cannot be written to: No space left on device"):
        next(made.strips(photograph_of(np.zeros((93, 61, 3), np.float32))))
