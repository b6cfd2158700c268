"""The devices of a run in lockstep: each holds a population of networks and its own program."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train import training
from train.config import FitConfig
from train.data.batch import Batch
from train.data.pipeline import PatchBatches, stream
from train.data.splits import Splits
from train.devices.cpu_programs import compiler_options, transposes_apart
from train.devices.sharding import one_ahead
from train.errors import DivergedError, InputError
from train.experiments.networks.population import (
    Population,
    PopulationStep,
    join,
    make_population_step,
    member_of,
    seeds_of,
)
from train.state import Metrics, TrainState
from train.training import Logbook, Reading


@dataclass
class TrainingRun:
    """One run of ``fit``."""

    config: FitConfig
    folder: Path
    state: TrainState  # the state that it starts from
    diverged: str = ""  # why it stopped, if it diverged; the other runs continue

    @property
    def start(self) -> int:
        """Number of steps that were done before."""
        return int(self.state.step)


@dataclass
class DeviceGroup:
    """The runs of one device, and their current state."""

    runs: Sequence[TrainingRun]
    device: jax.Device
    step: PopulationStep
    population: Population  # the states after the last step
    metrics: tuple[Metrics, ...] = ()  # the metrics of each run in the last step

    @property
    def seeds(self) -> list[int]:
        """The seeds on whose patches the group trains."""
        return seeds_of([run.config for run in self.runs])

    def take_step(self, batch: Any) -> jax.Array:
        """Starts one step on the device, and returns one of its losses."""
        self.population, self.metrics = self.step(self.population, batch)
        return self.metrics[0].loss

    def state_of(self, index: int) -> TrainState:
        """The state of one run, in the form that ``fit`` uses."""
        return member_of(self.population, index, self.runs[index].config)


class DeviceGroups:
    """The networks of all devices, in the form that :func:`train.training.train` trains."""

    def __init__(
        self, groups: Sequence[DeviceGroup], splits: Splits, logbooks: Sequence[Logbook]
    ) -> None:
        """Brings together what a lockstep training needs.

        Args:
          groups: the runs of each device.
          splits: the photographs.
          logbooks: one for each run, in the order of the groups and of the runs in each group.
        """
        first = groups[0].runs[0]
        self.config = first.config
        self.start = first.start
        self.logbooks = logbooks
        self._groups = groups
        self._splits = splits

    def batches(self) -> Iterator[list[Any]]:
        """For each step, the batch of each group, with the patches of that group's seeds."""
        return one_ahead(self._arriving())

    def _arriving(self) -> Iterator[list[Any]]:
        config = self.config
        seeds = sorted({seed for group in self._groups for seed in group.seeds})
        streams = [
            stream(
                PatchBatches(
                    self._splits.train,
                    patch_size=config.data.patch_size,
                    batch_size=config.data.batch_size,
                    seed=seed,
                ),
                start=self.start,
                stop=config.optimizer.steps,
                workers=config.run.workers,
            )
            for seed in seeds
        ]
        for batches in zip(*streams, strict=True):
            of_seed: dict[int, Batch] = dict(zip(seeds, batches, strict=True))
            stacks = []
            for group in self._groups:
                rows = [of_seed[seed] for seed in group.seeds]
                stacks.append(jax.tree.map(lambda *patches: np.stack(patches), *rows))
            # Only now that all are stacked, so that no device waits for the patches of another.
            yield [
                jax.device_put(stacked, group.device)
                for stacked, group in zip(stacks, self._groups, strict=True)
            ]

    def compile(self, batch: list[Any]) -> None:
        """Does nothing: compiling ahead helps other processes that wait, and there are none."""

    def step(self, batch: list[Any]) -> list[jax.Array]:
        """Starts one step on each device."""
        return [
            group.take_step(of_group) for group, of_group in zip(self._groups, batch, strict=True)
        ]

    def wait(self) -> None:
        """Waits until the devices have done all steps that were started."""
        jax.block_until_ready([group.population for group in self._groups])

    def read(self) -> list[Reading]:
        """Waits for the last step and reads its metrics, except those of diverged networks."""
        readings = []
        places = [(group, i) for group in self._groups for i in range(len(group.runs))]
        for (group, i), logbook in zip(places, self.logbooks, strict=True):
            run = group.runs[i]
            try:
                values = training.read_metrics(group.metrics[i], run.config)
            except DivergedError as error:
                run.diverged = str(error)
                continue
            readings.append(Reading(values, logbook, functools.partial(group.state_of, i)))
        return readings

    def does_not_fit(self, why: str) -> InputError:
        """Makes the error for a step that needs more memory than a device has."""
        runs = [run for group in self._groups for run in group.runs]
        return does_not_fit(runs, [group.device for group in self._groups], why)


def does_not_fit(
    runs: Sequence[TrainingRun], devices: Sequence[jax.Device], why: str
) -> InputError:
    """Makes the error for runs that need more memory than their devices have.

    Args:
      runs: the runs that train at once.
      devices: the devices that they train on.
      why: what the backend said.

    Returns:
      The error, which is not raised yet.
    """
    return InputError(
        f"{len(runs)} networks at once do not fit into the memory of {devices[0].device_kind} "
        f"({why}). Use --population loop, or --population mesh with more devices."
    )


def deal(runs: Sequence[TrainingRun], devices: Sequence[jax.Device]) -> list[DeviceGroup]:
    """Deals runs to devices, neighbours together; each device has a program of its own.

    Args:
      runs: runs that start at the same step.
      devices: devices to use. If there are more devices than runs, some stay unused.

    Returns:
      A group for each device, in the order of the runs. Nothing moves between the devices.
    """
    used = devices[: len(runs)]
    groups = []
    for device, share in zip(used, np.array_split(np.arange(len(runs)), len(used)), strict=True):
        held = [runs[i] for i in share]
        configs = [run.config for run in held]
        step: Any = make_population_step(configs)
        cpu_step, options = configs[0].run.cpu_step, None
        if device.platform == "cpu":
            options = compiler_options(cpu_step)
            if cpu_step == "fast":
                step = transposes_apart(step, lambda population: jnp.max(population.states.step))
        step = jax.jit(step, donate_argnums=0, compiler_options=options)
        states = [jax.device_put(run.state, device) for run in held]
        groups.append(DeviceGroup(held, device, step, join(states, configs)))
    return groups
