"""Losses of (predictions, targets): each gives one scalar, lower is better."""

from lumloss_jax.losses._composition import ComposedLoss, make_loss, weighted_sum
from lumloss_jax.losses._luminance import LuminanceL1Terms, luminance_l1_loss, luminance_l1_terms
from lumloss_jax.losses._regression import charbonnier_loss, huber_loss, l1_loss, mse_loss
from lumloss_jax.losses._spec import LossSpec, LossTerm
from lumloss_jax.losses._spec_parser import parse_loss

__all__ = [
    "ComposedLoss",
    "LossSpec",
    "LossTerm",
    "LuminanceL1Terms",
    "charbonnier_loss",
    "huber_loss",
    "l1_loss",
    "luminance_l1_loss",
    "luminance_l1_terms",
    "make_loss",
    "mse_loss",
    "parse_loss",
    "weighted_sum",
]
