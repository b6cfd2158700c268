import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.inference.stored_images import SPEC, TOLD, Make, pixels, save, stored
from train.__main__ import main
from train.inference.files import records

ROOT = Path(__file__).resolve().parents[3]


def test_folders_and_patterns_keep_their_paths(checkpoint: Make, tmp_path: Path) -> None:
    for name in ("a.png", "below/a.png", "below/b.PNG", ".hidden.png", "below/.cache/c.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    (tmp_path / "in" / "notes.txt").write_text("no photograph")
    restore = ["restore", str(checkpoint(SPEC))]

    def names(folder: Path) -> list[str]:
        return sorted(
            p.relative_to(folder).as_posix()
            for p in folder.rglob("*")
            if p.suffix.lower() == ".png"
        )

    out = tmp_path / "in" / "out"  # inside the input: a second run must not restore its content
    for _ in range(2):
        assert main([*restore, str(tmp_path / "in"), "--output", str(out)]) == 0
        assert names(out) == ["a.png", "below/a.png", "below/b.PNG"]
    assert (
        main([*restore, str(tmp_path / "in" / "bel*" / "?.png"), "--output", str(tmp_path / "two")])
        == 0
    )
    assert names(tmp_path / "two") == ["below/a.png"]


def test_a_second_run_restores_only_what_changed(checkpoint: Make, tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    command = [
        "restore",
        str(checkpoint(SPEC)),
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]

    def said(*more: str) -> list[str]:
        capsys.readouterr()
        assert main([*command, *more]) == 0
        return [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[:2]]

    assert said() == ["restored", "restored"]
    assert json.loads((tmp_path / "out" / "a.png.lumloss.json").read_text())["input"] == "a.png"
    assert said() == ["already done"] * 2
    save(tmp_path / "in" / "b.png", 255 - pixels((8, 8, 3)))
    assert said() == ["already done", "restored"]
    (tmp_path / "out" / "a.png").unlink()
    assert said() == ["restored", "already done"]
    assert said("--self-ensemble") == ["restored"] * 2
    # A different checkpoint, whose weights have the same digest but whose spec differs
    command[1] = str(checkpoint(f"{SPEC} "))
    assert said("--self-ensemble") == ["restored"] * 2


def test_a_record_always_describes_the_pixels_next_to_it(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    source = save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    before = stored(tmp_path / "out" / "a.png")

    def fill_up(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_json", fill_up)
        assert main([*command, "--self-ensemble"]) == 2
    np.testing.assert_array_equal(stored(tmp_path / "out" / "a.png"), before)
    assert main(command) == 0
    assert "already done" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.lumloss.json"]


def test_foreign_files_are_replaced_only_if_asked(checkpoint: Make, tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    out = tmp_path / "out"
    theirs = save(out / "b.png", np.zeros((8, 8, 3), np.uint8)).read_bytes()
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), f"--output={out}"]
    assert main(command) == 2
    assert (
        f"{out / 'b.png'} was not written by restore. Rename it, choose a different --output, "
        "or use --overwrite" in (capsys.readouterr().err)
    )
    assert os.listdir(out) == ["b.png"] and (out / "b.png").read_bytes() == theirs
    assert main([*command, "--overwrite"]) == 0
    ours = (out / "b.png").read_bytes()
    assert ours != theirs
    (out / "b.png").write_bytes(theirs)
    assert main(command) == 1
    said = capsys.readouterr().out
    assert (
        "1 of 2 photographs are in" in said
        and f"{out / 'b.png'} was changed after restore wrote it. Rename it" in said
    )
    assert main([*command, "--overwrite"]) == 0
    assert (out / "b.png").read_bytes() == ours


def test_a_run_that_is_terminated_leaves_nothing_half_written(
    checkpoint: Make, tmp_path: Path
) -> None:
    source = save(tmp_path / "a.png", pixels((600, 600, 3)))
    code = (
        "import os, signal, sys; from train.__main__ import main; "
        "from train.inference.files import image_files; "
        "image_files._encode = lambda *_: (print(os.listdir(sys.argv[-1])), "
        "os.kill(os.getpid(), signal.SIGTERM)); main(sys.argv[1:])"
    )
    command = ["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PLATFORMS": "cpu",
    }
    run = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 143, run.stderr
    assert ".pixels" in run.stdout and os.listdir(tmp_path / "out") == []


def test_an_unreadable_file_is_reported_and_the_rest_are_done(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    source = save(tmp_path / "in" / "b.png", pixels((64, 64, 3)))
    (tmp_path / "in" / "a.png").write_bytes(source.read_bytes()[:5000])
    (tmp_path / "in" / "c.jpg").write_bytes(b"no photograph")
    save(tmp_path / "in" / "d.png", pixels((8, 8, 3)))
    command = [
        "restore",
        str(checkpoint(SPEC)),
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("2 of 4 photographs are in")
    assert lines[-2].startswith("not restored:") and "a.png cannot be read" in lines[-2]
    assert lines[-1].startswith("not restored:") and "c.jpg cannot be read" in lines[-1]
    assert sorted(os.listdir(tmp_path / "out")) == [
        "b.png",
        "b.png.lumloss.json",
        "d.png",
        "d.png.lumloss.json",
    ]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_damaged_among_its_pixels_is_not_restored(
    checkpoint: Make, tmp_path: Path, capsys, progressive: bool
) -> None:
    source = save(tmp_path / "a.jpg", pixels((64, 64, 3)), interlace=progressive)
    content = source.read_bytes()
    middle = len(content) // 2
    source.write_bytes(content[:middle] + content[middle + 500 :])
    assert (
        main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")])
        == 1
    )
    assert (
        f"not restored: {source} cannot be read as a photograph: VipsJpeg: "
        in capsys.readouterr().out
    )
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (
            SPEC,
            ["{in}/a.png", "{in}/below/a.png", "--output={out}"],
            "would be written to the same file",
        ),
        (SPEC, ["{in}/a.png", "--output={in}"], "would overwrite"),
        (SPEC, ["{in}/missing.png", "--output={out}"], "There is no file or folder"),
        (SPEC, ["{in}/*.gif", "--output={out}"], "holds no photographs"),
        (SPEC, ["{in}/a.txt", "--output={out}"], "a.txt is not a PNG, JPEG, TIFF, BMP or WebP"),
        (SPEC, ["{in}/a.png", "--output={in}/a.txt"], "a.txt is a file"),
        (SPEC, ["{in}/a.png", "--output={out}", "--sigma=25"], "is blind"),
        (TOLD, ["{in}/a.png", "--output={out}", "--sigma=300"], "--sigma must be at most 255"),
        (SPEC, ["{in}/a.png", "--output={out}", "--tile=3"], "Use 5 or more"),
    ],
)
def test_mistakes_are_found_before_any_work(
    checkpoint: Make, tmp_path: Path, capsys, spec: str, arguments: list[str], message: str
) -> None:
    for name in ("a.png", "below/a.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    (tmp_path / "in" / "a.txt").write_text("")
    places = {"in": str(tmp_path / "in"), "out": str(tmp_path / "out")}
    assert (
        main(["restore", str(checkpoint(spec)), *(text.format(**places) for text in arguments)])
        == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not os.listdir(tmp_path / "out")


def test_what_is_not_a_checkpoint_is_an_error(tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "weights").mkdir(parents=True)
    for folder, message in (
        ("missing", "There is no file or folder"),
        ("empty", "holds no photographs"),
        ("other", "damaged: about"),
    ):
        assert (
            main(
                ["restore", str(tmp_path / folder), str(source), "--output", str(tmp_path / "out")]
            )
            == 2
        )
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            "dncnn(depth=3, features=4)",
            "has 4 arrays, and 7 are there: ['batch_stats']['block_0']['norm']['mean'] is none "
            "in that network and (4",
        ),
        (
            "dncnn(depth=2, features=6, batch_norm=False)",
            "has 4 arrays, and 4 are there: ['params']['conv_first']['bias'] is (4,) in that "
            "network and (6",
        ),
    ],
)
def test_weights_of_a_different_network_are_an_error(
    checkpoint: Make, tmp_path: Path, capsys, other: str, message: str
) -> None:
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    shutil.copytree(checkpoint(SPEC), tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "weights")
    shutil.copytree(checkpoint(other) / "weights", tmp_path / "mixed" / "weights")
    assert (
        main(["restore", str(tmp_path / "mixed"), str(source), "--output", str(tmp_path / "out")])
        == 2
    )
    said = capsys.readouterr().err
    assert f'mixed is damaged: weights: "{SPEC}" {message},) on disk; copy' in said


@pytest.mark.parametrize(
    ("name", "flag"), [("net.pth", ()), ("net.pth", ("--network",)), ("notes.txt", ("--network",))]
)
def test_a_file_is_not_a_checkpoint(
    tmp_path: Path, capsys, name: str, flag: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(b"")
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    given = ["--output", str(tmp_path / "out"), *flag, str(tmp_path / name), str(source)]
    assert main(["restore", *given]) == 2
    assert (
        f"{name} is a file, but a checkpoint is a folder. To convert weights of PyTorch"
        in capsys.readouterr().err
    )


def test_fast_is_for_networks_that_attend(checkpoint: Make, tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "a.png", pixels((50, 50, 3)))
    command = [str(source), "--output", str(tmp_path / "out"), "--fast"]
    assert main(["restore", str(checkpoint(SPEC)), *command]) == 0
    assert f"--fast has no effect, because {SPEC} does not attend" in capsys.readouterr().out
    attending = "retinexformer(features=4, levels=1, num_blocks=(0, 1))"
    assert main(["restore", str(checkpoint(attending)), *command, "--tile=40"]) == 0
    assert (
        "fast: the attention was computed on a copy at 1/2 of the size. Measured on a copy of 25x25"
        in capsys.readouterr().out
    )


@pytest.mark.slow
def test_the_size_of_a_tile_matters_only_with_fast(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    source = save(tmp_path / "a.png", pixels((50, 50, 3)))
    attending = str(checkpoint("retinexformer(features=4, levels=1, num_blocks=(0, 1))"))
    command = ["restore", attending, str(source), "--output", str(tmp_path / "out")]
    for options, said in (
        (["--tile=40"], "restored"),
        (["--tile=44"], "already done"),
        (["--tile=40", "--fast"], "restored; fast"),
        (["--tile=40", "--fast"], "already done"),
        (["--tile=44", "--fast"], "restored; fast"),
    ):
        assert main([*command, *options]) == 0
        assert f"a.png: {said}" in capsys.readouterr().out, options
