"""Chooses the predictor that fits a network."""

from typing import Any

from lumloss_jax.models import CIDNet, NAFNet, Retinexformer
from train.inference.attending import AttendingPredictor
from train.inference.layered import LayeredPredictor
from train.inference.predict import Predictor


def predictor_for(
    model: Any,
    params: Any,
    batch_stats: Any,
    *,
    tile: int | None = None,
    self_ensemble: bool = False,
    fast: bool = False,
    exact: bool = False,
) -> Predictor:
    """Makes a trained network ready to restore.

    Args:
      model: the network, a Flax module.
      params: its parameters.
      batch_stats: its running statistics; {} without batch norm.
      tile: side of a tile in pixels. None: one that fits 1.5 GB of memory.
      self_ensemble: average over the eight flips and rotations of the input, which takes eight
        times as long.
      fast: if the network attends to the whole photograph, let it attend to a reduced one instead.
      exact: let NAFNet compute its means over the whole photograph, not over windows.

    Returns:
      A predictor.

    Raises:
      InputError: if a tile is smaller than the network's receptive field.
    """
    if isinstance(model, NAFNet | CIDNet):
        return LayeredPredictor(
            model, params, batch_stats, tile=tile, self_ensemble=self_ensemble, exact=exact
        )
    if isinstance(model, Retinexformer):
        return AttendingPredictor(
            model, params, batch_stats, tile=tile, self_ensemble=self_ensemble, fast=fast
        )
    return Predictor(model, params, batch_stats, tile=tile, self_ensemble=self_ensemble)
