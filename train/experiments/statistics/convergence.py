"""Decides from validation curves whether networks had converged when their training ended.

The report of a comparison says so first if they had not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STILL_LEARNING_DB = 0.05  # of validation PSNR, risen in the last quarter of a training


@dataclass(frozen=True)
class Curve:
    """How validation went while one network was trained."""

    loss: str
    seed: int
    steps: Sequence[int]
    psnr: Sequence[float]


def gain_of_last_quarter(curve: Curve) -> float:
    """The rise of validation PSNR after three quarters of the training.

    NaN if there was no validation before that.
    """
    before = [
        psnr
        for step, psnr in zip(curve.steps, curve.psnr, strict=True)
        if step <= 0.75 * curve.steps[-1]
    ]
    return curve.psnr[-1] - before[-1] if before else math.nan


def convergence_warning(curves: Sequence[Curve]) -> str:
    """A sentence about networks that were, or may have been, still learning; "" for others."""
    gains = list(map(gain_of_last_quarter, curves))
    if any(gain >= STILL_LEARNING_DB for gain in gains):  # of NaN that is False
        return "Early training only: the networks were still learning. "
    if any(map(math.isnan, gains)):
        return (
            "Early training, as far as is known: nobody validated before the last quarter of it. "
        )
    return ""
