"""Decides from validation curves whether networks had converged when their training ended.

If they had not, the report of a comparison says so first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Rise of validation PSNR in the last quarter of the training, or from one length to the next
STILL_LEARNING_DB = 0.05


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


def rises_between(shorter: Sequence[Curve], longer: Sequence[Curve]) -> dict[str, float]:
    """How much higher each loss's validation PSNR ends after a longer training run.

    Each run has a full schedule of its own. The rise is the mean over seeds, in dB.
    """
    ends = [_ends(shorter), _ends(longer)]
    return {loss: float(ends[1][loss] - ends[0][loss]) for loss in ends[1] if loss in ends[0]}


def lengths_warning(rises: Mapping[str, float], shorter: int, longer: int) -> str:
    """A sentence if the training had not converged by the longer of two lengths; otherwise "".

    Args:
      rises: what :func:`rises_between` returned.
      shorter: number of updates of the shorter training.
      longer: number of updates of the longer one.

    Returns:
      The sentence, with a space at its end, so that a headline can follow.
    """
    if not rises:
        return (
            "Perhaps early training only: there was no validation that would compare training for "
            f"{shorter:,} updates with training for {longer:,}. "
        )
    loss = max(rises, key=lambda name: abs(rises[name]))
    if abs(rises[loss]) < STILL_LEARNING_DB:
        return ""
    return (
        f"Early training only: from {shorter:,} to {longer:,} updates, each with a full schedule, "
        f"the validation PSNR still changed by {rises[loss]:+.2f} dB with {loss}. "
    )


def _ends(curves: Sequence[Curve]) -> dict[str, float]:
    """The last validation PSNR of each loss, as the mean over its seeds."""
    found: dict[str, list[float]] = {}
    for curve in curves:
        if curve.psnr:
            found.setdefault(curve.loss, []).append(curve.psnr[-1])
    return {loss: float(np.mean(values)) for loss, values in found.items()}
