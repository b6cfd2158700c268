"""Losses of (predictions, targets): each returns one scalar, and lower is better."""

from lumloss_jax.losses._adversarial import (
    adversarial_discriminator_loss,
    adversarial_generator_loss,
)
from lumloss_jax.losses._aggregation import GradientAggregation, cagrad, mgda, pcgrad, upgrad
from lumloss_jax.losses._balancing_dwa import DwaState, dwa_init, dwa_update, dwa_weights
from lumloss_jax.losses._balancing_gradnorm import (
    GradNormState,
    gradient_norms,
    gradnorm_init,
    gradnorm_update,
)
from lumloss_jax.losses._balancing_uncertainty import (
    uncertainty_init,
    uncertainty_loss,
    uncertainty_weights,
)
from lumloss_jax.losses._composition import ComposedLoss, make_loss, weighted_sum
from lumloss_jax.losses._composition_hvi import hvi_loss
from lumloss_jax.losses._encoded import encoded
from lumloss_jax.losses._frequency import frequency_loss
from lumloss_jax.losses._gradient import gradient_loss
from lumloss_jax.losses._gt_mean import gt_mean
from lumloss_jax.losses._luminance import LuminanceL1Terms, luminance_l1_loss, luminance_l1_terms
from lumloss_jax.losses._perceptual import perceptual_loss
from lumloss_jax.losses._published import cidnet_loss, laplacian_loss, psnr_loss
from lumloss_jax.losses._regression import charbonnier_loss, huber_loss, l1_loss, mse_loss
from lumloss_jax.losses._spec import LossSpec, LossTerm
from lumloss_jax.losses._spec_parser import parse_loss
from lumloss_jax.losses._structural import ms_ssim_loss, ssim_loss
from lumloss_jax.losses._visual_metrics import (
    ciede2000_loss,
    flip_loss,
    haarpsi_loss,
    nlpd_loss,
)

__all__ = [
    "ComposedLoss",
    "DwaState",
    "GradNormState",
    "GradientAggregation",
    "LossSpec",
    "LossTerm",
    "LuminanceL1Terms",
    "adversarial_discriminator_loss",
    "adversarial_generator_loss",
    "cagrad",
    "charbonnier_loss",
    "cidnet_loss",
    "ciede2000_loss",
    "dwa_init",
    "dwa_update",
    "dwa_weights",
    "encoded",
    "flip_loss",
    "frequency_loss",
    "gradient_loss",
    "gradient_norms",
    "gradnorm_init",
    "gradnorm_update",
    "gt_mean",
    "haarpsi_loss",
    "huber_loss",
    "hvi_loss",
    "l1_loss",
    "laplacian_loss",
    "luminance_l1_loss",
    "luminance_l1_terms",
    "make_loss",
    "mgda",
    "ms_ssim_loss",
    "mse_loss",
    "nlpd_loss",
    "parse_loss",
    "pcgrad",
    "perceptual_loss",
    "psnr_loss",
    "ssim_loss",
    "uncertainty_init",
    "uncertainty_loss",
    "uncertainty_weights",
    "upgrad",
    "weighted_sum",
]
