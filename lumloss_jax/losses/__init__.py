"""Losses of (predictions, targets): each gives one scalar, lower is better."""

from lumloss_jax.losses._luminance import LuminanceL1Terms, luminance_l1_loss, luminance_l1_terms

__all__ = [
    "LuminanceL1Terms",
    "luminance_l1_loss",
    "luminance_l1_terms",
]
