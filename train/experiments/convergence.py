"""Whether networks had learned when their training ended, by their validation: who had not is not judged as if so."""

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
    """How much validation PSNR rose after three quarters of the training; NaN where it was not looked at by then."""
    before = [
        psnr
        for step, psnr in zip(curve.steps, curve.psnr, strict=True)
        if step <= 0.75 * curve.steps[-1]
    ]
    return curve.psnr[-1] - before[-1] if before else math.nan


def caution(curves: Sequence[Curve]) -> str:
    """What has to be said first of networks that were, or may have been, still learning; nothing of others."""
    gains = list(map(gain_of_last_quarter, curves))
    if any(gain >= STILL_LEARNING_DB for gain in gains):  # of NaN that is False
        return "Early training only: the networks were still learning. "
    if any(map(math.isnan, gains)):
        return (
            "Early training, as far as is known: nobody validated before the last quarter of it. "
        )
    return ""
