"""Adversarial losses, computed from a discriminator's scores of restored and real images."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName

KINDS = ("non_saturating", "hinge", "least_squares", "relativistic_average")


def adversarial_generator_loss(
    fake_scores: ArrayLike,
    real_scores: ArrayLike | None = None,
    *,
    kind: str = "non_saturating",
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Adversarial loss of the restoring network: it is low if images are taken for real ones.

    With f the scores of restored images, r the scores of real ones, s(x) = log(1 + e^x), and E the
    mean:

    .. math::
        \begin{aligned}
        \text{non-saturating} &: E\, s(-f) \\
        \text{hinge} &: -E\, f \\
        \text{least squares} &: \tfrac{1}{2} E\, (f - 1)^2 \\
        \text{relativistic average} &: E\, s(-(f - E r)) + E\, s(r - E f)
        \end{aligned}

    Scores are logits, so the discriminator must end without a sigmoid. To hold its parameters
    fixed, differentiate with respect to the generator's parameters only.

    Args:
      fake_scores: float array ``[N, ...]``, the discriminator's scores of the restored images, one
        per image or per patch; or ``[]``, one score, for vmap.
      real_scores: scores of the real images, of the same shape; required for the relativistic
        average, and not accepted otherwise.
      kind: one of the four losses above: ``"non_saturating"``, ``"hinge"``, ``"least_squares"``,
        ``"relativistic_average"``.
      weights: one weight per image, ``[N]``; bool, integer or float, 0 or more. Means become
        weighted means. Where it is 0, the scores are not read. If all weights are 0, the loss and
        its gradient are 0. Weights per pixel are not possible, because a score depends on many
        pixels.
      axis_name: mapped axis or axes (pmap, shard_map) over which all means are taken, including the
        means in the relativistic average, which gives the value over all shards.

    Returns:
      The loss, shape (), lower is better; 0 or more, except for hinge, which can be negative.
      float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for scores that are not floats of the same shape, an unknown kind,
        real scores that are missing or would be ignored, or weights that are not one per image.

    References:
      Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, arXiv:1406.2661
      (non-saturating). Lim and Ye, "Geometric GAN", 2017, arXiv:1705.02894 (hinge). Mao et al.,
      "Least squares generative adversarial networks", ICCV 2017, arXiv:1611.04076.
      Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019, arXiv:1807.00734; ESRGAN,
      arXiv:1809.00219.

    Example:
      >>> import jax.numpy as jnp
      >>> undecided = jnp.zeros((4, 1))
      >>> print(f"{adversarial_generator_loss(undecided):.4f}")  # log 2
      0.6931
      >>> print(f"{adversarial_generator_loss(undecided, kind='least_squares'):.4f}")
      0.5000
    """
    _checks.check_option("kind", kind, KINDS)
    if (real_scores is None) == (kind == "relativistic_average"):
        remedy = "give real_scores" if real_scores is None else "leave real_scores out"
        raise ValueError(
            f"kind={kind!r} compares "
            f"{'both scores' if real_scores is None else 'fake scores only'}: {remedy}."
        )
    if real_scores is not None:
        fake, real, weights = _check_both_scores(fake_scores, real_scores, weights)
        return _relativistic(fake, real, weights, axis_name)
    fake = _check_scores("fake_scores", fake_scores)
    fake, weights = _weigh(fake, weights)
    penalty = {
        "non_saturating": lambda scores: jax.nn.softplus(-scores),
        "hinge": lambda scores: -scores,
        "least_squares": lambda scores: 0.5 * jnp.square(scores - 1),
    }[kind]
    return _means.weighted_mean(penalty(fake), weights, axis_name)


