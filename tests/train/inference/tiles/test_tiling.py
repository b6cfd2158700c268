"""Tiles give the same pixels as the whole image, for every network; and the geometry behind it."""

import functools
import re
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumloss_jax.models import (
    PRESETS,
    ReceptiveField,
    Retinexformer,
    create_model,
    variable_shapes,
)
from tests.slow_cases import slow_for
from tests.small_networks import SMALL_NETWORKS, network_for_tiles
from train.errors import InputError
from train.inference import predict
from train.inference.attending import AttendingPredictor
from train.inference.predict import Predictor
from train.inference.predictors import predictor_for
from train.inference.tiles.attention import reduce_photograph
from train.inference.tiles.tiles import Rows, StreamedPhotograph, photograph_of
from train.inference.tiles.tiling import check_tile, cut, default_tile

# NAFNet and CIDNet run layer by layer instead
CUT_INTO_TILES = [name for name in SMALL_NETWORKS if not name.endswith(("nafnet", "cidnet"))]
each_network = slow_for(
    "name",
    CUT_INTO_TILES,
    [name for name in CUT_INTO_TILES if name.startswith(("deeper ", "unet_", "buifd"))],
)


def predictor(name: str, **options: Any) -> Predictor:
    model, variables = network_for_tiles(name)
    return predictor_for(model, variables["params"], variables["batch_stats"], **options)


def whole(name: str, image: np.ndarray) -> np.ndarray:
    """The clipped output of the network as it was trained, with batch norm, on the whole image."""
    model, variables = network_for_tiles(name)
    sigma = np.float32(0.1) if model.takes_sigma else None
    restored = jax.jit(lambda v, x: model.apply(v, x, sigma=sigma))(variables, image[None])
    return np.clip(np.asarray(restored[0]), 0, 1)


@each_network
def test_tiles_are_the_whole_image(name: str) -> None:
    """Sides are not multiples of a stride, there are several tiles, and the last is shifted."""
    field = network_for_tiles(name)[0].receptive_field
    # Deeper networks get fewer and larger tiles.
    more = (4, 0) if not name.startswith("deeper ") else (24, 2 * field.margin)
    height, width = (side + more[1] for side in (61, 78))
    image = np.random.default_rng(1).uniform(0, 1, (height, width, 3)).astype(np.float32)
    tiled = predictor(name, tile=2 * field.margin + more[0]).restore(image, sigma=0.1)
    expected = whole(name, image)
    # The output is neither flat nor mostly clipped.
    assert expected.std() > 0.02 and ((expected > 0) & (expected < 1)).mean() > 0.2
    np.testing.assert_allclose(
        tiled, expected, rtol=0, atol=1e-4 if "retinexformer" in name else 1e-6
    )


def test_stages_follow_each_other_over_the_whole_image() -> None:
    image = np.random.default_rng(5).uniform(0, 1, (37, 50, 3)).astype(np.float32)
    model = create_model("retinexformer", features=4, levels=1, num_blocks=(0, 1), stages=2)
    rng = np.random.default_rng(6)
    variables = jax.tree.map(
        lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), variable_shapes(model)
    )
    expected = np.clip(jax.jit(lambda v, x: model.apply(v, x))(variables, image[None])[0], 0, 1)
    shares: list[float] = []
    tiled = predictor_for(model, variables["params"], {}, tile=32)
    restored = np.concatenate(list(tiled.strips(photograph_of(image), on_progress=shares.append)))
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-4)
    assert sum(shares) == pytest.approx(1)
    assert ((expected > 0) & (expected < 1)).mean() > 0.2 and np.abs(expected - image).max() > 0.1


@slow_for("name", ["dncnn", "retinexformer"], ["retinexformer"])
def test_small_images_are_divided_over_the_devices(name: str, monkeypatch) -> None:
    images = list(np.random.default_rng(4).uniform(0, 1, (5, 9, 14, 3)).astype(np.float32))
    one_by_one = [predictor(name).restore(image, sigma=0.1) for image in images]
    batches = []
    run = Predictor._run

    def counted(self: Predictor, function: Any, *images: np.ndarray, **arguments: Any) -> Any:
        found = run(self, function, *images, **arguments)
        batches.append((len(images[0]), len(found.sharding.device_set)))
        return found

    monkeypatch.setattr(Predictor, "_run", counted)
    together = predictor(name).restore_all(images, sigma=0.1)
    assert batches == [(4, 4), (4, 4)]  # the last one is filled up
    for found, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_wrapping_network_keeps_only_a_row_of_tiles_in_memory() -> None:
    image = np.random.default_rng(1).uniform(0, 1, (2000, 9, 3)).astype(np.float32)
    asked = []

    def open_rows() -> Rows:
        last = 0

        def rows(start: int, stop: int) -> np.ndarray:
            nonlocal last
            assert start >= last
            last = start
            asked.append(stop - start)
            return image[start:stop]

        return rows

    restored = list(
        predictor("dncnn_scico", tile=40).strips(StreamedPhotograph(2000, 9, open_rows))
    )
    assert max(asked) <= 256 and len(restored) > 40
    np.testing.assert_allclose(
        np.concatenate(restored)[:60],
        predictor("dncnn_scico", tile=4000).restore(image)[:60],
        atol=1e-6,
    )


def test_a_narrow_image_is_cut_one_way_only() -> None:
    image = np.random.default_rng(1).uniform(0, 1, (5, 30, 3)).astype(np.float32)
    for name in ("dncnn", "dncnn_scico"):
        np.testing.assert_allclose(
            predictor(name, tile=12).restore(image),
            whole(name, image),
            rtol=0,
            atol=1e-6,
            err_msg=name,
        )


