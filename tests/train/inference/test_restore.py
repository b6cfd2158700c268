import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
import pyvips

from train.__main__ import main
from train.checkpoint import load_network, save_network
from train.data.images import to_float
from train.inference import image_files
from train.inference.predict import Predictor

ROOT = Path(__file__).resolve().parents[3]
SPEC = "dncnn(depth=2, features=4, batch_norm=False)"
GREY = "dncnn(depth=2, features=4, batch_norm=False, channels=1)"
TOLD = "drunet(features=(2,), blocks=1)"

Make = Callable[[str], Path]


def pixels(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, array: np.ndarray, *, fields: dict[str, object] | None = None, **options: object) -> Path:
    image = pyvips.Image.new_from_array(array)
    for name, value in (fields or {}).items():
        kind = {int: pyvips.GValue.gint_type, bytes: pyvips.GValue.blob_type, str: pyvips.GValue.gstr_type}[type(value)]
        image.set_type(kind, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.write_to_file(str(path), **options)
    return path


def stored(path: Path) -> np.ndarray:
    """The pixels of a file as they are stored: neither turned nor converted."""
    array = pyvips.Image.new_from_file(str(path)).numpy()
    return array if array.ndim == 3 else array[..., None]


def restored(folder: Path, image: np.ndarray, **options: float) -> np.ndarray:
    """By the prediction path itself, of an image in memory, rounded to its own depth."""
    network = load_network(folder)
    predicted = Predictor(network.model, network.params, network.batch_stats).restore(to_float(image), **options)
    return np.rint(predicted * np.iinfo(image.dtype).max).astype(image.dtype)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("8.png", (20, 31, 3), np.uint8),
        ("16.png", (20, 31, 3), np.uint16),
        ("16.tif", (20, 31, 3), np.uint16),
        ("8.webp", (20, 31, 3), np.uint8),
        ("transparent.png", (20, 31, 4), np.uint8),
        ("deep_and_transparent.tiff", (20, 31, 4), np.uint16),
    ],
)
def test_a_file_comes_back_in_its_format_and_depth_with_the_predicted_pixels(
    checkpoint: Make, tmp_path: Path, name: str, shape: tuple[int, ...], dtype: type
) -> None:
    source = save(tmp_path / "in" / name, pixels(shape, dtype), **({"lossless": True} if "webp" in name else {}))
    assert main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out"), "--tile=12"]) == 0
    written, given = stored(tmp_path / "out" / name), stored(source)
    assert written.dtype == dtype and written.shape == shape
    expected = restored(checkpoint(SPEC), np.ascontiguousarray(given[..., :3]))
    assert np.abs(written[..., :3].astype(int) - expected).max() <= 1  # tiles may round the last digit otherwise
    assert (written[..., :3] != given[..., :3]).mean() > 0.5
    np.testing.assert_array_equal(written[..., 3:], given[..., 3:])
    assert sorted(os.listdir(tmp_path / "out")) == [name, f"{name}.json"]


def test_grey_stays_grey_through_a_colour_network(checkpoint: Make, tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "grey.png", pixels((20, 31)))
    assert main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]) == 0
    written, given = stored(tmp_path / "out" / "grey.png"), stored(source)
    assert written.shape == given.shape == (20, 31, 1)
    network = load_network(checkpoint(SPEC))
    colour = Predictor(network.model, network.params, {}).restore(to_float(np.repeat(given, 3, axis=-1)))
    np.testing.assert_allclose(written / 255, colour.mean(axis=-1, keepdims=True), atol=0.51 / 255)
    assert "grey, repeated over three channels" in capsys.readouterr().out


def test_what_stands_beside_the_pixels_is_kept(checkpoint: Make, tmp_path: Path, capsys) -> None:
    profile = pyvips.Image.new_from_array(pixels((8, 8, 3))).copy(interpretation="srgb").icc_transform("p3")
    p3 = profile.get("icc-profile-data")
    fields = {
        "orientation": 6,
        "exif-ifd0-Artist": "N. N. (N. N., ASCII, 6 components, 6 bytes)",
        "icc-profile-data": p3,
    }
    source = save(tmp_path / "turned.jpg", pixels((16, 24, 3)), fields=fields, subsample_mode="on")
    assert main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]) == 0
    written = pyvips.Image.new_from_file(str(tmp_path / "out" / "turned.jpg"))
    assert (written.width, written.height, written.get("orientation")) == (24, 16, 6)
    assert written.get("exif-ifd0-Artist").startswith("N. N.")
    assert written.get("icc-profile-data") == p3
    assert written.get("jpeg-chroma-subsample") == "4:4:4"
    expected = restored(checkpoint(SPEC), stored(source))
    expected = stored(save(tmp_path / "expected.jpg", expected, Q=95, subsample_mode="off"))
    assert np.abs(written.numpy().astype(int) - expected).max() <= 2
    assert 'its colour profile is "sP3C"' in capsys.readouterr().out  # as libvips calls its Display P3