def adversarial_discriminator_loss(
    fake_scores: ArrayLike,
    real_scores: ArrayLike,
    *,
    kind: str = "non_saturating",
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Adversarial loss of the discriminator: it is low if restored and real images are told apart.

    With f the scores of restored images, r the scores of real ones, s(x) = log(1 + e^x), and E the
    mean:

    .. math::
        \begin{aligned}
        \text{non-saturating} &: E\, s(f) + E\, s(-r) \\
        \text{hinge} &: E \max(0, 1 + f) + E \max(0, 1 - r) \\
        \text{least squares} &: \tfrac{1}{2} E\, f^2 + \tfrac{1}{2} E\, (r - 1)^2 \\
        \text{relativistic average} &: E\, s(f - E r) + E\, s(-(r - E f))
        \end{aligned}

    No gradient should flow back to the generator: score ``jax.lax.stop_gradient(restored)``, or
    differentiate with respect to the discriminator's parameters only.

    Args:
      fake_scores: float array ``[N, ...]``, scores (logits) of the restored images, one per image
        or per patch; or ``[]``, one score, for vmap.
      real_scores: float array of the same shape, scores of the real images.
      kind: see :func:`adversarial_generator_loss`; use the same kind for both networks.
      weights: one weight per image, ``[N]``, for the restored and the real image alike; see
        :func:`adversarial_generator_loss`.
      axis_name: mapped axis or axes to take means over, see :func:`adversarial_generator_loss`.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`adversarial_generator_loss`.

    References:
      See :func:`adversarial_generator_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> undecided = jnp.zeros((4, 1))
      >>> print(f"{adversarial_discriminator_loss(undecided, undecided):.4f}")  # 2 log 2
      1.3863
      >>> surer = undecided - 1, undecided + 1
      >>> print(f"{adversarial_discriminator_loss(*surer, kind='hinge'):.4f}")
      0.0000
    """
    _checks.check_option("kind", kind, KINDS)
    fake, real, weights = _check_both_scores(fake_scores, real_scores, weights)
    if kind == "relativistic_average":
        # The generator's loss with the roles swapped
        return _relativistic(real, fake, weights, axis_name)
    on_fake, on_real = {
        "non_saturating": (jax.nn.softplus, lambda scores: jax.nn.softplus(-scores)),
        "hinge": (lambda scores: jax.nn.relu(1 + scores), lambda scores: jax.nn.relu(1 - scores)),
        "least_squares": (
            lambda scores: 0.5 * jnp.square(scores),
            lambda scores: 0.5 * jnp.square(scores - 1),
        ),
    }[kind]
    mean = _means.weighted_mean
    return mean(on_fake(fake), weights, axis_name) + mean(on_real(real), weights, axis_name)


def _relativistic(
    winner: jax.Array, loser: jax.Array, weights: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    """Low if winners' scores are above the losers' mean, and losers' below the winners' mean."""
    mean = _means.weighted_mean
    above = winner - mean(loser, weights, axis_name)
    below = loser - mean(winner, weights, axis_name)
    return mean(jax.nn.softplus(-above), weights, axis_name) + mean(
        jax.nn.softplus(below), weights, axis_name
    )


def _check_both_scores(
    fake_scores: ArrayLike, real_scores: ArrayLike, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Both scores ``[N, K]`` in the same dtype, K scores per image, and weights ``[N, 1]``."""
    fake, real = (
        _check_scores("fake_scores", fake_scores),
        _check_scores("real_scores", real_scores),
    )
    if fake.shape != real.shape:
        raise ValueError(
            f"fake_scores have shape {fake.shape} and real_scores {real.shape}: score the same "
            "number of real and restored images with the same discriminator."
        )
    dtype = _means.accumulation_dtype(fake, real)
    fake, checked_weights = _weigh(fake.astype(dtype), weights)
    real, _ = _weigh(real.astype(dtype), weights)
    chex.assert_equal_shape([fake, real])
    return fake, real, checked_weights


def _check_scores(name: str, scores: ArrayLike) -> jax.Array:
    scores = jnp.asarray(scores)
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise ValueError(
            f"{name} have dtype {scores.dtype}, but they must be logits: floats, as the "
            "discriminator returns them."
        )
    if any(isinstance(size, int) and size == 0 for size in scores.shape):
        raise ValueError(
            f"{name} have shape {scores.shape}, which holds no score: every size must be at least "
            "1."
        )
    return scores.astype(_means.accumulation_dtype(scores))


def _weigh(scores: jax.Array, weights: ArrayLike | None) -> tuple[jax.Array, jax.Array | None]:
    """Scores as ``[N, K]``, 0 where the weight is 0, and the weights as ``[N, 1]``."""
    images = scores.shape[:1]
    scores = scores.reshape(*(images or (1,)), -1)
    if weights is None:
        return scores, None
    if jnp.shape(weights) != images:
        raise ValueError(
            f"weights have shape {jnp.shape(weights)}, but there must be one per image, {images}: "
            "a score depends on many pixels, so weights per pixel or per score are not possible."
        )
    weights = _checks.check_mask(jnp.reshape(jnp.asarray(weights), (-1,)), scores)
    return _means.hide_masked(scores, weights), weights
