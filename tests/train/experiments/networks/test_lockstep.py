"""Networks that train at once: what an interruption leaves behind, and what is printed."""

import contextlib
import dataclasses
import io
import os
import shutil
import signal
from pathlib import Path

import jax
import pytest
from rich.console import Console

from train import training
from train.assembly import assemble
from train.checkpoints.checkpoint_files import steps_in
from train.errors import InputError
from train.experiments.networks.lockstep import fit_together
from train.experiments.networks.members import Member


@pytest.fixture
def configured(small_fit, tmp_path):
    """Makes two runs of ``fit`` from flags, each in a folder named after its learning rate."""

    def configs(*flags, rates=(1e-3, 2e-3)):
        return [
            Member("l1", 0, rate, None).config(small_fit(*flags), tmp_path / f"{rate:g}")
            for rate in rates
        ]

    return configs


def resumed(configs):
    return [
        dataclasses.replace(c, run=dataclasses.replace(c.run, out=None, resume=c.run.out))
        for c in configs
    ]


def train(configs):
    """Returns why each diverged, and what was printed."""
    printed = io.StringIO()
    console = Console(file=printed, width=500)
    return fit_together(configs, jax.devices()[:1], console, "repeat it"), printed.getvalue()


def steps_of(config):
    return sorted(steps_in(Path(config.run.out) / "checkpoints"))


def test_a_signal_in_a_step_that_is_only_logged_costs_no_step(configured, monkeypatch):
    """Most signals arrive there, since the host waits for the devices; the next step is saved."""
    configs = configured("--log-every=1", "--validate-every=4")
    read, signals = training.read_metrics, [signal.SIGTERM]

    def struck(metrics, config):
        if signals:
            os.kill(os.getpid(), signals.pop())
        return read(metrics, config)

    monkeypatch.setattr(training, "read_metrics", struck)
    with pytest.raises(SystemExit) as stopped:
        train(configs)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert [steps_of(config) for config in configs] == [[2], [2]]


@pytest.mark.slow
def test_checkpoints_on_disk_already_need_no_more_room(configured, monkeypatch):
    """Two networks have one checkpoint each, out of the three that each needs room for."""
    configs = configured("--keep-last=2", "--keep-best=0")
    train(configs)
    for config in configs:
        shutil.rmtree(Path(config.run.out) / "checkpoints" / "4")
    state = jax.tree.leaves(jax.eval_shape(assemble(configs[0]).fresh_state))
    size = sum(x.size * x.dtype.itemsize for x in state)
    used = shutil.disk_usage(configs[0].run.out)
    for free, taken in ((4 * size - 1, False), (4 * size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: used._replace(free=free))
        with (
            contextlib.nullcontext()
            if taken
            else pytest.raises(
                InputError, match="MB of free space, which is too little for 4 checkpoints of"
            )
        ):
            train(resumed(configs))
    assert [steps_of(config) for config in configs] == [[2, 4], [2, 4]]


@pytest.mark.slow
def test_networks_whose_steps_were_compiled_in_different_ways_are_not_trained_together(configured):
    configs = configured()
    train(configs)
    for config in configs:
        shutil.rmtree(Path(config.run.out) / "checkpoints" / "4")
    first, second = resumed(configs)
    first = dataclasses.replace(first, run=dataclasses.replace(first.run, cpu_step="plain"))
    assert train([first, second])[0] == ["", ""]
    assert [steps_of(config) for config in configs] == [[2, 4], [2, 4]]


@pytest.mark.slow
def test_the_first_network_that_still_trains_is_shown(configured):
    configs = configured("--max-skips=1", rates=(1e25, 1e-3))
    (diverged, well), printed = train(configs)
    assert diverged and not well
    assert "step 4/4" in printed