def test_folders_and_patterns_keep_their_paths(checkpoint: Make, tmp_path: Path) -> None:
    for name in ("a.png", "below/a.png", "below/b.PNG", ".hidden.png", "below/.cache/c.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    (tmp_path / "in" / "notes.txt").write_text("no photograph")
    restore = ["restore", str(checkpoint(SPEC))]

    def names(folder: Path) -> list[str]:
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() == ".png")

    out = tmp_path / "in" / "out"  # inside what is searched: a second run must not restore it again
    for _ in range(2):
        assert main([*restore, str(tmp_path / "in"), "--output", str(out)]) == 0
        assert names(out) == ["a.png", "below/a.png", "below/b.PNG"]
    assert main([*restore, str(tmp_path / "in" / "bel*" / "?.png"), "--output", str(tmp_path / "two")]) == 0
    assert names(tmp_path / "two") == ["below/a.png"]


def test_a_second_run_restores_only_what_changed(checkpoint: Make, tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]

    def said(*more: str) -> list[str]:
        capsys.readouterr()
        assert main([*command, *more]) == 0
        return [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[:2]]

    assert said() == ["restored", "restored"]
    assert json.loads((tmp_path / "out" / "a.png.json").read_text())["input"] == "a.png"
    assert said() == ["there already"] * 2
    save(tmp_path / "in" / "b.png", 255 - pixels((8, 8, 3)))
    assert said() == ["there already", "restored"]
    (tmp_path / "out" / "a.png").unlink()
    assert said() == ["restored", "there already"]
    assert said("--self-ensemble") == ["restored"] * 2
    command[1] = str(checkpoint(f"{SPEC} "))  # another folder: weights of the same digest, but not of the same spec
    assert said("--self-ensemble") == ["restored"] * 2


