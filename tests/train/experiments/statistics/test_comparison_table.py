import csv
import dataclasses
import os

import numpy as np
import pytest
import skimage.metrics

from train.data.sources import make_source
from train.errors import InputError
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    check_complete,
    read_scores,
    score_network,
    score_table,
)
from train.files.outputs import write_rows
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import DEFAULT


def row(loss="l1", seed=0, sigma=25.0, photograph="a", value=1.0):
    return ComparisonRow(loss, seed, sigma, photograph, dict.fromkeys(DEFAULT, value))


@pytest.fixture
def photographs():
    generator = np.random.default_rng(0)
    images = tuple(generator.integers(0, 256, (16, 18, 3), np.uint8) for _ in range(2))
    return make_source(("a", "b"), images)


def test_networks_meet_the_same_noise_and_draws_are_averaged(photographs):
    seen, told = [], []

    def keep(noisy, sigma):
        seen.append(noisy)
        told.append(sigma)
        return np.clip(noisy, 0, 1)

    rows = list(
        score_network(
            keep,
            photographs,
            loss="l1",
            seed=3,
            sigmas=(15, 50),
            noise_seed=7,
            draws=2,
            metrics=("psnr",),
        )
    )
    assert [(r.photograph, r.sigma) for r in rows] == [("a", 15), ("a", 50), ("b", 15), ("b", 50)]
    assert all((r.loss, r.seed) == ("l1", 3) for r in rows)
    clean = photographs.images[0] / np.float32(255)
    np.testing.assert_array_equal(seen[1], add_fixed_noise(clean, "a", sigma=15, seed=8))
    expected = [
        skimage.metrics.peak_signal_noise_ratio(clean, np.clip(noisy, 0, 1), data_range=1)
        for noisy in seen[:2]
    ]
    assert rows[0].scores == {"psnr": pytest.approx(np.mean(expected), abs=1e-4)}
    assert rows[0].scores["psnr"] > rows[1].scores["psnr"]
    # Networks that need the level get the one of the photograph, in each draw.
    assert told == [15, 15, 50, 50] * 2


def test_pairs_are_scored_once_as_they_are(photographs):
    told = []
    pairs = dataclasses.replace(photographs, inputs=photographs.images[::-1])
    rows = list(
        score_network(
            lambda noisy, sigma: told.append(sigma) or noisy,
            pairs,
            loss="l1",
            seed=0,
            sigmas=(15, 50),
            noise_seed=0,
            draws=3,
            metrics=("psnr",),
        )
    )
    assert [(r.photograph, r.sigma) for r in rows] == [("a", 0), ("b", 0)]
    assert told == [None, None]


def test_tables_come_back_as_they_went(tmp_path):
    rows = [row(value=1 / 3), row(photograph="ß, b", sigma=50.0, seed=2)]
    write_rows(rows, tmp_path / "scores.csv")
    assert read_scores(tmp_path / "scores.csv") == rows
    (tmp_path / "scores.csv").write_text("loss,seed\nl1,0\n")
    with pytest.raises(InputError, match="its columns must be loss"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text.replace(b"0.25", b"0.2x", 1), "line 2: could not convert"),
        (lambda text: text[: text.rindex(b",")], "line 3: it does not have 12 cells"),
        (lambda text: text.replace(b"0.25", b"0.25,1", 1), "line 2: it does not have 12 cells"),
        (lambda text: text.replace(b"0.25", b"\xff", 1), "it is damaged .line"),
        (lambda text: text.replace(b"l1", b'"l1', 1), "it is damaged .line"),
        (lambda text: b"", "line 1: its columns must be loss, seed"),
        (
            lambda text: text.replace(b"0.25", b"inf", 1),
            "line 2: psnr must be a number from .*; got inf",
        ),
        (
            lambda text: text.replace(b"0.25,0.25,0.25", b"1,1,nan"),
            "line 2: ssim must be .*; got nan",
        ),
        (
            lambda text: text.replace(b"0.25\r", b"-1e300\r", 1),
            "line 2: flip must be .*; got -1e",
        ),
    ],
)
def test_a_damaged_table_is_named_and_left_alone(damage, why, tmp_path):
    path = tmp_path / "test.csv"
    write_rows([row(value=0.25), row(photograph="b")], path)
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_scores(path)
    assert path.read_bytes() == content


def test_a_table_that_lost_rows_is_refused(tmp_path):
    rows = [row(), row(photograph="b")]
    expected = [("l1", 0, 25.0, name) for name in "ba"]
    check_complete(tmp_path, rows, expected)
    for wrong in (rows[:1], [*rows, rows[0]], [row(), row(photograph="c")]):
        with pytest.raises(InputError, match="which are not the 2 rows for these photographs"):
            check_complete(tmp_path, wrong, expected)


def test_a_table_is_photographs_by_seeds_averaged_over_levels():
    rows = [
        row(photograph=name, seed=seed, sigma=sigma, value=10 * i + seed + sigma)
        for i, name in enumerate("ab")
        for seed in (0, 1)
        for sigma in (15.0, 25.0)
    ]
    np.testing.assert_array_equal(
        score_table(rows[::-1], "ssim", "l1", (15.0, 25.0)), [[20, 21], [30, 31]]
    )
    np.testing.assert_array_equal(score_table(rows, "psnr", "l1", (25.0,)), [[25, 26], [35, 36]])
    with pytest.raises(InputError, match="incomplete"):
        score_table(rows[1:], "psnr", "l1", (15.0, 25.0))
    with pytest.raises(InputError, match="incomplete"):
        score_table(rows, "psnr", "mse", (15.0,))


@pytest.mark.parametrize(
    "name", ["=1+1.png", "+a", "-a", "@a", "\ta", "\ra", "'=a", "''-a", "'a", "é=1", 'a,"b\nc']
)
def test_no_cell_is_a_formula_and_names_come_back_as_they_were(name, tmp_path):
    rows = [row(photograph=name, loss=name, value=-1.5)]
    write_rows(rows, tmp_path / "scores.csv")
    assert read_scores(tmp_path / "scores.csv") == rows
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        _, (loss, *_, photograph, value) = ([*cells[:4], cells[4]] for cells in csv.reader(file))
    assert not {loss[0], photograph[0]} & set("=+-@\t\r\n")
    assert value == "-1.5"  # numbers are numbers, below zero too


def test_a_table_without_end_is_not_read(tmp_path):
    path = tmp_path / "scores.csv"
    path.touch()
    os.truncate(path, 3_000_000_000)
    with pytest.raises(InputError, match=r"line 1: it has more than 64,000,000 bytes"):
        read_scores(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"line 1: it is not a regular file"):
        read_scores(path)
