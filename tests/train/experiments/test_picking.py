"""Settings are picked for each loss, diverged networks are left out, and networks get levels."""

import dataclasses
import types

import numpy as np
import pytest
from rich.console import Console

from train.config import DataConfig, FitConfig
from train.data.sources import make_source
from train.errors import InputError
from train.experiments.compare import noise_warnings
from train.experiments.compare_config import CompareConfig
from train.experiments.networks import members, starts
from train.experiments.networks.members import Member
from train.experiments.picking import (
    choice_rows,
    edge_warnings,
    score_seeds,
    seed_warnings,
    try_settings,
)
from train.experiments.statistics.comparison_table import ComparisonRow


def test_the_comparison_ends_only_if_every_setting_diverges():
    """If a seed that was not used for picking diverges, all seeds use the next best setting."""
    config = CompareConfig(losses=("l1", "mse"), seeds=2)
    good, better, clipped = (1e-3, None), (2e-3, None), (2e-3, 1.0)
    tried = {"l1": {good: 30.0, better: 31.0, clipped: 29.0}, "mse": {good: 30.0}}

    class Pretended:
        """Members that are trained at once; some diverge."""

        bad = {Member("l1", 1, *better)}

        def ensure_all_trained(self, plan):
            """Nothing to do."""

        def train_and_score(self, member, *_, **options):
            """Something, or nothing if it diverged."""
            return [] if member in self.bad else [member.name]

    scored, found = score_seeds(config, Pretended(), tried, None)
    assert tried["l1"][better] == 31.0  # the argument stays as it was
    assert {(m.loss, m.learning_rate, m.clip_norm) for m in scored} == {
        ("l1", *good),
        ("mse", *good),
    }
    assert [row["picked"] for row in choice_rows("l1", found["l1"], "psnr")] == ["yes", "", ""]
    assert "diverged" in choice_rows("l1", found["l1"], "psnr")[1].values()
    Pretended.bad = {Member("mse", 0, *good)}
    with pytest.raises(
        InputError,
        match=r"mse diverged at every learning rate that was tried \(0.001\). Use lower",
    ):
        score_seeds(config, Pretended(), tried, None)


def test_settings_are_picked_by_the_primary_metric_at_its_levels():
    """They are picked by CIEDE2000 at sigma 50; by sigma 15, or by PSNR, the other would win."""
    sigmas = {"sigmas": (15.0, 50.0), "primary_sigmas": (50.0,), "primary": "ciede2000"}
    config = CompareConfig(
        losses=("l1", "mse"), learning_rates=(1e-3, 2e-3), clip_norms=(), **sigmas
    )
    error = {(1e-3, 15.0): 5.0, (1e-3, 50.0): 8.0, (2e-3, 15.0): 9.0, (2e-3, 50.0): 7.0}

    class Pretended:
        """Members that are trained at once."""

        def ensure_all_trained(self, plan):
            """Nothing to do."""

        def train_and_score(self, member, *_, **options):
            """One photograph at both levels."""
            rate = member.learning_rate
            assert options["metrics"] == ("psnr", "ciede2000")
            return [
                ComparisonRow(
                    member.loss,
                    0,
                    sigma,
                    "a",
                    {"psnr": 1 / rate, "ciede2000": error[rate, sigma]},
                )
                for sigma in (15.0, 50.0)
            ]

    tried = try_settings(config, Pretended(), make_source((), ()))
    assert tried["l1"] == {(1e-3, None): -8.0, (2e-3, None): -7.0}
    assert (
        choice_rows("l1", tried["l1"], "ciede2000")[1]["CIEDE2000 on validation photographs"]
        == "7.0000"
    )


def test_a_note_says_that_the_first_seed_was_used_for_picking():
    config = CompareConfig(fit=FitConfig(seed=7))
    (note,) = seed_warnings(config)
    assert note.startswith("settings were picked with seed 7, which is also one of the seeds")
    # There is nothing to pick.
    assert not seed_warnings(dataclasses.replace(config, learning_rates=(1e-3,), clip_norms=()))


def test_a_note_says_that_a_rate_lies_at_the_edge_of_the_grid():
    config = CompareConfig(fit=FitConfig(), learning_rates=(1e-3, 2e-3, 4e-3))
    tried = {
        loss: {(rate, None): float(rate == best) for rate in config.rates}
        for loss, best in (("l1", 4e-3), ("mse", 2e-3), ("huber", 4e-3))
    }
    (note,) = edge_warnings(config, tried)
    assert note.startswith("l1, huber: the learning rate that was picked, 0.004, lies at the edge")
    # Of two rates, each is at an edge.
    both = edge_warnings(dataclasses.replace(config, learning_rates=(2e-3, 4e-3)), tried)
    assert (
        "l1, huber: the learning rate that was picked, 0.004, is the higher of only two." in both[0]
    )
    assert "mse: the learning rate that was picked, 0.002, is the lower of only two." in both[1]
    # There is nothing to pick.
    assert not edge_warnings(dataclasses.replace(config, learning_rates=(4e-3,)), tried)


def test_networks_get_the_noise_level_of_each_photograph(tmp_path, monkeypatch):
    told = []

    class Told:
        """A network that restores nothing."""

        def __init__(self, *_):
            pass

        def restore(self, image, *, sigma):
            """Keeps the level that it got."""
            told.append(sigma * 255)
            return image

    network = types.SimpleNamespace(model=None, params=None, batch_stats=None)
    monkeypatch.setattr(members, "load_network", lambda folder: network)
    monkeypatch.setattr(starts, "predictor_for", Told)
    restore = members.Members(tmp_path, FitConfig(), Console()).load_or_retrain(
        Member("l1", 0, 1e-3, None)
    )
    for sigma in (5.0, 50.0, None):
        restore(np.zeros((2, 2, 3)), sigma)
    assert told == pytest.approx([5, 50, 25])  # None, for real degradations: as in training


@pytest.mark.parametrize(
    ("sigmas", "blind", "words"),
    [
        ((25.0,), False, None),
        (
            (5.0, 25.0),
            False,
            "trained at sigma 25 are scored at sigma 5, which they never meet in training. Use "
            "--blind --sigma 25",
        ),
        ((5.0, 25.0), True, None),
        (
            (5.0, 50.0),
            True,
            "trained up to sigma 25 are scored at sigma 50, which they never meet in training. Use "
            "--blind --sigma 50",
        ),
    ],
)
def test_noise_that_was_not_trained_on_leads_to_a_warning(sigmas, blind, words, splits):
    config = CompareConfig(sigmas=sigmas, fit=FitConfig(data=DataConfig(blind=blind)))
    found = noise_warnings(config, splits.test)
    assert (words in found[0]) if words else not found


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, ""),
        ({"sigmas": (25.0,)}, ""),  # the same as without the flag
        (
            {"sigmas": (15.0, 25.0), "primary_sigmas": (25.0,), "draws": 2},
            "--sigmas, --primary-sigmas, --draws have",
        ),
        ({"draws": 2}, "--draws has"),
    ],
)
def test_flags_of_noise_have_no_effect_on_real_degradations(options, flags, splits):
    found = noise_warnings(
        CompareConfig(**options), dataclasses.replace(splits.test, inputs=splits.test.images)
    )
    assert found == [
        f"{flags} no effect on the test photographs, which are degraded already and are scored "
        "once, as they are."
    ] * bool(flags)
