"""Killed, terminated and interrupted runs end with the same bits as an undisturbed one."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from train.monitoring.tensorboard import records


def _check(
    launches: Any, strikes: list[tuple[int, int, int]], steps: int, ends: list[int], *more: str
) -> str:
    """Runs a fit without a signal, and one with a signal some milliseconds after a logged step.

    Args:
      launches: of conftest.py.
      strikes: signal, and the first and the last of the steps that one is drawn from.
      steps: of the whole run.
      ends: exit statuses of the struck run's processes, one after the other.
      *more: flags.

    Returns:
      What the struck one printed, once all that it leaves is known to be what the other leaves.
    """
    flags = [
        "--model=dncnn(depth=3, features=2)",
        "--loss=l1 + mse",
        "--ema=0.9",
        "--patch-size=8",
        "--batch-size=2",
        f"--steps={steps}",
        "--checkpoint-every=6",
        "--log-every=1",
        "--devices=1",
        f"--data={launches.photographs}",
        f"--test-data={launches.photographs}",
        *more,
    ]
    struck = [
        (0, number, random.randint(first, last), random.uniform(0, 0.02))
        for number, first, last in strikes
    ]
    tasks = [launches.alone(f"whole{steps}", flags)]
    tasks += [launches.alone(f"parts{steps}", flags, strike=strike) for strike in struck]
    tasks += [launches.alone(f"parts{steps}", flags)]
    whole, parts = launches.folder / f"whole{steps}", launches.folder / f"parts{steps}"
    ended, said = launches.run(*tasks, seconds=1200), launches.said(parts.name, 0)
    assert "Traceback" not in said
    assert ended == [[0], *([end] for end in ends)], said
    assert launches.digests(parts.name, steps) == launches.digests(whole.name, steps)
    assert {p.name for p in (parts / "checkpoints").iterdir()} == {
        p.name for p in (whole / "checkpoints").iterdir()
    }
    learned = launches.metrics(parts.name)
    assert list(learned) == list(range(1, steps + 1))
    assert learned == launches.metrics(whole.name)
    points = _points(parts)
    assert points == _points(whole)
    assert set(points.values()) == {1}
    return said


def _points(folder: Path) -> Counter[tuple[str, int]]:
    events = [event for path in (folder / "tensorboard").iterdir() for _, event in records(path)]
    return Counter((value.tag, event.step) for event in events for value in event.summary.value)


@pytest.mark.slow
def test_a_killed_or_interrupted_run_resumes_bit_for_bit(launches: Any) -> None:
    strikes = [(9, 8, 20), (9, 28, 40), (15, 44, 48), (2, 60, 64)]
    printed = _check(
        launches, strikes, 90, [-9, -9, 143, 130, 0], "--balance=gradnorm", "--validation-data=none"
    )
    assert printed.count("stopped after step") == 2
    assert printed.count(f"python -m train fit --resume {launches.folder / 'parts90'}") == 2
    assert "resuming from step" in printed


@pytest.mark.slow
def test_gradients_that_are_combined_in_random_orders_resume_bit_for_bit_too(launches: Any) -> None:
    """The orders of pcgrad matter for three terms."""
    more = ["--loss=l1 + mse + charbonnier", "--balance=pcgrad", "--validation-data=none"]
    _check(launches, [(9, 8, 20), (15, 24, 30)], 40, [-9, 143, 0], *more)


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_with_the_same_bits(launches: Any) -> None:
    strikes = [(9, 40 * i + 1, 40 * i + 30) for i in range(20)]
    _check(
        launches,
        strikes,
        860,
        [-9] * 20 + [0],
        "--balance=gradnorm",
        f"--validation-data={launches.photographs}",
        "--validate-every=12",
    )
