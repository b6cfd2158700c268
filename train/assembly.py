"""Builds the parts of a run from its configuration, to train it or to compile it ahead of time."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from train.config import FitConfig, ModelConfig
from train.dark_photographs import darken_splits
from train.data.photographs import Memory
from train.data.splits import Splits, open_splits
from train.errors import InputError
from train.network import build_model, init_variables, sows
from train.objective import LEVEL, Objective, make_objective
from train.optimizer import make_optimizer, make_schedule
from train.randomness import INIT_STREAM
from train.state import Step, TrainState, create_state
from train.step import ONE_PROGRAM, AcrossDevices, make_step

_LARGEST_TRIED = 4096  # pixels along a side of a patch that is tried for an error message

BatchNorm = Literal["global", "per_device"]


class Assembly(NamedTuple):
    """What a run trains, and how it starts."""

    model: nn.Module  # in float32, for evaluation
    update: Step  # one update, in the precision of --dtype
    state_from: Callable[[dict[str, Any]], TrainState]  # makes a state of a network's variables
    fresh_state: Callable[[], TrainState]  # makes a state with random weights


def assemble(
    config: FitConfig,
    *,
    across: AcrossDevices = ONE_PROGRAM,
    batch_norm: BatchNorm = "global",
    unroll: int = 1,
) -> Assembly:
    """Puts a run together, or says which parts do not fit each other. Nothing is computed yet.

    Args:
      config: the run.
      across: as for :func:`~train.step.make_step`. The default is for an update under jax.jit.
      batch_norm: which statistics normalise under a mapped axis, those of the whole batch
        ("global") or of each device's share ("per_device").
      unroll: as for :func:`~train.step.make_step`.

    Returns:
      What the run trains, and how it starts.

    Raises:
      InputError: two parts of the configuration do not fit each other.
    """
    model = build_model(config.model.model)
    objective = objective_of(config.model)
    if config.model.level_weight and not sows(model, LEVEL):
        raise InputError(
            f"--level-weight {config.model.level_weight:g} needs a network that predicts the "
            f"noise level, and {config.model.model} does not. Use --model buifd, or leave out "
            "--level-weight."
        )
    if config.data.low_light and (model.takes_sigma or config.model.level_weight):
        raise InputError(
            f"--low-light makes noise without a single level that {config.model.model} could be "
            "told or predict. Use a network without a noise level, and leave out --level-weight."
        )
    _check_loss(objective, config, model.channels)
    schedule = make_schedule(config.optimizer)
    optimizer = make_optimizer(config.optimizer, schedule)

    def state_from(variables: dict[str, Any]) -> TrainState:
        averaged = config.optimizer.ema > 0
        return create_state(variables, optimizer, averaged=averaged, balance=objective.init())

    def fresh_state() -> TrainState:
        return state_from(
            init_variables(model, jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM))
        )

    statistics_axis = across.axis_name if batch_norm == "global" else None
    update = make_step(
        build_model(config.model.model, dtype=config.model.dtype, axis_name=statistics_axis),
        optimizer,
        objective,
        sigma=config.data.sigma / 255,
        seed=config.seed,
        blind=config.data.blind,
        low_light=config.data.low_light,
        schedule=schedule,
        accumulate=config.optimizer.accumulate,
        average_decay=config.optimizer.ema,
        max_skips=config.optimizer.max_skips,
        across=across,
        unroll=unroll,
    )
    return Assembly(model, update, state_from, fresh_state)


def open_photographs(config: FitConfig) -> Splits:
    """Opens the photographs that a run trains, validates and tests on."""
    data = config.data
    splits = open_splits(
        data.source,
        validation=data.validation_source,
        test=data.test_source,
        group_by=data.group_by,
        memory=Memory(config.run.memory_mb),
    )
    return darken_splits(splits, data.low_light)


def _check_loss(objective: Objective, config: FitConfig, channels: int) -> None:
    """Refuses patches that the loss rejects, before a folder is made and a step is traced."""
    size = config.data.patch_size
    error = _rejection(objective, size, channels)
    if error is None:
        return
    if size >= _LARGEST_TRIED or _rejection(objective, _LARGEST_TRIED, channels) is not None:
        raise InputError(
            f"The loss {config.model.loss} does not accept patches of {size} x {size} x "
            f"{channels}: {error} Choose a different loss."
        )

    # --- the smallest patch that the loss accepts lies in between
    too_small, enough = size, _LARGEST_TRIED
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if _rejection(objective, middle, channels) is None:
            enough = middle
        else:
            too_small = middle
    raise InputError(
        f"The loss {config.model.loss} needs patches of at least {enough} x {enough} pixels; "
        f"--patch-size is {size}. Use --patch-size {enough}, or a different loss."
    )


def _rejection(objective: Objective, size: int, channels: int) -> str | None:
    """Returns why the loss rejects patches of this size; None if it accepts them."""
    patch = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    try:
        jax.eval_shape(objective, objective.init(), patch, patch)
    except ValueError as error:
        return str(error)
    return None


def objective_of(config: ModelConfig) -> Objective:
    """Returns what the network is trained to minimise."""
    return make_objective(
        config.loss,
        balance=config.balance,
        balance_rate=config.balance_rate,
        balance_every=config.balance_every,
        level_weight=config.level_weight,
        level_sigma=config.level_sigma / 255,
    )