@slow_for("name", ["dncnn", "retinexformer"], ["retinexformer"])
def test_the_ensemble_is_the_mean_over_flips_and_turns(name: str) -> None:
    image = np.random.default_rng(2).uniform(0.2, 0.5, (50, 50, 3)).astype(np.float32)
    model, variables = network_for_tiles(name)
    apply = jax.jit(lambda v, x: model.apply(v, x))
    total = np.zeros_like(image)
    for turns in range(4):
        for flip in (lambda x: x, np.fliplr):
            restored = np.asarray(apply(variables, flip(np.rot90(image, turns))[None])[0])
            total += np.rot90(flip(restored), -turns)
    ensemble = predictor(name, tile=40, self_ensemble=True).restore(image)
    np.testing.assert_allclose(ensemble, np.clip(total / 8, 0, 1), rtol=0, atol=1e-4)
    assert np.abs(ensemble - whole(name, image)).max() > 0.01


def test_fast_attention_is_that_of_the_reduced_photograph() -> None:
    image = np.random.default_rng(3).uniform(0, 1, (50, 91, 3)).astype(np.float32)
    model, variables = network_for_tiles("retinexformer")
    reduced, factor = reduce_photograph(photograph_of(image), 40)
    assert factor == 3
    np.testing.assert_allclose(reduced[0, 4, 7], image[12:15, 21:24].mean(axis=(0, 1)), rtol=1e-6)
    assert reduced.shape == (1, 16, 30, 3)
    fast = predictor("retinexformer", tile=40, fast=True)
    (sums,) = fast.sums_of(photograph_of(image))
    # Flax's own way to capture what a method returned.
    seen = functools.partial(
        model.apply, capture_intermediates=lambda module, method: method == "channel_sums"
    )
    _, captured = jax.jit(functools.partial(seen, mutable=["intermediates"]))(variables, reduced)
    blocks = captured["intermediates"]["restorer_0"]
    for name, found in zip(
        ("down_0_block_0", "bottleneck_block_0", "up_0_block_0"), sums, strict=True
    ):
        for one, (expected,) in zip(
            found, blocks[name]["attention"]["channel_sums"][0], strict=True
        ):
            np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-3)
    exact = predictor("retinexformer", tile=40).restore(image)
    assert 1e-3 < np.abs(fast.restore(image) - exact).max() < 0.7


@given(
    size=st.integers(1, 400),
    stride=st.sampled_from([1, 2, 8]),
    radius=st.integers(0, 40),
    more=st.integers(0, 60),
    wraps=st.booleans(),
)
def test_cores_cover_the_axis_once_and_lie_a_radius_inside(
    size: int, stride: int, radius: int, more: int, wraps: bool
) -> None:
    field = ReceptiveField(stride, radius, wraps=wraps)
    tile = check_tile(2 * field.margin + stride + more, field)
    axis = cut(size, tile, field)
    covered = np.zeros(size, int)
    for span in axis.spans:
        inside, outside = axis.kept(span)
        covered[outside] += 1
        assert outside.stop - outside.start == inside.stop - inside.start
        np.testing.assert_array_equal(axis.pixels_of(span)[inside], np.arange(size)[outside])
        assert span.start % stride == 0 and len(axis.pixels_of(span)) == axis.tile <= tile
        # Nothing near an inner edge is kept, and if the axis wraps, nothing near any edge.
        if len(axis.spans) > 1 and (wraps or span.start > 0):
            assert inside.start >= radius
        if len(axis.spans) > 1 and (wraps or span.start + axis.tile < axis.padded):
            assert axis.tile - inside.stop >= radius
    assert (covered == 1).all()


@pytest.mark.parametrize("name", ["drunet", "retinexformer"])
def test_matrix_products_have_full_precision(name: str) -> None:
    made = predictor(name)
    sigma = np.float32(0.1) if made.model.takes_sigma else None
    lowered = predict._restorer(made.model).lower(
        made._variables, np.zeros((1, 16, 16, 3), np.float32), sigma
    )
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", lowered.as_text())
    assert len(products) > 3
    for product in products:
        assert re.search(r"precision(_config)? = \[.*HIGHEST.*HIGHEST", product)


def test_padding_is_the_same_as_in_the_network() -> None:
    def padded(size: int, **padding: bool) -> list[int]:
        return cut(size, 64, ReceptiveField(4, 3, **padding)).pixels.tolist()

    assert padded(5) == [0, 1, 2, 3, 4, 4, 4, 4]
    assert padded(5, reflects=True) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert padded(1, reflects=True) == [0, 0, 0, 0]
    wrapped = cut(9, 6, ReceptiveField(1, 1, wraps=True)).pixels.tolist()
    assert wrapped == [8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0]


def test_a_tile_that_is_too_small_is_an_error_with_the_minimum() -> None:
    field = create_model("dncnn", depth=20).receptive_field
    assert check_tile(41, field) == 41
    with pytest.raises(
        InputError, match=r"--tile 40 .* extends 20 pixels to either side. Use 41 or more"
    ):
        check_tile(40, field)


def test_published_networks_keep_nearly_half_the_side_of_a_tile() -> None:
    for name in PRESETS:
        model = create_model(name)
        attends = isinstance(model, Retinexformer)
        side = (AttendingPredictor if attends else Predictor).default_side
        field = model.receptive_field
        tile = default_tile(field, side=side)
        assert tile % field.stride == 0 and (tile - 2 * field.margin) / tile >= 0.42, name
