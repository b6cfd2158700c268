"""How clean photographs are degraded before a network sees them."""

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import degradations
from train.__main__ import main
from train.dark_photographs import darken_splits, describe_degradation
from train.data.batch import Pair
from train.data.images import write_image
from train.data.sources import Source, make_source
from train.data.splits import Splits
from train.degradation import degrade
from train.randomness import EXPOSURE_STREAM, NOISE_STREAM

KEY = jax.random.key(3)
CLEAN = jax.random.uniform(jax.random.key(0), (6, 8, 8, 3))
LIGHT = (0.02, 0.1)


def dark(numbers: list[int], clean: jax.Array = CLEAN) -> np.ndarray:
    part = jax.jit(
        lambda numbers, clean: degrade(KEY, numbers, clean, sigma=0.1, blind=False, low_light=LIGHT)
    )(jnp.asarray(numbers), clean)
    np.testing.assert_array_equal(part.clean, clean)
    assert part.sigma == 0
    return np.asarray(part.noisy)


def test_each_patch_gets_its_own_light_and_its_sensors_noise() -> None:
    def key(stream: int, number: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(KEY, stream), number)

    for number, found in zip(range(7, 13), dark(list(range(7, 13))), strict=True):
        least, largest = np.log(LIGHT)
        exposure = np.exp(
            least + (largest - least) * jax.random.uniform(key(EXPOSURE_STREAM, number))
        )
        assert LIGHT[0] <= exposure <= LIGHT[1]
        expected = degradations.low_light(
            key(NOISE_STREAM, number), CLEAN[number - 7], exposure=exposure
        )
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_light_depends_on_a_samples_number_alone() -> None:
    together = dark([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(
        np.concatenate([dark([0, 1], CLEAN[:2]), dark([2, 3, 4, 5], CLEAN[2:])]), together
    )
    assert np.abs(dark([6, 7, 8, 9, 10, 11]) - together).max() > 0.01  # the next batch


def test_every_share_of_light_is_as_likely_by_its_logarithm() -> None:
    flat = jnp.full((2000, 2, 2, 3), 0.5)
    brightness = dark(list(range(2000)), flat).mean(axis=(1, 2, 3))
    middle = float(
        degradations.low_light(
            KEY, jnp.full((64, 64, 3), 0.5), exposure=float(np.sqrt(LIGHT[0] * LIGHT[1]))
        ).mean()
    )
    assert abs(np.mean(brightness < middle) - 0.5) < 0.04  # half lies below the geometric middle


def test_pairs_pass_untouched() -> None:
    part = degrade(
        KEY, jnp.arange(6), Pair(CLEAN / 2, CLEAN), sigma=0.1, blind=False, low_light=LIGHT
    )
    np.testing.assert_array_equal(part.noisy, CLEAN / 2)


@pytest.fixture
def source() -> Source:
    images = [
        np.random.default_rng(i).integers(0, 256, (12, 10 + i, 3), dtype=np.uint8) for i in range(3)
    ]
    return make_source(("one", "two", "sub/dr\udcffei"), images)


def test_photographs_are_tested_dark_and_always_alike(source: Source) -> None:
    splits = Splits(source, source.take([2]), source)
    found = darken_splits(splits, LIGHT)
    assert darken_splits(splits, None) is splits
    assert found.train is source  # the step darkens it
    assert (
        found.test.inputs is not None
        and found.validation is not None
        and found.validation.inputs is not None
    )
    # By name, not by place
    np.testing.assert_array_equal(found.test.inputs[2], found.validation.inputs[0])
    for i, clean in enumerate(source.images):
        given = found.test.inputs[i]
        assert (given.shape, given.dtype) == (clean.shape, np.uint16)
        assert given.mean() / 65535 < 0.6 * clean.mean() / 255
        np.testing.assert_array_equal(found.test.inputs[i], given)
    assert found.test.entries[0].input_bits == 16
    assert darken_splits(found, (0.5, 0.5)).test is found.test  # pairs already


def test_one_share_of_light_is_that_exposure() -> None:
    flat = make_source(("flat",), [np.full((32, 32, 3), 128, np.uint8)])
    found = darken_splits(Splits(flat, None, flat), (0.25, 0.25)).test.inputs
    assert found is not None
    expected = degradations.low_light(KEY, jnp.full((32, 32, 3), 128 / 255), exposure=0.25)
    assert abs(found[0].mean() / 65535 - float(expected.mean())) < 2e-3


def test_a_run_in_low_light_learns_and_resumes_bit_for_bit(
    tiny_flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "photographs", tmp_path / "run"
    folder.mkdir()
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        write_image(folder / f"{i}.png", pixels)
    flags = [
        *tiny_flags,
        f"--data=folder:{folder}",
        "--low-light",
        "0.02",
        "0.1",
        "--steps=4",
        "--checkpoint-every=2",
    ]
    assert main(["fit", *flags, f"--out={run}"]) == 0
    printed = capsys.readouterr().out
    # Of the run, and over its scores
    assert printed.count("low light (0.02 to 0.1 of the full light)") == 2
    with (run / "evaluation.csv").open() as file:
        scores = {row["method"]: float(row["psnr"]) for row in csv.DictReader(file)}
    assert scores["noisy"] < 12  # dark

    whole = (run / "evaluation.csv").read_text()
    for path in (run / "checkpoints").glob("4*"):
        shutil.rmtree(path)
    assert main(["fit", "--resume", str(run)]) == 0
    assert "resuming from step 2" in capsys.readouterr().out
    assert (run / "evaluation.csv").read_text() == whole


def described(source: Source, **options: Any) -> str:
    return describe_degradation(
        source, **({"sigma": 25.0, "blind": False, "low_light": None} | options)
    )


def test_how_photographs_are_degraded_is_said_in_words(source: Source) -> None:
    assert described(source) == "sigma 25"
    assert described(source, sigma=55, blind=True) == (
        "sigma 55 (blind: trained on all levels from 0 to 55)"
    )
    dark = darken_splits(Splits(source, None, source), LIGHT).test
    for photographs in (source, dark):
        words = described(photographs, low_light=LIGHT)
        assert words == "low light (0.02 to 0.1 of the full light)"
    pairs = dataclasses.replace(source, inputs=source.images)
    assert described(pairs, blind=True) == "degraded in reality"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--low-light", "0.02"], "needs two numbers, such as 0.02 0.1; got 0.02"),
        (["--low-light", "--blind"], "needs two numbers, such as 0.02 0.1; got none"),
        (["--profile", "1", "2", "3"], "needs two numbers, such as 100 110; got 1 2 3"),
        (["--low-light", "0", "0.1"], "above 0 and at most 1"),
        (["--low-light", "0.2", "0.1"], "above 0 and at most 1"),
        (["--low-light", "0.1", "2"], "above 0 and at most 1"),
        (["--low-light", "0.1", "0.2", "--blind"], "leave out --blind"),
        (
            ["--low-light", "0.1", "0.2", "--model=drunet"],
            "does not have a single level, but drunet needs or predicts one.",
        ),
        (
            ["--low-light", "0.1", "0.2", "--model=buifd", "--level-weight=1"],
            "leave out --level-weight",
        ),
    ],
)
def test_what_low_light_cannot_be_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "smoke", *flags]) == 2
    assert message in capsys.readouterr().err
