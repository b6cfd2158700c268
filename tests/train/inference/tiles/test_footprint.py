"""What a network needs for each pixel, and the tiles that follow from it."""

import math

import pytest

from train.errors import InputError
from train.inference.predictors import predictor_for
from train.inference.tiles import footprint
from train.inference.tiles.footprint import LARGEST_ARRAY, bytes_per_pixel, largest_tile
from train.inference.tiles.tiling import default_tile
from train.network import build_model


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("dncnn(depth=4, features=64, batch_norm=False)", 4 * 64),
        ("dncnn(depth=3, features=100, dtype='bfloat16', batch_norm=False)", 2 * 100),
        ("dncnn(depth=2, features=20000, batch_norm=False)", 4 * 20_000),
        # Its first block has 2 * 4 channels at full size.
        ("nafnet(width=4, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,))", 4 * 8),
    ],
)
def test_the_largest_array_by_hand(spec: str, expected: int) -> None:
    assert bytes_per_pixel(build_model(spec)) == expected


def test_usual_networks_keep_their_tiles() -> None:
    for spec in ("dncnn", "drunet", "unet", "buifd"):
        model = build_model(spec)
        field = model.receptive_field
        assert default_tile(field, most=largest_tile(model)) == default_tile(field)


def test_a_wide_network_gets_tiles_that_fit() -> None:
    model = build_model("dncnn(depth=2, features=20000, batch_norm=False)")
    predictor = predictor_for(model, {}, {})
    assert predictor.tile == math.isqrt(LARGEST_ARRAY // 80_000) == 79


def test_a_network_that_no_tile_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("dncnn(depth=3, features=4, batch_norm=False)")
    monkeypatch.setattr(footprint, "LARGEST_ARRAY", 16 * 7**2)
    assert predictor_for(model, {}, {}).tile == 7
    monkeypatch.setattr(footprint, "LARGEST_ARRAY", 16 * 7**2 - 1)
    with pytest.raises(InputError, match="restore and evaluate accept --tile 7"):
        predictor_for(model, {}, {})
    assert predictor_for(model, {}, {}, tile=7).tile == 7
