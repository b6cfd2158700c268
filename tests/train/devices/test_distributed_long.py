"""Runs of four processes, runs of 200 steps, and checkpoints that resume on every mesh."""

import shutil
import signal
import sys
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts its threads in /proc"),
]


def test_four_processes_compute_the_gradient_of_one_device(launches: Any) -> None:
    one = launches.updates(1, 1, one=([0], "data"))
    meshes = {"fsdp4": ([0, 1, 2, 3], "fsdp"), "data4": ([3, 1, 0, 2], "data")}
    assert launches.run(one, launches.updates(4, 1, **meshes)) == [[0], [0] * 4]
    launches.check_updates(*meshes)


def test_a_checkpoint_of_two_processes_goes_on_anywhere(launches: Any) -> None:
    """One process, four processes and a different mesh see the batches that the two would see."""
    first = launches.fit(
        "origin", "--parallel=fsdp", "--checkpoint-every=10", processes=2, devices=2
    )
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
        assert "resuming from step 10" in launches.said(name, 0)
        assert launches.difference(name, "origin") < 1e-5


def test_four_processes_train_as_one_does_on_the_same_mesh(launches: Any) -> None:
    tasks = [
        launches.fit("four", "--parallel=fsdp", processes=4, devices=1),
        launches.fit("alone", "--parallel=fsdp", processes=1, devices=4),
    ]
    assert launches.run(*tasks) == [[0] * 4, [0]]
    assert len(launches.metrics("four")) == launches.steps
    assert launches.difference("four", "alone") < 1e-6


def test_a_killed_run_of_two_processes_resumes_bit_for_bit(launches: Any) -> None:
    two = {"processes": 2, "devices": 2}
    start = ["--parallel=fsdp", "--checkpoint-every=5"]
    struck = {"strike": (1, signal.SIGKILL, 13), "linger": 0.2, "silent_seconds": 10}
    tasks = [
        launches.fit("whole", *start, **two),
        launches.fit("parts", *start, **two, **struck),
        launches.fit("rest", f"--resume={launches.folder / 'parts'}", **two),
    ]
    whole, parts, rest = launches.run(*tasks)
    assert (whole, parts[1], rest) == ([0, 0], -signal.SIGKILL, [0, 0])
    assert "resuming from step 10" in launches.said("rest", 0)
    assert launches.metrics("parts") == launches.metrics("whole")
    assert launches.digests("parts", launches.steps) == launches.digests("whole", launches.steps)


def test_two_processes_validate_and_report_as_one_does(launches: Any) -> None:
    """Only process 0 reads photographs. Its scores decide which checkpoint is best for both.

    With Adam and batch norm, whose statistics are those of both processes' patches.
    """
    adam = ["--model=dncnn(depth=3, features=32)", "--optimizer=adam", "--learning-rate=0.001"]
    start = [
        *adam,
        "--parallel=fsdp",
        f"--init-from={launches.folder / 'first'}",
        "--checkpoint-every=10",
    ]
    start += [f"--validation-data={launches.photographs}", "--validate-every=4", "--keep-last=1"]
    tasks = [
        launches.fit("first", *adam, processes=1, devices=1),
        launches.fit("pair", *start, processes=2, devices=2, report=True),
        launches.fit("single", *start, processes=1, devices=4, report=True),
    ]
    assert launches.run(*tasks) == [[0], [0, 0], [0]]
    assert launches.difference("pair", "single") < 1e-6
    assert "validation/psnr" in launches.metrics("pair")[4]
    pair, single = (launches.folder / name for name in ("pair", "single"))
    assert [
        len((folder / "evaluation.csv").read_text().splitlines()) for folder in (pair, single)
    ] == [4, 4]
    kept = [{path.name for path in (folder / "checkpoints").iterdir()} for folder in (pair, single)]
    assert kept[0] == kept[1]
    assert "PSNR dB" in launches.said("pair", 0) and launches.said("pair", 1) == ""


def test_over_200_steps_meshes_stay_together(launches: Any) -> None:
    long = ["--steps=200", "--checkpoint-every=200"]
    tasks = [
        launches.fit("long1", *long, processes=1, devices=1),
        launches.fit("long4", *long, "--parallel=fsdp", processes=4, devices=1),
        launches.fit("long2x2", *long, "--parallel=fsdp", "--shards=2", processes=2, devices=2),
        launches.fit("long1x4", *long, processes=1, devices=4),
    ]
    assert launches.run(*tasks) == [[0], [0] * 4, [0, 0], [0]]
    assert len(launches.metrics("long1")) == 200
    for name in ("long4", "long2x2", "long1x4"):
        assert launches.difference(name, "long1") < 1e-3


def test_processes_of_slurm_find_each_other(launches: Any) -> None:
    """The launch has the variables that srun sets, and only the flag --distributed."""
    tasks = [
        launches.fit("by slurm", processes=2, devices=2, slurm=True),
        launches.fit("by flags", processes=2, devices=2),
    ]
    assert launches.run(*tasks) == [[0, 0], [0, 0]]
    assert "4 cpu devices of 2 processes" in launches.said("by slurm", 0)
    assert launches.metrics("by slurm") == launches.metrics("by flags")
