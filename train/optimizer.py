"""The learning rate of each update, and the optimizer that turns a gradient into an update.

Runs that differ only in learning rate and clipping share one compiled step. So a schedule computes
with :class:`Rates`, which may be numbers of the program or arrays that are given to it. Both give
the same bits.

The table lists the published values of ``--schedule``. Give ``--learning-rate`` and ``--steps`` as
in the publication. Fractions are fractions of all steps.

| name | of | learning rate | optimizer, rate, steps |
|---|---|---|---|
| ``buifd`` | BUIFD's code and the first DnCNN code | / 10 after 3/5 | Adam 1e-3, 191,700 (colour) |
| ``dncnn_pytorch`` | DnCNN's code in PyTorch | / 5 after 1/6, 1/3 and 1/2 | Adam 1e-3 |
| ``dncnn_kair`` | DnCNN in KAIR | / 2 after 200 k, 400 k, 600 k, 800 k, 1 M, 2 M | Adam 1e-4 |
| ``drunet`` | DRUNet | / 2 after 100 k, 200 k, 300 k, 400 k | Adam 1e-4 |
| ``retinexformer`` | Retinexformer | half cosines to 3/2, then to 1/200 | Adam 2e-4, 150,000 |
| ``nafnet`` | NAFNet | half cosine to 1/10,000 | AdamW 1e-3, beta2 0.9, 200,000 |
| ``cidnet`` | HVI-CIDNet | 0, 1/3, 2/3, then half cosine to 1/1000 | Adam 1e-4, 1000 epochs |

HVI-CIDNet's rate is the same for all updates of an epoch, and 0 in the first. An epoch is a
thousandth of all steps here.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from train.config import OptimizerConfig

# Factor, and the shares of all steps after which it is applied.
_SHARES = {"buifd": (0.1, (3 / 5,)), "dncnn_pytorch": (0.2, (1 / 6, 1 / 3, 1 / 2))}
# Factor, and the updates at which it is applied.
_UPDATES = {
    "dncnn_kair": (0.5, (200_000, 400_000, 600_000, 800_000, 1_000_000, 2_000_000)),
    "drunet": (0.5, (100_000, 200_000, 300_000, 400_000)),
}
# The first cycle of Retinexformer has 46 of 150 thousand updates, except in one shorter
# configuration, where it has 15 of 50 thousand.
_FIRST_CYCLE = {50_000: 15_000}
# 3e-4 and 1e-6, divided by 2e-4. The first is above the rate that the cycle starts with.
_FLOORS = (1.5, 0.005)
_NAFNET_FLOOR = 1e-4  # 1e-7 divided by 1e-3
_CIDNET_FLOOR = 1e-3  # 1e-7 divided by 1e-4
_CIDNET_EPOCHS = 1000
_CIDNET_WARMUP = 3  # epochs
_COSINE_FLOOR = 0.01  # share of the learning rate at which the cosine ends


class Rates(NamedTuple):
    """The numbers of a schedule that depend on --learning-rate."""

    peak: Any  # --learning-rate
    # First value of the cosine's warm-up, less the peak. It is rounded once, so it is a number of
    # its own.
    ramp: Any


def rates_of(config: OptimizerConfig) -> Rates:
    """Returns the numbers of a run's schedule, as Python's floats."""
    # The first update, with index 0, should already change something. So the ramp starts above 0.
    rate = config.learning_rate
    return Rates(rate, rate / max(config.warmup_steps, 1) - rate)


def make_schedule(config: OptimizerConfig, *, rates: Rates | None = None) -> optax.Schedule:
    """Makes a function from the index of an update, 0 for the first, to its learning rate.

    The cosine starts when the warm-up ends. All other schedules count updates from the start of the
    run, and the warm-up scales their values, so that a published change stays at its update.

    Args:
      config: the schedule and its steps.
      rates: numbers to use instead of ``config.learning_rate``, from :func:`rates_of`.

    Returns:
      The function.
    """
    rates = rates_of(config) if rates is None else rates
    warmup, steps = config.warmup_steps, config.steps
    if config.schedule == "cosine":
        return _warmed_cosine(rates, warmup, max(steps - warmup, 1))
    after = _after_warmup(config, rates.peak)
    if warmup == 0:
        return after
    ramp = optax.linear_schedule(1 / warmup, 1, warmup)
    return lambda index: after(index) * ramp(index)


def _warmed_cosine(rates: Rates, warmup: int, steps: int) -> optax.Schedule:
    """Rises for ``warmup`` updates, and falls with half a cosine over the ``steps`` after them.

    optax.warmup_cosine_decay_schedule computes the same, but only from Python's numbers with the
    same rounding.
    """
    cosine = optax.cosine_decay_schedule(rates.peak, steps, _COSINE_FLOOR)

    def schedule(index: jax.typing.ArrayLike) -> jax.Array:
        index = jnp.asarray(index)
        left = 1 - jnp.clip(index, 0, warmup) / warmup
        return jnp.where(index < warmup, rates.ramp * left + rates.peak, cosine(index - warmup))

    return schedule if warmup else cosine


def _after_warmup(config: OptimizerConfig, rate: Any) -> optax.Schedule:
    steps = config.steps
    if config.schedule == "constant":
        return optax.constant_schedule(rate)
    if config.schedule == "retinexformer":
        return _cosine_cycles(rate, _FIRST_CYCLE.get(steps, round(steps * 46 / 150)), steps)
    if config.schedule == "nafnet":
        return lambda index: (
            rate * _half_cosine((steps - jnp.asarray(index, jnp.float32)) / steps, _NAFNET_FLOOR)
        )
    if config.schedule == "cidnet":
        return _cosine_epochs(rate, steps)
    if config.schedule == "step":
        factor, updates = config.decay_factor, config.decay_steps
    elif config.schedule in _UPDATES:
        factor, updates = _UPDATES[config.schedule]
    else:
        factor, shares = _SHARES[config.schedule]
        updates = tuple(round(steps * share) for share in shares)
    return _steps_down(rate, factor, updates)


def _steps_down(rate: Any, factor: float, updates: tuple[int, ...]) -> optax.Schedule:
    """Multiplies the rate by ``factor`` at each of ``updates``, and keeps it for all later ones.

    optax.piecewise_constant_schedule multiplies several times, which rounds differently from a
    power, and counts an update that is listed twice only once.
    """
    return lambda index: (
        rate
        * jnp.power(factor, sum(jnp.asarray(index >= update, jnp.float32) for update in updates))
    )


def _cosine_cycles(rate: Any, first: int, steps: int) -> optax.Schedule:
    """Makes two half cosines, each from ``rate`` to its floor.

    The update between them belongs to the first.
    """

    def schedule(index: jax.typing.ArrayLike) -> jax.Array:
        index = jnp.asarray(index, jnp.float32)
        second = index > first
        floor = rate * jnp.where(second, _FLOORS[1], _FLOORS[0])
        share = jnp.where(second, (index - first) / max(steps - first, 1), index / max(first, 1))
        # cos^2(x / 2) = (1 + cos x) / 2, without the cancellation near the floor.
        return floor + (rate - floor) * jnp.square(jnp.cos(jnp.clip(share, 0, 1) * (math.pi / 2)))

    return schedule


def _half_cosine(left: jax.Array, floor: float) -> jax.Array:
    """Falls from 1 to the floor while the share of the updates that are left falls from 1 to 0."""
    # sin^2(x / 2) = (1 - cos x) / 2, without cancellation near the floor
    return floor + (1 - floor) * jnp.square(jnp.sin(jnp.clip(left, 0, 1) * (math.pi / 2)))


def _cosine_epochs(rate: Any, steps: int) -> optax.Schedule:
    """Rises for three epochs, and falls with half a cosine over the epochs after them.

    The published schedules are stepped one after the other, so the highest rate comes twice.
    """

    def schedule(index: jax.typing.ArrayLike) -> jax.Array:
        # Half an update more, so that rounding does not move the first one of an epoch
        position = (jnp.asarray(index, jnp.float32) + 0.5) * (_CIDNET_EPOCHS / steps)
        epoch = jnp.clip(jnp.floor(position), 0, _CIDNET_EPOCHS - 1)  # 0 for the first
        left = (_CIDNET_EPOCHS + 1 - epoch) / (_CIDNET_EPOCHS - _CIDNET_WARMUP)
        share = jnp.where(
            epoch <= _CIDNET_WARMUP, epoch / _CIDNET_WARMUP, _half_cosine(left, _CIDNET_FLOOR)
        )
        return rate * share

    return schedule


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule, *, clip_norm: Any = None
) -> optax.GradientTransformation:
    """Makes the optimizer, with clipping of the gradient if the configuration has it.

    Args:
      config: the optimizer and its options.
      schedule: learning rate of each update.
      clip_norm: an array to use instead of the number ``config.clip_norm``, if that is not None.

    Returns:
      The optimizer.
    """
    optimizer = make_unclipped(config, schedule)
    if config.clip_norm is None:
        return optimizer
    norm = config.clip_norm if clip_norm is None else clip_norm
    return optax.chain(optax.clip_by_global_norm(norm), optimizer)


def make_unclipped(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Makes the optimizer without clipping. Weights decay, but biases and gains of norms do not."""
    decay = {"weight_decay": config.weight_decay, "mask": _is_weight}
    if config.optimizer == "adam":
        return optax.adam(schedule, b2=config.beta2)
    if config.optimizer == "adamw":
        return optax.adamw(schedule, b2=config.beta2, **decay)
    if config.optimizer == "lion":
        return optax.lion(schedule, **decay)
    # The decay is added to the gradient before the momentum, as in the published uses of SGD.
    return optax.chain(
        optax.add_decayed_weights(**decay), optax.sgd(schedule, momentum=config.momentum)
    )


def _is_weight(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
