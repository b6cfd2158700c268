"""Builds the parts of a run from its configuration, and the programs that runs share.

A comparison trains many networks that differ only in seed, learning rate and clipping. These are
arguments of their programs (:class:`Numbers`), so the first of them is traced and compiled, and the
others begin at once. A single run uses the same programs. So a network of a comparison has the bits
that ``fit`` gives it, and ``fit --resume`` can resume it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from optax import GradientTransformation as Optimizer
from optax import Schedule

from train.config import DataConfig, FitConfig, ModelConfig
from train.dark_photographs import darken_splits
from train.data.batch import Pair
from train.data.photographs import Memory
from train.data.splits import Splits, open_splits
from train.devices import sharding
from train.errors import InputError
from train.network import build_model, init_variables, sows
from train.objective import LEVEL, Objective, make_objective
from train.optimizer import Rates, make_optimizer, make_schedule, rates_of
from train.randomness import INIT_STREAM
from train.run_config import RunConfig
from train.state import Metrics, Step, TrainState, create_state
from train.step import ONE_PROGRAM, AcrossDevices, make_step

# A comparison of more losses than this compiles some of them again for every seed. A program needs
# some megabytes of memory.
_MOST_KEPT = 16
_LARGEST_TRIED = 4096  # pixels along a side of a patch that is tried for an error message

BatchNorm = Literal["global", "per_device"]


class Numbers(NamedTuple):
    """The numbers in which runs may differ that share one compiled step, as arrays."""

    key: Any  # random key of --seed, or the key's data outside a compiled function
    rates: Rates
    clip_norm: jax.typing.ArrayLike | None  # None without clipping


class Assembly(NamedTuple):
    """What a run trains, and how it starts."""

    model: nn.Module  # in float32, for evaluation
    update: Step  # one update, in the precision of --dtype
    # The same with the run's numbers as an argument
    update_with: Callable[[TrainState, jax.Array | Pair, Numbers], tuple[TrainState, Metrics]]
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
      batch_norm: which statistics normalize under a mapped axis, those of the whole batch
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
            f"the noise of --low-light does not have a single level, but {config.model.model} "
            "needs or predicts one. Use a network without a noise level, and leave out "
            "--level-weight."
        )
    _check_loss(objective, config, model.channels)
    schedule = make_schedule(config.optimizer)
    optimizer = make_optimizer(config.optimizer, schedule)
    statistics_axis = across.axis_name if batch_norm == "global" else None
    trained = build_model(config.model.model, dtype=config.model.dtype, axis_name=statistics_axis)

    def state_from(variables: dict[str, Any]) -> TrainState:
        averaged = config.optimizer.ema > 0
        return create_state(variables, optimizer, averaged=averaged, balance=objective.init())

    def fresh_state() -> TrainState:
        return state_from(
            init_variables(model, jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM))
        )

    def make(seed: int | jax.Array, schedule: Schedule, optimizer: Optimizer) -> Step:
        return make_step(
            trained,
            optimizer,
            objective,
            sigma=config.data.sigma / 255,
            seed=seed,
            blind=config.data.blind,
            low_light=config.data.low_light,
            schedule=schedule,
            accumulate=config.optimizer.accumulate,
            average_decay=config.optimizer.ema,
            max_skips=config.optimizer.max_skips,
            across=across,
            unroll=unroll,
        )

    def update_with(
        state: TrainState, batch: jax.Array | Pair, numbers: Numbers
    ) -> tuple[TrainState, Metrics]:
        given = make_schedule(config.optimizer, rates=numbers.rates)
        changed = make_optimizer(config.optimizer, given, clip_norm=numbers.clip_norm)
        return make(numbers.key, given, changed)(state, batch)

    update = make(config.seed, schedule, optimizer)
    return Assembly(model, update, update_with, state_from, fresh_state)


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

    # --- larger and larger patches until one is accepted; often only a few pixels are missing
    too_small, more = size, 1
    while _rejection(objective, too_small + more, channels) is not None:
        too_small, more = too_small + more, 2 * more
        if too_small + more > _LARGEST_TRIED:
            raise InputError(
                f"The loss {config.model.loss} does not accept patches of {size} x {size} x "
                f"{channels}: {error} Choose a different loss."
            )

    # --- the smallest one that is accepted lies in between
    enough = too_small + more
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


class _Programs(NamedTuple):
    """Compiled functions that runs share."""

    abstract: TrainState  # the shapes of the state
    layout: TrainState  # the shardings of the state
    draw: Callable[[Any], TrainState]  # makes a state with random weights from a key's data
    start_from: Callable[[Any], TrainState]  # makes a state of a network's variables
    step: Callable[..., tuple[TrainState, Metrics]]  # arguments: a state, a batch and numbers


class RunPrograms:
    """The programs of one run."""

    def __init__(self, config: FitConfig, mesh: Mesh) -> None:
        """Finds or makes the programs. They are compiled when they are first called.

        Args:
          config: the run.
          mesh: the devices to run on.
        """
        self._shared = _programs(_without_numbers(config), mesh)
        self._step = self._shared.step
        self._numbers = sharding.on_every_device(numbers_of(config), mesh)
        self.abstract = self._shared.abstract
        self.layout = self._shared.layout

    def fresh_state(self) -> TrainState:
        """Makes a state with random weights."""
        return self._shared.draw(self._numbers.key)

    def state_from(self, variables: Any) -> TrainState:
        """Makes a state of a network's variables on the host."""
        return self._shared.start_from(variables)

    def step(self, state: TrainState, batch: jax.Array | Pair) -> tuple[TrainState, Metrics]:
        """Makes one update. The state is donated."""
        return self._step(state, batch, self._numbers)

    def compile(
        self, compiler: Callable[..., Any], state: TrainState, batch: jax.Array | Pair
    ) -> None:
        """Compiles the step before its first call.

        Args:
          compiler: takes a jitted function and its arguments, and returns a compiled one.
          state: the first argument of :meth:`step`.
          batch: its second argument.
        """
        self._step = compiler(self._shared.step, state, batch, self._numbers)


