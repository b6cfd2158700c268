import os
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
import pyvips

from tests.train.inference.stored_images import (
    GREY,
    SPEC,
    TOLD,
    Make,
    pixels,
    restored,
    save,
    stored,
)
from train.__main__ import main
from train.checkpoints.checkpoint import load_network, save_network
from train.data.images import to_float
from train.inference.files import image_files
from train.inference.predictors import predictor_for


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
def test_a_file_keeps_its_format_and_depth(
    checkpoint: Make, tmp_path: Path, name: str, shape: tuple[int, ...], dtype: type
) -> None:
    source = save(
        tmp_path / "in" / name,
        pixels(shape, dtype),
        **({"lossless": True} if "webp" in name else {}),
    )
    assert (
        main(
            [
                "restore",
                str(checkpoint(SPEC)),
                str(source),
                "--output",
                str(tmp_path / "out"),
                "--tile=12",
            ]
        )
        == 0
    )
    written, given = stored(tmp_path / "out" / name), stored(source)
    assert written.dtype == dtype and written.shape == shape
    expected = restored(checkpoint(SPEC), np.ascontiguousarray(given[..., :3]))
    # Tiles may round the last digit differently.
    assert np.abs(written[..., :3].astype(int) - expected).max() <= 1
    assert (written[..., :3] != given[..., :3]).mean() > 0.5
    np.testing.assert_array_equal(written[..., 3:], given[..., 3:])
    assert sorted(os.listdir(tmp_path / "out")) == [name, f"{name}.lumloss.json"]


