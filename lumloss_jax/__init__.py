"""Luminance L1 loss, image-restoration losses and metrics in JAX.

Importing this package is light: it imports jax and chex only. The networks are in
``lumloss_jax.models``, which needs Flax (in a checkout, ``pip install '.[models]'``).
"""

from lumloss_jax import color, degradations, losses, metrics
from lumloss_jax.losses import LuminanceL1Terms, luminance_l1_loss, luminance_l1_terms

__version__ = "0.1.0"

__all__ = [
    "LuminanceL1Terms",
    "color",
    "degradations",
    "losses",
    "luminance_l1_loss",
    "luminance_l1_terms",
    "metrics",
]