def numbers_of(config: FitConfig) -> Numbers:
    """Returns the numbers of a run, on the host."""
    rates = rates_of(config.optimizer)
    clip_norm = config.optimizer.clip_norm
    return Numbers(
        np.asarray(jax.random.key_data(jax.random.key(config.seed))),
        Rates(*map(np.float32, rates)),
        None if clip_norm is None else np.float32(clip_norm),
    )


def _without_numbers(config: FitConfig) -> FitConfig:
    """Reduces a configuration to what its programs depend on.

    Programs do not depend on the photographs, and know the devices from the mesh. They depend on
    whether a gradient is clipped, because clipping with a norm that nothing exceeds would round
    differently.
    """
    data, optimizer = config.data, config.optimizer
    clip_norm = None if optimizer.clip_norm is None else 1.0
    return FitConfig(
        data=DataConfig(
            patch_size=data.patch_size,
            batch_size=data.batch_size,
            sigma=data.sigma,
            blind=data.blind,
            low_light=data.low_light,
        ),
        model=dataclasses.replace(config.model, init_from=None),
        optimizer=dataclasses.replace(optimizer, learning_rate=1.0, clip_norm=clip_norm),
        run=RunConfig(cpu_step=config.run.cpu_step),
    )


@functools.lru_cache(maxsize=_MOST_KEPT)
def _programs(config: FitConfig, mesh: Mesh) -> _Programs:
    assembly = assemble(config)

    def draw(key: jax.Array) -> TrainState:
        key = jax.random.fold_in(jax.random.wrap_key_data(key), INIT_STREAM)
        return assembly.state_from(init_variables(assembly.model, key))

    def step(
        state: TrainState, batch: jax.Array | Pair, numbers: Numbers
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.wrap_key_data(numbers.key)
        return assembly.update_with(state, batch, numbers._replace(key=key))

    abstract = jax.eval_shape(draw, numbers_of(config).key)
    layout = sharding.state_sharding(abstract, mesh)
    return _Programs(
        abstract,
        layout,
        jax.jit(draw, out_shardings=layout),
        jax.jit(assembly.state_from, out_shardings=layout),
        sharding.compile_step(
            step, mesh, layout=layout, cpu_step=config.run.cpu_step, more_arguments=1
        ),
    )
