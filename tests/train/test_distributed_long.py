"""Runs of four processes, runs of 200 steps, and checkpoints that go on under every mesh."""

import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_four_processes_take_the_gradient_of_one_device_on_any_mesh(launches: Any) -> None:
    one = launches.updates(1, 1, one=([0], "data"))
    meshes = {"fsdp4": ([0, 1, 2, 3], "fsdp"), "data4": ([3, 1, 0, 2], "data")}
    assert launches.run(one, launches.updates(4, 1, **meshes)) == [[0], [0] * 4]
    launches.check_updates(*meshes)


def test_a_checkpoint_of_two_processes_goes_on_anywhere(launches: Any) -> None:
    """On one process, on four, and on another mesh; each sees the batches that the two would have seen."""
    first = launches.fit("origin", "--parallel=fsdp", "--checkpoint-every=10", processes=2, devices=2)
    assert launches.run(first) == [[0, 0]]
    shutil.rmtree(launches.folder / "origin" / "checkpoints" / str(launches.steps))
    elsewhere = {
        "1x1": (["--parallel=data"], 1, 1),
        "4x1": (["--parallel=data"], 4, 1),
        "2x2": (["--parallel=fsdp", "--shards=2"], 2, 2),
    }
    tasks = []
    for name, (flags, processes, devices) in elsewhere.items():
        shutil.copytree(launches.folder / "origin", launches.folder / name)
        resume = f"--resume={launches.folder / name}"
        tasks.append(launches.fit(name, resume, *flags, processes=processes, devices=devices))
    assert launches.run(*tasks) == [[0], [0] * 4, [0, 0]]
    for name in elsewhere:
        assert "going on from step 10" in launches.said(name, 0)
        assert launches.difference(name, "origin") < 1e-5


def test_over_200_steps_meshes_stay_together(launches: Any) -> None:
    long = ["--steps=200", "--checkpoint-every=200"]
    tasks = [
        launches.fit("long1", *long, processes=1, devices=1),
        launches.fit("long4", *long, "--parallel=fsdp", processes=4, devices=1),
    ]
    assert launches.run(*tasks) == [[0], [0] * 4]
    assert len(launches.metrics("long1")) == 200
    assert launches.difference("long4", "long1") < 1e-3
