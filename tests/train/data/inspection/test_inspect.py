import errno
import io
import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from PIL import ImageFont

from train.__main__ import main
from train.data.images import decode_image, is_made_by, read_image, write_image
from train.data.inspection import inspect
from train.data.inspection.contact_sheet import contact_sheet
from train.data.inspection.pixel_inspection import Appearance
from train.data.inspection.similarity import group_similar
from train.data.inspection.survey import survey


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    """Scenes that look nothing like each other."""
    return {
        "cat": skimage.data.chelsea()[:160, :200],
        "cup": skimage.data.coffee()[100:260, 200:400],
        "woman": skimage.data.astronaut()[0:160, 100:300],
        "rocket": skimage.data.rocket()[220:380, 100:300],
    }


def _write(folder: Path, photographs: dict[str, np.ndarray]) -> Path:
    for name, pixels in photographs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, pixels)
    return folder


def _look(image: np.ndarray, degraded: np.ndarray | None = None) -> Appearance:
    """What one photograph or one pair looks like."""
    ((_, seen),) = survey(["one"], [image], None if degraded is None else [degraded])
    return seen


def _said(arguments: list[str], capsys: pytest.CaptureFixture[str], *, status: int) -> str:
    assert main(["data", *arguments]) == status
    return capsys.readouterr().out