def test_one_unreadable_file_is_named_at_the_end_and_the_rest_are_done(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    source = save(tmp_path / "in" / "b.png", pixels((64, 64, 3)))
    (tmp_path / "in" / "a.png").write_bytes(source.read_bytes()[:5000])
    (tmp_path / "in" / "c.jpg").write_bytes(b"no photograph")
    save(tmp_path / "in" / "d.png", pixels((8, 8, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("2 of 4 photographs are in")
    assert lines[-2].startswith("not restored:") and "a.png cannot be read" in lines[-2]
    assert lines[-1].startswith("not restored:") and "c.jpg cannot be read" in lines[-1]
    assert sorted(os.listdir(tmp_path / "out")) == ["b.png", "b.png.json", "d.png", "d.png.json"]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_damaged_among_its_pixels_is_not_restored(
    checkpoint: Make, tmp_path: Path, capsys, progressive: bool
) -> None:
    source = save(tmp_path / "a.jpg", pixels((64, 64, 3)), interlace=progressive)
    content = source.read_bytes()
    middle = len(content) // 2
    source.write_bytes(content[:middle] + content[middle + 500 :])
    assert main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]) == 1
    assert f"not restored: {source} cannot be read as a photograph: VipsJpeg: " in capsys.readouterr().out
    assert os.listdir(tmp_path / "out") == []


def test_the_noise_level_is_estimated_or_given_where_a_network_takes_it(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    smooth = np.linspace(50, 200, 128 * 128 * 3).reshape(128, 128, 3)
    noisy = np.clip(np.rint(smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)), 0, 255).astype(np.uint8)
    source = save(tmp_path / "noisy.png", noisy)
    command = ["restore", str(checkpoint(TOLD)), str(source), "--output"]
    assert main([*command, str(tmp_path / "given"), "--sigma=30"]) == 0
    assert main([*command, str(tmp_path / "estimated")]) == 0
    said = capsys.readouterr().out
    estimate = float(said.partition("sigma ")[2].split(",")[0])
    assert estimate == pytest.approx(12, rel=0.05)
    for folder, sigma in (("given", 30), ("estimated", estimate)):
        expected = restored(checkpoint(TOLD), noisy, sigma=sigma / 255)
        assert np.abs(stored(tmp_path / folder / "noisy.png").astype(int) - expected).max() <= 1
    assert (stored(tmp_path / "given" / "noisy.png") != stored(tmp_path / "estimated" / "noisy.png")).any()


@pytest.mark.parametrize(("flat", "known"), [((2,), 12), ((0, 1, 2), 0)])
@pytest.mark.parametrize("level", [0, 200, 255])
def test_flat_channels_say_nothing_of_the_noise(
    checkpoint: Make, tmp_path: Path, capsys, flat: tuple[int, ...], known: float, level: int
) -> None:
    noisy = np.clip(np.rint(np.random.default_rng(0).normal(100, 12, (128, 128, 3))), 0, 255).astype(np.uint8)
    noisy[..., flat] = level
    source = save(tmp_path / "night.png", noisy)
    assert main(["restore", str(checkpoint(TOLD)), str(source), "--output", str(tmp_path / "out")]) == 0
    assert float(capsys.readouterr().out.partition("sigma ")[2].split(",")[0]) == pytest.approx(known, rel=0.05)
    expected = restored(checkpoint(TOLD), noisy, sigma=known / 255)
    assert np.abs(stored(tmp_path / "out" / "night.png").astype(int) - expected).max() <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_gives_no_numbers_writes_no_photograph(
    tmp_path: Path, capsys, checkpoint: Make, value: float
) -> None:
    network = load_network(checkpoint(SPEC))
    params = jax.device_get(network.params)
    *_, last = (path for path, _ in jax.tree_util.tree_leaves_with_path(params))
    broken = jax.tree_util.tree_map_with_path(lambda path, x: x * np.float32(value if path == last else 1), params)
    save_network(tmp_path / "broken", network._replace(params=broken), {})
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    assert main(["restore", str(tmp_path / "broken"), str(source), "--output", str(tmp_path / "out")]) == 1
    assert f"not restored: {source}: the network gives values that are not finite" in capsys.readouterr().out
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (SPEC, ["{in}/a.png", "{in}/below/a.png", "--output={out}"], "would be written under one name"),
        (SPEC, ["{in}/a.png", "--output={in}"], "would overwrite"),
        (SPEC, ["{in}/missing.png", "--output={out}"], "There is no file or folder"),
        (SPEC, ["{in}/*.gif", "--output={out}"], "holds no photographs"),
        (SPEC, ["{in}/a.txt", "--output={out}"], "no photograph by its name"),
        (SPEC, ["{in}/a.png", "--output={in}/a.txt"], "cannot be written to"),
        (SPEC, ["{in}/a.png", "--output={out}", "--sigma=25"], "is blind"),
        (TOLD, ["{in}/a.png", "--output={out}", "--sigma=300"], "scale of 0 to 255"),
        (SPEC, ["{in}/a.png", "--output={out}", "--tile=3"], "take 5 or more"),
    ],
)
def test_mistakes_are_found_before_any_work(
    checkpoint: Make, tmp_path: Path, capsys, spec: str, arguments: list[str], message: str
) -> None:
    for name in ("a.png", "below/a.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    (tmp_path / "in" / "a.txt").write_text("")
    places = {"in": str(tmp_path / "in"), "out": str(tmp_path / "out")}
    assert main(["restore", str(checkpoint(spec)), *(text.format(**places) for text in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not os.listdir(tmp_path / "out")


def test_no_checkpoint_and_one_of_another_program_are_said_to_be_so(tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "weights").mkdir(parents=True)
    for folder, message in (("missing", "no folder"), ("empty", "holds no checkpoint"), ("other", "damaged: about")):
        assert main(["restore", str(tmp_path / folder), str(source), "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def test_colour_does_not_go_through_a_grey_network(checkpoint: Make, tmp_path: Path, capsys) -> None:
    save(tmp_path / "in" / "colour.png", pixels((8, 8, 3)))
    save(tmp_path / "in" / "grey.png", pixels((8, 8)))
    assert main(["restore", str(checkpoint(GREY)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 1
    assert "is in colour, and this network restores grey" in capsys.readouterr().out.replace("\n", " ")
    assert stored(tmp_path / "out" / "grey.png").shape == (8, 8, 1)


def test_a_full_disk_stops_the_run_and_leaves_no_half_file(checkpoint: Make, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the first photograph fits, the second does not."""
    save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    save(tmp_path / "in" / "b.png", pixels((200, 200, 3)))
    save(tmp_path / "in" / "c.png", pixels((8, 8, 3)))
    code = (
        "import resource, sys; from train.__main__ import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); sys.exit(main(sys.argv[1:]))"
    )
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2, run.stderr
    assert "b.png could not be written: File too large" in run.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.json"]


def test_a_disk_that_is_full_for_the_encoder_only_leaves_nothing(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    def fill_up(pixels: Path, path: Path, like: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    monkeypatch.setattr(image_files, "_encode", fill_up)
    assert main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")]) == 2
    assert "a.png could not be written: No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == []


def test_rows_are_decoded_once_and_may_be_asked_for_again(tmp_path: Path) -> None:
    array = pixels((50, 7, 3))
    rows = image_files.open_stored(save(tmp_path / "a.png", array)).rows()
    for start, stop in ((0, 10), (4, 14), (4, 14), (14, 15), (20, 50), (49, 50)):
        np.testing.assert_array_equal(rows(start, stop), array[start:stop])
    with pytest.raises(ValueError, match="rows from 49 on are kept"):
        rows(3, 4)


def test_a_bitmap_is_read_and_written_too(checkpoint: Make, tmp_path: Path) -> None:
    array = pixels((8, 9, 3))
    PIL.Image.fromarray(array).save(tmp_path / "a.bmp")
    assert main(["restore", str(checkpoint(SPEC)), str(tmp_path / "a.bmp"), "--output", str(tmp_path / "out")]) == 0
    with PIL.Image.open(tmp_path / "out" / "a.bmp") as image:
        assert image.format == "BMP"
        np.testing.assert_array_equal(np.asarray(image), restored(checkpoint(SPEC), array))
