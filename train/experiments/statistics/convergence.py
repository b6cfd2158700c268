"""Decides from validation curves whether networks had converged when their training ended.

If they had not, the report of a comparison says so first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STILL_LEARNING_DB = 0.05  # rise of validation PSNR in the last quarter of the training


@dataclass(frozen=True)
class Curve:
    """The validation PSNR in dB of one network during its training."""

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
    """A sentence if networks were still learning, or may have been; otherwise ""."""
    gains = list(map(gain_of_last_quarter, curves))
    if any(gain >= STILL_LEARNING_DB for gain in gains):  # False for NaN
        return "Early training only: the networks were still learning. "
    if any(map(math.isnan, gains)):
        return (
            "Perhaps early training only: there was no validation before the last quarter of the "
            "training, so it is unknown whether the networks were still learning. "
        )
    return ""