def test_a_sound_data_set_is_described_and_drawn(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write(
        tmp_path / "data", {f"{name}.png": photographs[name] for name in ("cat", "cup", "woman")}
    )
    write_image(data / "deep.tif", (photographs["cup"][:100, ::-1].astype(np.uint16) * 257))
    (data / "phone.HEIC").touch()
    test = _write(tmp_path / "test", {"rocket.png": photographs["rocket"]})
    sheet = tmp_path / "new" / "sheet.png"
    flags = [
        f"folder:{data}",
        "--validation-data=none",
        f"--test-data=folder:{test}",
        f"--sheet={sheet}",
    ]
    said = _said(flags, capsys, status=0)
    assert "There are no problems." in said and "Problems (" not in said
    assert f"folder:{data}: 1 .heic file was skipped." in said
    train, tested = (
        next(line for line in said.splitlines() if f"│ {split} " in line)
        for split in ("train", "test")
    )
    for words in ("4", "200x100 and 200x160", "0.12", "8 and 16"):
        assert words in train
    for words in ("1", "200x160", "0.03"):
        assert words in tested
    assert str(sheet) in said
    # Four thumbnails of 128 pixels across, and one below them.
    assert read_image(sheet).shape[1] == 4 * (128 + 8) + 8


def test_everything_that_is_wrong_is_said_at_once(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat, cup = photographs["cat"], photographs["cup"]
    data = _write(tmp_path / "data", {"cat.png": cat, "cup.png": cup, "b/copy.tif": cup})
    (data / "empty.jpg").touch()
    (data / "cut.png").write_bytes((data / "cat.png").read_bytes()[:900])
    smaller = cat[::2, ::2]
    test = _write(tmp_path / "test", {"cup again.bmp.png": cup, "smaller.png": smaller})
    flags = [
        f"folder:{data}",
        "--validation-data=none",
        f"--test-data=folder:{test}",
        f"--sheet={tmp_path}/s.png",
    ]
    said = _said(flags, capsys, status=1)
    for sentence in (
        "empty.jpg is empty",
        "cut.png cannot be read as a photograph",
        "b/copy.tif (train) and cup.png (train) have the same pixels.",
        "3 photographs have the same pixels but are in different splits: b/copy.tif, cup.png "
        "(train); cup again.bmp.png (test).",
        "cat.png (train) and smaller.png (test) look alike but are in different splits.",
    ):
        assert sentence in said
    assert "cat.png (train) and cup" not in said
    sheet = read_image(tmp_path / "s.png")
    assert np.all(sheet == (220, 30, 30), axis=2).sum() > 4 * 3 * 100  # red frames


def test_pairs_that_do_not_fit_are_named(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(photographs)
    high = _write(tmp_path / "high", {f"{name}.png": photographs[name] for name in names})
    moved = np.roll(photographs["cup"], (-3, 5), axis=(0, 1))
    low = {
        "cat": photographs["cat"] // 4,
        "cup": moved,
        "woman": photographs["rocket"],
        "rocket": photographs["rocket"][:, 1:],
    }
    _write(
        tmp_path / "low",
        {f"{name}.png": pixels for name, pixels in (*low.items(), ("alone", moved))},
    )
    said = _said([f"pairs:{tmp_path}/low,{high}", f"--sheet={tmp_path}/s.png"], capsys, status=1)
    for sentence in (
        f"low/alone.png has no partner: alone is missing from {high}.",
        "rocket: the input has 199x160 pixels, and the target has 200x160.",
        "the input fits the target better if it is moved 3 pixels down and 5 pixels to the left.",
        "the input and the target seem to show different scenes (correlation ",
    ):
        assert sentence in said
    assert re.search(r"cup \(\w+\): .* fits", said) and re.search(r"woman \(\w+\): .* scenes", said)
    assert "cat (" not in said  # darker, but not moved


def test_a_folder_that_is_named_twice_is_wrong(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write(tmp_path / "data", {f"{name}.png": photographs[name] for name in photographs})
    (tmp_path / "link").symlink_to(data)
    spec = f"pairs:{data},{tmp_path / 'link'}"
    flags = [spec, f"--test-data={spec}", "--validation-data=none", f"--sheet={tmp_path / 's.png'}"]
    said = _said(flags, capsys, status=1)
    assert said.count("input and target are the same photograph in all 4 pairs") == 1
    assert "Is one folder named twice?" in said and "There are no problems." not in said


@pytest.mark.parametrize("sigma", [0, 15, 50])
def test_the_noise_of_the_input_is_estimated(
    sigma: int, photographs: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    # Far from black and white, so that clipping does not remove noise
    clean = photographs["cat"] // 2 + 64
    noisy = np.clip(clean + rng.normal(0, sigma, clean.shape), 0, 255).astype(np.uint8)
    seen = _look(clean, noisy)
    assert seen.noise == pytest.approx(sigma, abs=1.5, rel=0.1)
    assert seen.complaint == ""


def test_the_histogram_is_of_luma(photographs: dict[str, np.ndarray]) -> None:
    seen = _look(np.repeat(np.uint8([[[255, 0, 0]], [[255, 255, 255]]]), 4, axis=1))
    # Red is 0.299
    np.testing.assert_array_equal(seen.histogram, [0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0.5])


def test_photographs_too_small_or_too_plain_are_not_judged() -> None:
    for pixels in (np.zeros((1, 1, 3), np.uint8), np.full((40, 40, 3), 9, np.uint8)):
        seen = _look(pixels, pixels)
        assert seen.complaint == ""
        assert np.isnan(seen.noise) or seen.noise == 0


def test_likeness_survives_recompression_and_tells_scenes_apart(
    photographs: dict[str, np.ndarray],
) -> None:
    scenes = list(photographs.values())
    small = []
    for image in scenes:
        file = io.BytesIO()
        PIL.Image.fromarray(image).reduce(2).save(file, "JPEG", quality=50)
        small.append(decode_image(file.getvalue(), "small"))
    groups = group_similar([_look(image).perceptual_hash for image in [*scenes, *small]])
    np.testing.assert_array_equal(groups[: len(scenes)], groups[len(scenes) :])
    assert len(set(groups)) == len(scenes)


def test_a_folder_is_written_as_a_data_set_and_looked_at(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow_datasets")
    data = _write(tmp_path / "cats", {"cat.png": photographs["cat"]})
    (tmp_path / "cats" / "camera.heic").write_bytes(b"raw")
    (tmp_path / "cats" / "gone").symlink_to(tmp_path / "nowhere")
    flags = [
        f"folder:{data}",
        "--prepare",
        f"--data-dir={tmp_path}/tfds",
        f"--sheet={tmp_path}/s.png",
    ]
    flags += [f"--test-data=folder:{_write(tmp_path / 'test', {'cup.png': photographs['cup']})}"]
    flags += ["--validation-data=none"]
    said = _said(flags, capsys, status=0)
    assert f"Read it as tfds:{tmp_path}/tfds/restoration_folder/cats/1.0.0:train" in said
    # Files that were not written are reported now, since the data set does not know about them.
    assert "1 .heic file was skipped." in said and "nowhere, which does not exist." in said


def test_what_fit_would_refuse_is_wrong(
    photographs: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(
        tmp_path,
        {
            "low/cat.png": photographs["cat"][:30, :40] // 2,
            "high/cat.png": photographs["cat"][:30, :40],
            "test/tiny.png": photographs["woman"][:10, :11],
            "test/cup.png": photographs["cup"],
        },
    )
    data, sheet = f"pairs:{tmp_path}/low,{tmp_path}/high", f"--sheet={tmp_path}/s.png"
    said = _said([data, sheet, "--patch-size=30"], capsys, status=1)
    assert "fit cannot split the photographs: " in said
    assert "It has 1 photograph, and none was set aside for testing" in said
    assert "│ 1 pair │" in said
    flags = [data, sheet, f"--test-data=folder:{tmp_path}/test"]
    said = _said(flags, capsys, status=1)
    assert "cat (train): it has 40x30 pixels, and a training patch needs 40x40." in said
    assert "tiny.png (test): it has 11x10 pixels, and scoring needs 11x11." in said
    assert "No photograph fell into the tenth that is set aside for validation" in said
    (tmp_path / "test" / "tiny.png").unlink()
    assert "There are no problems." in _said([*flags, "--patch-size=30"], capsys, status=0)


@pytest.mark.parametrize("length", [18, 26, 30, 53, 60])
def test_a_bmp_that_ends_in_its_header_is_reported(
    length: int,
    photographs: dict[str, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _write(tmp_path, {"cup.png": photographs["cup"]})
    whole = io.BytesIO()
    PIL.Image.fromarray(photographs["cat"]).save(whole, "BMP")
    (tmp_path / "cut.bmp").write_bytes(whole.getvalue()[:length])
    flags = [f"folder:{tmp_path}", f"--sheet={tmp_path}/s.png"]
    said = _said(flags, capsys, status=1)
    assert "cut.bmp cannot be read as a photograph" in said
    assert "│ train" in said


def test_where_nothing_can_be_used_that_is_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no photograph")
    said = _said([f"folder:{tmp_path}", f"--sheet={tmp_path}/s.png"], capsys, status=1)
    assert f"folder:{tmp_path} holds no photograph that can be used." in said


@pytest.mark.parametrize(
    ("sheet", "reason"),
    [
        ("sheet.gif", "must be a name that ends in .png, .jpg, "),
        ("sheet", "must be a name that ends in .png, .jpg, "),
        ("a.png/new/sheet.png", "cannot be written: .*a.png is in the way"),
        ("folder.png", "cannot be written: .*folder.png is in the way"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_refused_first(
    sheet: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no photograph")
    (tmp_path / "folder.png").mkdir()
    assert main(["data", f"folder:{tmp_path}", f"--sheet={tmp_path / sheet}"]) == 2
    assert re.search(f"--sheet.* {reason}", capsys.readouterr().err)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_of_others_is_replaced_only_when_told_to(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / f"contact_sheet{suffix}"
    write_image(sheet, np.zeros((8, 8, 3), np.uint8))
    theirs = sheet.read_bytes()
    command = ["data", "photos", f"--sheet={sheet}"]
    assert main(command) == 2
    assert f"--sheet: {sheet} exists and was not written by this command" in capsys.readouterr().err
    assert sheet.read_bytes() == theirs
    # The other endings differ only in how the sheet is recognized, so one inspection is enough.
    if suffix == ".png":
        assert main([*command, "--overwrite"]) == main(command) == 0
    else:
        write_image(sheet, np.zeros((8, 8, 3), np.uint8), made_by=inspect._PROGRAM)
        inspect.check_replaceable(
            sheet,
            lambda path: is_made_by(path, inspect._PROGRAM),
            option="--sheet",
            overwrite=False,
        )


def test_a_sheet_on_a_full_disk_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(inspect, "write_image", fill_up)
    assert main(["data", "photos", f"--sheet={tmp_path / 's.png'}"]) == 2
    assert capsys.readouterr().err.endswith(
        "s.png could not be written: No space left on device.\n"
    )


def test_what_is_not_there_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "folder:nowhere"]) == 2
    assert "There is no folder nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_name_of_thousands_of_characters_is_measured_a_few_times_only(monkeypatch) -> None:
    measure, measured = ImageFont.FreeTypeFont.getlength, []

    def counting(font: ImageFont.FreeTypeFont, text: str) -> float:
        measured.append(text)
        return measure(font, text)

    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", counting)
    pixels = np.zeros((12, 128, 3), np.uint8)
    contact_sheet([("train: 1", [("folder/" * 560 + "image.png", pixels, False)])])
    assert measured[-1].endswith("image.png") and sum(map(len, measured)) < 10_000
