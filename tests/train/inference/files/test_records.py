import errno
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.checkpoints.checkpoint import load_network, save_network
from train.errors import InputError
from train.files import outputs
from train.inference.files.records import check_ours


@pytest.fixture
def command(checkpoint: Make, tmp_path: Path) -> list[str]:
    """The command for a photograph that was restored once."""
    source = save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    return command


def test_a_photograph_is_on_disk_before_its_record(
    command: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    fsync = os.fsync

    def fail(file: int) -> None:
        if os.pread(file, 4, 0) == b"\x89PNG":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    before = (tmp_path / "out" / "a.png.lumloss.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert main([*command, "--self-ensemble"]) == 2
    assert (tmp_path / "out" / "a.png.lumloss.json").read_text() == before
    capsys.readouterr()
    assert main(command) == 0
    assert "a.png: already done" in capsys.readouterr().out


@pytest.mark.parametrize("renamed", [False, True])
def test_a_run_that_ended_after_its_record_can_resume(
    command: list[str], tmp_path: Path, monkeypatch, capsys, renamed: bool
) -> None:
    target, replace = tmp_path / "out" / "a.png", os.replace

    def end(source: Path, to: Path) -> None:
        if to != target or renamed:
            replace(source, to)
        if to == target:
            raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(outputs.os, "replace", end)
        with pytest.raises(SystemExit):
            main([*command, "--self-ensemble"])
    capsys.readouterr()
    assert main([*command, "--self-ensemble"]) == 0
    assert f"a.png: {'already done' if renamed else 'restored'}" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.lumloss.json"]


def test_a_photograph_that_was_replaced_is_no_longer_known(
    command: list[str], tmp_path: Path, capsys
) -> None:
    target = tmp_path / "out" / "a.png"
    before = target.read_bytes()
    assert main([*command, "--self-ensemble"]) == 0
    assert "replaces_sha256" not in json.loads(
        (tmp_path / "out" / "a.png.lumloss.json").read_text()
    )
    target.write_bytes(before)
    capsys.readouterr()
    assert main(command) == 1
    assert "a.png was changed after restore wrote it" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_different_weights_of_the_same_network_restore_again(
    checkpoint: Make, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    folder = checkpoint("dncnn(depth=3, features=4)")
    network = load_network(folder)
    moved = jax.tree.map(lambda array: array + np.float32(1e-3), getattr(network, part))
    save_network(tmp_path / "on", network._replace(**{part: moved}), {})
    for weights, said in (
        (folder, "restored"),
        (folder, "already done"),
        (tmp_path / "on", "restored"),
    ):
        capsys.readouterr()
        assert main(["restore", str(weights), str(source), "--output", str(tmp_path / "out")]) == 0
        assert f"a.png: {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ['{"title": "a.png", "photoTakenTime": {}}', "[" * 100_000, "no JSON"]
)
def test_a_foreign_file_next_to_a_photograph_is_left_alone(
    checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    """Google Takeout uses such names."""
    source = save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png.json").write_text(content)
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]
    for options, said in (
        ([], "restored"),
        ([], "already done"),
        (["--self-ensemble"], "restored"),
    ):
        assert main([*command, *options]) == 0
        assert f"a.png: {said}" in capsys.readouterr().out
        assert (tmp_path / "out" / "a.png.json").read_text() == content


def test_a_record_of_an_earlier_version_is_read_and_replaced(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "a.png.lumloss.json").rename(out / "a.png.json")
    capsys.readouterr()
    for options, said in (([], "already done"), (["--self-ensemble"], "restored")):
        assert main([*command, *options]) == 0
        assert f"a.png: {said}" in capsys.readouterr().out
    assert sorted(os.listdir(out)) == ["a.png", "a.png.lumloss.json"]


def test_a_foreign_file_with_the_record_name_needs_overwrite(
    checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = save(tmp_path / "in" / "a.png", pixels((8, 8, 3))), tmp_path / "out"
    out.mkdir()
    (out / "a.png.lumloss.json").write_text('{"mine": 1}')
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(out)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "a.png.lumloss.json was not written by restore, which needs this name" in said
    assert os.listdir(out) == ["a.png.lumloss.json"]
    assert main([*command, "--overwrite"]) == 0


def test_a_link_with_the_name_of_a_result_is_not_replaced(
    checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = save(tmp_path / "in" / "a.png", pixels((8, 8, 3))), tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(tmp_path / "gone.png")
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(out)]
    assert main(command) == 2
    assert "a.png was not written by restore" in capsys.readouterr().err
    assert (out / "a.png").is_symlink()
    assert main([*command, "--overwrite"]) == 0
    assert not (out / "a.png").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes do not exist here")
@pytest.mark.parametrize("suffix", [".lumloss.json", ".json"])
def test_a_pipe_with_the_name_of_a_record_does_not_block(suffix: str, tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"theirs")
    os.mkfifo(tmp_path / f"a.png{suffix}")
    with pytest.raises(InputError, match="was not written by restore"):
        check_ours(target)


def test_a_file_that_is_too_long_is_not_read_as_a_record(tmp_path: Path) -> None:
    record = tmp_path / "a.png.lumloss.json"
    record.write_text('{"input_sha256": "", "output_sha256": ""}' + " " * 1_000_000)
    with pytest.raises(InputError, match="was not written by restore, which needs this name"):
        check_ours(tmp_path / "a.png")
