"""Runs of several real processes on the CPU equal runs of one, also if stopped and resumed."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from train.__main__ import main
from train.config import RunConfig
from train.data.images import write_image
from train.devices import distributed, sharding
from train.errors import InputError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks, and counts its threads in /proc"
)


@pytest.fixture(scope="module")
def ended(launches: Any) -> dict[str, list[int]]:
    """All launches of the fast tests, which one program makes."""
    two = {"processes": 2, "devices": 2}
    start = ["--parallel=fsdp", "--checkpoint-every=10"]
    folder = launches.folder
    near = ["--data=folder:photographs", "--test-data=folder:photographs"]
    other = folder / "elsewhere" / "photographs"
    other.mkdir(parents=True)
    write_image(other / "one.png", np.zeros((24, 30, 3), np.uint8))
    tasks = {
        "nobody": launches.fit("nobody", processes=2, devices=1, only=[1], start_seconds=2),
        "updates of one": launches.updates(1, 1, one=([0], "data")),
        # Devices in the order of a ring that winds through the hosts: the first has rows 0, 1, 6
        # and 7.
        "updates of two": launches.updates(
            2, 2, fsdp=([0, 1, 2, 3], "fsdp"), ring=([0, 2, 3, 1], "data")
        ),
        "two": launches.fit("two", *start, **two),
        "alone": launches.fit("alone", *start, processes=1, devices=4),
        "other": launches.fit(
            "other",
            *near,
            **two,
            own={"1": ["--seed=1"]},
            where={"0": str(folder), "1": str(other.parent)},
        ),
        "failing": launches.fit("failing", **two, fails=True, leaving_seconds=2, silent_seconds=10),
        "told": launches.fit(
            "told", "--checkpoint-every=100", **two, strike=(1, signal.SIGTERM, 2), linger=0.5
        ),
        "killed": launches.fit(
            "killed",
            f"--resume={folder / 'told'}",
            **two,
            strike=(1, signal.SIGKILL, 18),
            silent_seconds=10,
        ),
        "on one": launches.fit("on one", f"--resume={folder / 'told'}", processes=1, devices=1),
    }
    return dict(zip(tasks, launches.run(*tasks.values()), strict=True))


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_one_device(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert ended["updates of one"] == [0]
    assert ended["updates of two"] == [0, 0]
    launches.check_updates("fsdp", "ring")


@pytest.mark.slow
def test_two_processes_train_as_one_does_on_the_same_mesh(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert (ended["two"], ended["alone"]) == ([0, 0], [0])
    assert len(launches.metrics("two")) == launches.steps
    assert launches.difference("two", "alone") < 1e-6
    assert "4 cpu devices of 2 processes" in launches.said("two", 0)
    assert "photographs" not in launches.said("two", 1)  # process 0 alone prints
    saved = json.loads((launches.folder / "two" / "config.json").read_text())["run"]
    assert (saved["distributed"], saved["coordinator"], saved["process"]) == (False, None, None)


@pytest.mark.slow
def test_processes_with_different_input_are_refused(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert ended["other"] == [2, 2]
    wrong = "The flags and the train photographs and the test photographs of process 1 differ"
    for process in (0, 1):
        assert f"error: {wrong} from those of process 0" in launches.said("other", process)
    assert not (launches.folder / "other").exists()


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    """Its last barrier is not taken for their next one, after which they would continue."""
    assert ended["failing"][0] == 1 and ended["failing"][1] not in (0, 70)
    assert "RuntimeError: this process fails alone" in launches.said("failing", 0)
    assert "the last words" in launches.said("failing", 1) and "all are here" not in launches.said(
        "failing", 1
    )


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert ended["told"] == [130, 130]
    stopped = launches.said("told", 0).partition("stopped after step ")[2].split(";")[0]
    assert 2 <= int(stopped) < launches.steps
    assert f"resuming from step {stopped} of" in launches.said("killed", 0)
    assert f"resuming from step {stopped} of" in launches.said("on one", 0)


@pytest.mark.slow
def test_if_a_process_is_killed_the_other_says_how_to_resume(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert ended["killed"][1] == -signal.SIGKILL
    assert ended["killed"][0] not in (0, 70)
    assert f"with --resume {launches.folder / 'told'}" in launches.said("killed", 0)


@pytest.mark.slow
def test_what_several_began_one_ends_with_the_same_batches(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    """One process on one device resumes a run of two on four devices, and logs the same."""
    assert ended["on one"] == [0]
    assert launches.difference("told", "two") < 1e-5


@pytest.mark.slow
def test_a_coordinator_that_is_not_there_is_named(
    launches: Any, ended: dict[str, list[int]]
) -> None:
    assert ended["nobody"][0] not in (0, 70)
    assert "the processes did not find each other within 2 s" in launches.said("nobody", 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--coordinator=here:1"],
            "--coordinator is for a run of several processes. Give --distributed too",
        ),
        (
            ["--distributed", "--coordinator=here"],
            "--coordinator must be the HOST:PORT of process 0; got 'here'",
        ),
        (["--distributed", "--processes=2", "--process=2"], "--process must be less than 2; got 2"),
    ],
)
def test_hosts_that_cannot_be_are_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:  # tyro ends the process by itself
        sys.exit(main(["fit", "smoke", *flags]))
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert words in " ".join((captured.out + captured.err).replace("│", "").split())


@pytest.mark.parametrize("verb", ["compare", "tune"])
def test_only_fit_runs_in_several_processes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--distributed"]) == 2
    assert f"{verb} does not accept --distributed: it runs in one" in capsys.readouterr().err


def test_without_an_index_the_error_names_the_flags_to_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def undetected(*arguments: Any, **options: Any) -> None:
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", undetected)
    with pytest.raises(
        InputError,
        match=r"Give each process --coordinator HOST:PORT .* --processes N and --process I",
    ):
        distributed.connect(RunConfig(distributed=True), lambda words: None)


def test_rows_of_a_mesh_that_winds_arrive_in_their_places() -> None:
    devices = [jax.devices()[i] for i in (2, 0, 3, 1)]
    mesh = Mesh(np.asarray(devices), (sharding.BATCH_AXIS,), axis_types=(AxisType.Auto,))
    batch = np.arange(8, dtype=np.float32).reshape(8, 1)
    (arrived,) = sharding.to_devices(iter([batch]), mesh)
    np.testing.assert_array_equal(arrived, batch)
    assert {shard.device.id: shard.data.ravel().tolist() for shard in arrived.addressable_shards}[
        2
    ] == [0, 1]
    np.testing.assert_array_equal(sharding.rows_of_process(mesh, 8), np.arange(8))


def test_a_folder_that_only_process_0_sees_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_SHARED_SECONDS", 0.0)
    with pytest.raises(InputError, match="Give an --out that all hosts share"):
        distributed.check_shared(tmp_path / "nowhere")
