"""Losses made from metrics: each has the mean value of its metric over the images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax import losses, metrics
from tests.slow_cases import slow_for

# The loss, its metric, and the loss that belongs to the mean of the metric
MADE_FROM = {
    "ciede2000": (
        functools.partial(losses.ciede2000_loss, lightness_factor=2.0, hue_factor=0.8),
        functools.partial(metrics.ciede2000, lightness_factor=2.0, hue_factor=0.8),
        lambda mean: mean / 100,
    ),
    "flip": (
        functools.partial(losses.flip_loss, pixels_per_degree=8, floor=0.0),
        functools.partial(metrics.flip, pixels_per_degree=8),
        lambda mean: mean,
    ),
    "haarpsi": (losses.haarpsi_loss, metrics.haarpsi, lambda mean: 1 - mean),
    "nlpd": (losses.nlpd_loss, metrics.nlpd, lambda mean: mean),
}


@slow_for("name", MADE_FROM, ["flip", "nlpd"])
def test_the_value_is_that_of_the_metric(name):
    loss, metric, as_loss = MADE_FROM[name]
    random = np.random.default_rng(0)
    targets = random.uniform(0.2, 0.8, (3, 34, 36, 3)).astype(np.float32)
    noise = random.normal(size=targets.shape).astype(np.float32)
    predictions = targets + noise * np.float32([0.01, 0.05, 0.2]).reshape(3, 1, 1, 1)
    value, scores = jax.jit(lambda p, t: (loss(p, t), metric(p, t)))(predictions, targets)
    assert scores.shape == (3,) and len(set(scores.tolist())) == 3
    np.testing.assert_allclose(value, as_loss(jnp.mean(scores)), rtol=2e-6)
