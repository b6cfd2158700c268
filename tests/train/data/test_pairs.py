"""Pairs on devices and in evaluation. test_step.py tests them in the training step."""

import numpy as np
import pytest

from train.console import make_console
from train.data.batch import Pair
from train.data.images import to_float
from train.data.sources import make_source
from train.devices import sharding
from train.inference.scoring.baseline_table import make_table, score_with_baselines


def _pair(count: int = 4) -> Pair:
    degraded, clean = np.random.default_rng(0).random((2, count, 8, 8, 3), np.float32)
    return Pair(degraded, clean)


def test_any_number_of_devices_gets_the_same_pairs() -> None:
    pair = _pair()
    for devices in (1, 2, 4):
        mesh = sharding.make_mesh(devices)
        (arrived,) = sharding.to_devices(iter([pair]), mesh)
        assert isinstance(arrived, Pair)
        for given, found in zip(pair, arrived, strict=True):
            assert found.sharding == sharding.split_by_batch(mesh)
            np.testing.assert_array_equal(found, given)


def test_pairs_are_evaluated_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    clean, degraded = np.random.default_rng(0).integers(0, 256, (2, 20, 16, 3), dtype=np.uint8)
    (evaluation,) = score_with_baselines(
        lambda noisy: noisy,
        make_source(("a[b].png",), (clean,), inputs=(degraded,)),
        sigma=25,
        seed=0,
    )
    np.testing.assert_array_equal(evaluation.noisy, to_float(degraded))
    np.testing.assert_array_equal(evaluation.clean, to_float(clean))
    assert all(np.isnan(row.sigma) for row in evaluation.rows)
    make_console().print(make_table(list(evaluation.rows), "degraded in reality"))
    printed = capsys.readouterr().out
    assert "degraded in reality" in printed and "sigma 25" not in printed
    assert "a[b].png" in printed  # no markup
    assert "noise" not in printed and "not rounded" in printed
