"""Strength and detail: hand-worked cases, independence of strips, and what comes back."""

import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pywt
import scipy.ndimage
from PIL import Image, ImageOps

from tests.train.inference.stored_images import SPEC, Make, pixels, save, stored
from train.__main__ import main
from train.inference.retouch import REACH, SCALE_NOISE, Retouch, noise_of_luma, outstanding
from train.inference.tiles.tiles import photograph_of

_KERNEL = np.array([1, 4, 6, 4, 1]) / 16


def _strips(image: np.ndarray, height: int) -> Iterator[np.ndarray]:
    for top in range(0, len(image), height):
        yield image[top : top + height].copy()


def _read(path: Path) -> np.ndarray:
    """Reads a file that was written again; libvips would remember its earlier content."""
    return np.asarray(Image.open(path))


class _Strip(np.ndarray):
    """An array that can be watched; slices of it keep it alive."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @staticmethod
    def of(array: np.ndarray) -> "_Strip":
        """A copy that owns its memory."""
        strip = np.ndarray.__new__(_Strip, array.shape, array.dtype)
        strip[...] = array
        return strip


def _retouched(retouch: Retouch, restored: np.ndarray, given: np.ndarray, height: int, **options):
    options = {"colours": given.shape[-1], "sigma": 0.1, **options}
    found = retouch.strips(_strips(restored, height), photograph_of(given), **options)
    return np.concatenate(list(found))


def _atrous(image: np.ndarray) -> list[np.ndarray]:
    """The three scales of an image, by scipy."""
    scales = []
    for spacing in (1, 2, 4):
        kernel = np.zeros(4 * spacing + 1)
        kernel[::spacing] = _KERNEL
        smoother = scipy.ndimage.correlate1d(image, kernel, axis=0, mode="mirror")
        smoother = scipy.ndimage.correlate1d(smoother, kernel, axis=1, mode="mirror")
        scales.append(image - smoother)
        image = smoother
    return scales


def test_strength_blends_with_the_input() -> None:
    given, restored = np.full((4, 5, 3), 0.2, np.float32), np.full((4, 5, 3), 0.6, np.float32)
    for strength, expected in ((0, 0.2), (0.25, 0.3), (1, 0.6)):
        result = _retouched(Retouch(strength), restored, given, 3)
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_strength_0_is_the_input_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    given, restored = (rng.random((9, 7, 3)).astype(np.float32) for _ in range(2))
    assert np.array_equal(_retouched(Retouch(0.0), restored, given, 4), given)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 1), (40, 2, 3), (61, 33, 3)])
def test_detail_is_that_of_scipy(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    given = (0.5 + 0.1 * rng.normal(size=shape)).astype(np.float32)
    restored = np.full(shape, 0.5, np.float32)
    weights = [1.0] if shape[-1] == 1 else [0.299, 0.587, 0.114]
    removed = (given.astype(np.float64) - 0.5) @ weights
    noise = 0.02 * (1 if shape[-1] == 1 else np.sqrt(0.299**2 + 0.587**2 + 0.114**2))
    detail = sum(
        pywt.threshold(scale, 1.5 * share * noise, "soft")
        for scale, share in zip(_atrous(removed), SCALE_NOISE, strict=True)
    )
    result = _retouched(Retouch(1.0, 0.5), restored, given, 8, sigma=0.02)
    np.testing.assert_allclose(result, restored + 0.5 * detail[..., None], atol=2e-7)


def test_the_noise_of_each_scale_is_the_norm_of_its_filter() -> None:
    point = np.zeros((65, 65))
    point[32, 32] = 1
    norms = [np.sqrt(np.sum(scale**2)) for scale in _atrous(point)]
    np.testing.assert_allclose(SCALE_NOISE, norms, atol=5e-5)
    assert noise_of_luma(1) == 1
    assert noise_of_luma(3) == pytest.approx(0.66856, abs=5e-6)


@pytest.mark.parametrize("height", [1, 5, 14, 15, 16, 64, 90])
def test_the_result_does_not_depend_on_the_strips(height: int) -> None:
    rng = np.random.default_rng(2)
    given, restored = (rng.random((90, 37, 3)).astype(np.float32) for _ in range(2))
    for retouch in (Retouch(0.3), Retouch(0.7, 0.4), Retouch(1.0, 1.0)):
        whole = _retouched(retouch, restored, given, 90)
        assert np.array_equal(_retouched(retouch, restored, given, height), whole)


def test_a_mirrored_photograph_gives_a_mirrored_result() -> None:
    rng = np.random.default_rng(3)
    given, restored = (rng.random((41, 30, 3)).astype(np.float32) for _ in range(2))
    result = _retouched(Retouch(1.0, 1.0), restored, given, 8)
    for axes in (0, 1, (0, 1)):
        mirrored = _retouched(Retouch(1.0, 1.0), np.flip(restored, axes), np.flip(given, axes), 8)
        assert np.array_equal(np.flip(mirrored, axes), result)


def test_noise_stays_away_and_a_strong_line_returns() -> None:
    rng = np.random.default_rng(4)
    clean = np.full((96, 96, 3), 0.5, np.float32)
    clean[:, 48] = 0.9
    given = clean + rng.normal(0, 0.05, clean.shape).astype(np.float32)
    restored = np.full_like(clean, 0.5)  # The network removed the noise, and the line too.
    result = _retouched(Retouch(1.0, 1.0), restored, given, 96, sigma=0.05)
    away = np.abs(np.arange(96) - 48) > REACH
    assert np.std(result[:, away] - 0.5) < 0.2 * np.std(given[:, away] - 0.5)
    assert np.mean(result[:, 48]) > 0.8
    # What is added is the same in every channel, so colour noise never returns.
    assert np.ptp(result, axis=-1).max() < 1e-6


def test_without_noise_all_of_the_three_scales_returns() -> None:
    rng = np.random.default_rng(5)
    removed = rng.normal(size=(20 + 2 * REACH, 30)).astype(np.float32)
    detail = outstanding(removed, 0.0)
    inner = _atrous(removed.astype(np.float64))
    expected = sum(inner)[REACH:-REACH]
    # At the left and right edge both mirror; above and below the rows are given.
    np.testing.assert_allclose(detail, expected, atol=2e-6)


def test_options_are_recorded_and_repeated_only_if_they_change(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    image = pixels((40, 30, 3))
    save(tmp_path / "in" / "a.png", image)
    out = tmp_path / "out" / "a.png"
    command = [str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]

    def said(*options: str) -> str:
        assert main(["restore", *command, *options]) == 0
        return capsys.readouterr().out.splitlines()[0].rpartition(": ")[2]

    assert said() == "restored"
    full = _read(out).astype(float)
    assert said("--strength", "1") == "already done"
    assert said("--strength", "0.5") == "restored"
    np.testing.assert_allclose(_read(out), (image + full) / 2, atol=1.01)
    assert said("--strength", "0") == "restored"
    assert np.array_equal(_read(out), image)
    assert said("--keep-detail", "1").startswith("restored; estimated sigma")
    assert said("--keep-detail", "1", "--sigma", "10") == "restored"
    assert said("--keep-detail", "1", "--sigma", "10") == "already done"


@pytest.mark.parametrize("options", [["--strength", "0.4"], ["--keep-detail", "0.8"]])
def test_tiles_and_whole_give_the_same(
    checkpoint: Make, tmp_path: Path, options: list[str]
) -> None:
    save(tmp_path / "a.png", pixels((70, 50, 3)))
    found = []
    for tile in ("16", "256"):
        out = tmp_path / tile
        arguments = [str(checkpoint(SPEC)), str(tmp_path / "a.png"), "--output", str(out)]
        assert main(["restore", *arguments, *options, "--tile", tile]) == 0
        found.append(stored(out / "a.png"))
    assert np.array_equal(*found)


@pytest.mark.parametrize("flag", ["--strength", "--keep-detail"])
@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan"])
def test_values_outside_0_to_1_are_refused(flag: str, value: str, capsys) -> None:
    assert main(["restore", "a.png", f"{flag}={value}"]) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(400, 500, 3), (30, 20), (7, 900, 3)])
def test_a_preview_shows_the_centre_at_five_strengths(
    checkpoint: Make, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    save(tmp_path / "a.png", pixels(shape))
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "a.png")]
    options = ["--keep-detail", "0.5", "--sigma", "5", "--output", str(tmp_path / "out")]
    assert main([*command, *options, "--preview"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == [
        "a.png.preview.png"
    ]
    sheet = np.asarray(Image.open(tmp_path / "out" / "a.png.preview.png"))
    height, width = min(shape[0], 320), min(shape[1], 320)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    for i, strength in enumerate((0, 0.25, 0.5, 0.75, 1)):
        out = tmp_path / f"{strength:g}"
        assert main([*command, *options, "--output", str(out), "--strength", str(strength)]) == 0
        expected = stored(out / "a.png").reshape(*shape[:2], -1)
        x = 12 + i * ((sheet.shape[1] - 12) // 5)
        assert (sheet[:34, x - 12 : x] == 255).all(), "two captions overlap"
        shown = sheet[34 : 34 + height, x : x + width]
        assert np.array_equal(
            shown, np.broadcast_to(expected[top : top + height, left : left + width], shown.shape)
        )


def test_a_preview_of_a_phone_s_portrait_is_upright(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(pixels((20, 150, 3))).save(tmp_path / f"{orientation}.png", exif=exif)
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "*.png"), "--preview"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert "8 of 8 previews are in" in capsys.readouterr().out
    for orientation in range(1, 9):
        with Image.open(tmp_path / f"{orientation}.png") as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        sheet = np.asarray(Image.open(tmp_path / "out" / f"{orientation}.png.preview.png"))
        height, width, _ = expected.shape
        assert np.array_equal(sheet[34 : 34 + height, 12 : 12 + width], expected), orientation


def test_a_preview_does_not_keep_the_strips_above_the_centre(
    checkpoint: Make, tmp_path: Path, monkeypatch
) -> None:
    pairs, alive, most = Retouch.pairs, weakref.WeakSet[np.ndarray](), []

    def watched(*arguments, **options) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for given, result in pairs(*arguments, **options):
            given, result = _Strip.of(given), _Strip.of(result)
            alive.update([given, result])
            most.append(len(alive))
            yield given, result

    monkeypatch.setattr(Retouch, "pairs", watched)
    save(tmp_path / "a.png", pixels((2000, 16, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "a.png"), "--preview"]
    assert main([*command, "--tile", "64", "--output", str(tmp_path / "out")]) == 0
    assert len(most) > 10
    assert max(most) <= 4  # a strip, and the one before it, with the same rows of the input


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_preview_of_a_name_that_is_not_text_is_refused_in_one_sentence(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png", pixels((8, 8, 3)))
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    command = ["restore", str(checkpoint(SPEC)), str(folder), "--preview"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 1
    assert "has a name that is not valid UTF-8" in capsys.readouterr().out


def test_a_preview_replaces_only_previews(checkpoint: Make, tmp_path: Path, capsys) -> None:
    save(tmp_path / "a.png", pixels((8, 8, 3)))
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "a.png"), "--preview"]
    command += ["--output", str(tmp_path / "out")]
    sheet = tmp_path / "out" / "a.png.preview.png"
    assert main(command) == main(command) == 0
    save(sheet, pixels((8, 8, 3)))
    before = sheet.read_bytes()
    assert main(command) == 2
    assert "exists and was not written by this command" in capsys.readouterr().err
    assert sheet.read_bytes() == before
    assert main([*command, "--overwrite"]) == 0
    assert sheet.read_bytes() != before