def test_grey_stays_grey_through_a_colour_network(checkpoint: Make, tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "grey.png", pixels((20, 31)))
    assert (
        main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")])
        == 0
    )
    written, given = stored(tmp_path / "out" / "grey.png"), stored(source)
    assert written.shape == given.shape == (20, 31, 1)
    network = load_network(checkpoint(SPEC))
    colour = predictor_for(network.model, network.params, {}).restore(
        to_float(np.repeat(given, 3, axis=-1))
    )
    np.testing.assert_allclose(written / 255, colour.mean(axis=-1, keepdims=True), atol=0.51 / 255)
    assert "grey, so it was repeated over three channels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "dtype", "spec"),
    [
        ("a.png", np.uint8, SPEC),
        ("a.png", np.uint16, SPEC),
        ("a.webp", np.uint8, SPEC),
        ("a.bmp", np.uint8, GREY),
    ],
)
def test_grey_in_three_channels_is_grey(
    checkpoint: Make, tmp_path: Path, capsys, name: str, dtype: type, spec: str
) -> None:
    grey = np.repeat(pixels((200, 31, 1), dtype), 3, axis=-1)
    if name == "a.bmp":
        PIL.Image.fromarray(grey).save(tmp_path / name)
    else:
        save(tmp_path / name, grey)
    assert (
        main(
            [
                "restore",
                str(checkpoint(spec)),
                str(tmp_path / name),
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    with PIL.Image.open(tmp_path / "out" / name) if name == "a.bmp" else nullcontext() as image:
        written = stored(tmp_path / "out" / name) if image is None else np.asarray(image)
    assert written.shape == grey.shape and written.dtype == dtype
    assert np.ptp(written, axis=-1).max() == 0
    assert (written != grey).mean() > 0.5


def test_one_pixel_of_colour_is_colour(checkpoint: Make, tmp_path: Path) -> None:
    image = np.repeat(pixels((200, 31, 1)), 3, axis=-1)
    image[-1, -1] = (255, 0, 0)
    source = save(tmp_path / "a.png", image)
    assert (
        main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")])
        == 0
    )
    assert np.ptp(stored(tmp_path / "out" / "a.png"), axis=-1).max() > 5


def test_metadata_is_neither_lost_nor_made_up(checkpoint: Make, tmp_path: Path, capsys) -> None:
    tags = {270: "harbour", 271: "Camera's maker", 315: "N. N."}
    image = PIL.Image.fromarray(pixels((8, 9, 3)))
    image.save(tmp_path / "a.tif", tiffinfo=tags)
    image.save(tmp_path / "big.tif", tiffinfo=tags, big_tiff=True)
    for name in ("a.jpg", "a.png", "a.webp", "a.bmp"):
        image.save(tmp_path / name)
    pattern = str(tmp_path / "*.*")
    assert main(["restore", str(checkpoint(SPEC)), pattern, "--output", str(tmp_path / "out")]) == 0
    said = dict(
        line.split(" -> ")[1].split(": ", 1) for line in capsys.readouterr().out.splitlines()[:-1]
    )
    assert set(said.values()) == {"restored"} and len(said) == 6
    for name in ("a.tif", "big.tif"):
        with PIL.Image.open(tmp_path / "out" / name) as written:
            assert {tag: written.tag_v2[tag] for tag in tags} == tags
    for path in tmp_path.glob("a.*"):
        with PIL.Image.open(path) as given, PIL.Image.open(tmp_path / "out" / path.name) as written:
            assert dict(written.getexif()).keys() - {273, 279} <= dict(given.getexif()).keys() | {
                284,
                317,
                339,
            }
            assert written.info.get("dpi") == given.info.get("dpi")


def test_metadata_next_to_the_pixels_are_kept(checkpoint: Make, tmp_path: Path, capsys) -> None:
    profile = (
        pyvips.Image.new_from_array(pixels((8, 8, 3)))
        .copy(interpretation="srgb")
        .icc_transform("p3")
    )
    p3 = profile.get("icc-profile-data")
    fields = {
        "orientation": 6,
        "exif-ifd0-Artist": "N. N. (N. N., ASCII, 6 components, 6 bytes)",
        "icc-profile-data": p3,
    }
    source = save(tmp_path / "turned.jpg", pixels((16, 24, 3)), fields=fields, subsample_mode="on")
    assert (
        main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")])
        == 0
    )
    written = pyvips.Image.new_from_file(str(tmp_path / "out" / "turned.jpg"))
    assert (written.width, written.height, written.get("orientation")) == (24, 16, 6)
    assert written.get("exif-ifd0-Artist").startswith("N. N.")
    assert written.get("icc-profile-data") == p3
    assert written.get("jpeg-chroma-subsample") == "4:4:4"
    expected = restored(checkpoint(SPEC), stored(source))
    expected = stored(save(tmp_path / "expected.jpg", expected, Q=95, subsample_mode="off"))
    assert np.abs(written.numpy().astype(int) - expected).max() <= 2
    # This is what libvips calls its Display P3.
    assert 'its colour profile is "sP3C"' in capsys.readouterr().out


def test_networks_that_need_the_noise_level_get_it(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    smooth = np.linspace(50, 200, 128 * 128 * 3).reshape(128, 128, 3)
    noisy = np.clip(
        np.rint(smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)), 0, 255
    ).astype(np.uint8)
    source = save(tmp_path / "noisy.png", noisy)
    command = ["restore", str(checkpoint(TOLD)), str(source), "--output"]
    assert main([*command, str(tmp_path / "given"), "--sigma=30"]) == 0
    assert main([*command, str(tmp_path / "estimated")]) == 0
    said = capsys.readouterr().out
    estimate = float(said.partition("estimated sigma ")[2].split()[0])
    assert estimate == pytest.approx(12, rel=0.05)
    for folder, sigma in (("given", 30), ("estimated", estimate)):
        expected = restored(checkpoint(TOLD), noisy, sigma=sigma / 255)
        assert np.abs(stored(tmp_path / folder / "noisy.png").astype(int) - expected).max() <= 1
    assert (
        stored(tmp_path / "given" / "noisy.png") != stored(tmp_path / "estimated" / "noisy.png")
    ).any()


@pytest.mark.parametrize(("flat", "known"), [((2,), 12), ((0, 1, 2), 0)])
@pytest.mark.parametrize("level", [0, 200, 255])
def test_flat_channels_are_left_out_of_the_estimate_of_noise(
    checkpoint: Make, tmp_path: Path, capsys, flat: tuple[int, ...], known: float, level: int
) -> None:
    noisy = np.clip(
        np.rint(np.random.default_rng(0).normal(100, 12, (128, 128, 3))), 0, 255
    ).astype(np.uint8)
    noisy[..., flat] = [abs(level - i) for i in flat]  # not grey
    source = save(tmp_path / "night.png", noisy)
    assert (
        main(["restore", str(checkpoint(TOLD)), str(source), "--output", str(tmp_path / "out")])
        == 0
    )
    estimate = float(capsys.readouterr().out.partition("estimated sigma ")[2].split()[0])
    assert estimate == pytest.approx(known, rel=0.05)
    expected = restored(checkpoint(TOLD), noisy, sigma=known / 255)
    assert np.abs(stored(tmp_path / "out" / "night.png").astype(int) - expected).max() <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_whose_output_is_nan_writes_no_photograph(
    tmp_path: Path, capsys, checkpoint: Make, value: float
) -> None:
    network = load_network(checkpoint(SPEC))
    broken = jax.device_get(network.params)
    broken["conv_last"]["bias"] = broken["conv_last"]["bias"] + np.float32(value)
    save_network(tmp_path / "broken", network._replace(params=broken), {})
    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    assert (
        main(["restore", str(tmp_path / "broken"), str(source), "--output", str(tmp_path / "out")])
        == 1
    )
    assert (
        f"not restored: {source}: the output of the network contains NaN or infinity"
        in capsys.readouterr().out
    )
    assert os.listdir(tmp_path / "out") == []


def test_a_grey_network_refuses_photographs_in_colour(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    save(tmp_path / "in" / "colour.png", pixels((8, 8, 3)))
    save(tmp_path / "in" / "grey.png", pixels((8, 8)))
    assert (
        main(
            [
                "restore",
                str(checkpoint(GREY)),
                str(tmp_path / "in"),
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 1
    )
    assert "is in colour, but this network restores grey" in capsys.readouterr().out.replace(
        "\n", " "
    )
    assert stored(tmp_path / "out" / "grey.png").shape == (8, 8, 1)


def test_rows_are_decoded_once_and_may_be_requested_again(tmp_path: Path) -> None:
    array = pixels((50, 7, 3))
    rows = image_files.open_stored(save(tmp_path / "a.png", array)).rows()
    for start, stop in ((0, 10), (4, 14), (4, 14), (14, 15), (20, 50), (49, 50)):
        np.testing.assert_array_equal(rows(start, stop), array[start:stop])
    with pytest.raises(ValueError, match="row 3 was requested, but only rows from 49 are kept"):
        rows(3, 4)


def test_a_bitmap_is_read_and_written_too(checkpoint: Make, tmp_path: Path) -> None:
    array = pixels((8, 9, 3))
    PIL.Image.fromarray(array).save(tmp_path / "a.bmp")
    assert (
        main(
            [
                "restore",
                str(checkpoint(SPEC)),
                str(tmp_path / "a.bmp"),
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    with PIL.Image.open(tmp_path / "out" / "a.bmp") as image:
        assert image.format == "BMP"
        np.testing.assert_array_equal(np.asarray(image), restored(checkpoint(SPEC), array))
