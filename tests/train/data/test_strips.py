"""Photographs that are decoded in strips have the same pixels and need less memory."""

import io
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips

from train.data.images import decode_image, decode_rows, to_float, to_uint8, upright
from train.data.inspection.pixel_inspection import PixelScan
from train.data.inspection.survey import survey
from train.data.photographs import Memory, Photographs
from train.data.pixel_digest import PixelDigest
from train.data.stored import Budget, StoredFile
from train.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def pixels(height: int, width: int, bits: int = 8) -> np.ndarray:
    small = np.random.default_rng(height).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    image = np.asarray(PIL.Image.fromarray(small).resize((width, height)))
    return image if bits == 8 else image.astype(np.uint16) * 200 + 3


def encoded(image: np.ndarray, suffix: str, orientation: int = 1) -> bytes:
    held = pyvips.Image.new_from_array(image).copy()
    held.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return bytes(held.write_to_buffer(suffix))


@pytest.mark.parametrize(
    "suffix", [".png", ".png[interlace]", ".jpg", ".tif", ".tif[tile]", ".webp[lossless]"]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_are_the_rows_of_the_whole(suffix: str, orientation: int) -> None:
    for bits in (8, 16) if "png" in suffix or "tif" in suffix else (8,):
        content = encoded(pixels(700, 50, bits), suffix, orientation)
        whole = decode_image(content, "one")
        rows = decode_rows(content, "one", pixels=50 * 9)
        assert (rows.height, rows.width, rows.bits) == (*whole.shape[:2], bits)
        strips = list(rows.strips)
        assert len(strips) > 40
        np.testing.assert_array_equal(np.concatenate(strips), whole)


def test_bmp_and_wide_photographs_come_in_strips_too(tmp_path: Path) -> None:
    image = pixels(30, 40)
    PIL.Image.fromarray(image).save(tmp_path / "a.bmp")
    rows = decode_rows((tmp_path / "a.bmp").read_bytes(), "a", pixels=3)
    np.testing.assert_array_equal(np.concatenate(list(rows.strips)), image)


def test_damage_below_is_an_error_when_it_is_reached(tmp_path: Path) -> None:
    content = encoded(
        np.random.default_rng(0).integers(0, 256, (900, 90, 3), dtype=np.uint8), ".png"
    )
    rows = decode_rows(content[: len(content) // 2], "cut.png", pixels=90 * 8)
    assert next(rows.strips).shape == (8, 90, 3)
    with pytest.raises(InputError, match=r"cut\.png cannot be read as a photograph"):
        list(rows.strips)
    path = tmp_path / "cut.png"
    path.write_bytes(content[: len(content) // 2])
    (found,) = survey(["cut"], Photographs([StoredFile(str(path), path)], Memory(0)), None)
    assert isinstance(found, InputError)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 3000), (3000, 1), (128, 128), (129, 64), (517, 1031), (1300, 333)]
)
def test_what_is_seen_in_strips_is_what_the_whole_shows(size: tuple[int, int]) -> None:
    height, width = size
    for image in (
        pixels(height, width),
        pixels(height, width, 16),
        pixels(height, width).astype(np.uint16) * 257,
    ):
        glance = PixelScan(height, width, image.dtype.itemsize * 8)
        for top in range(0, height, 7):
            glance.add(image[top : top + 7])
        picture = PIL.Image.fromarray(to_uint8(to_float(image)))
        picture.thumbnail((128, 128))
        np.testing.assert_array_equal(np.asarray(glance.picture()), np.asarray(picture))
        top, left = (max(side - 512, 0) // 2 for side in size)
        np.testing.assert_array_equal(
            glance.middle, to_float(image)[top : top + 512, left : left + 512]
        )
        assert glance.histogram.sum() == pytest.approx(1)


def test_the_digest_does_not_depend_on_strips_or_storage() -> None:
    image = pixels(50, 40)
    deep = image.astype(np.uint16) * 257
    almost = deep.copy()
    almost[-1, -1, -1] ^= 1  # only the last strip shows it
    digests = []
    for array in (image, deep, almost):
        for height in (50, 7, 1):
            digest = PixelDigest(50, 40, array.dtype.itemsize * 8)
            for top in range(0, 50, height):
                digest.add(array[top : top + height])
            digests.append(digest.hexdigest())
    assert len(set(digests[:6])) == 1 and len(set(digests[6:])) == 1 and digests[0] != digests[8]


def test_a_photograph_that_fits_stays_decoded_and_others_do_not(tmp_path: Path) -> None:
    files = []
    for i in range(2):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encoded(pixels(100, 100), ".png"))
        files.append(StoredFile(str(path), path))
    images = Photographs(files, Memory(0.04))  # of one photograph
    for i in range(2):
        with images.opened(i) as rows:
            assert not images.is_decoded(i)
            strips = np.concatenate(list(rows.strips))
        assert images.is_decoded(i) == (i == 0)
        np.testing.assert_array_equal(images[i], strips)
    with images.opened(0) as rows:  # from memory
        np.testing.assert_array_equal(np.concatenate(list(rows.strips)), images[0])


def test_threads_hold_no_more_together_than_the_budget() -> None:
    budget, held, most = Budget(100), [0], [0]
    lock = threading.Lock()

    def work(size: int) -> None:
        for _ in range(20):
            with budget.hold(size):
                with lock:
                    held[0] += size
                    most[0] = max(most[0], held[0] if size <= 100 else 0)
                    assert size <= 100 or held[0] == size  # alone
                with lock:
                    held[0] -= size

    threads = [
        threading.Thread(target=work, args=(size,)) for size in (10, 30, 60, 90, 500, 100, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 0 < most[0] <= 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"format": "JPEG"}, 3),
        ({"format": "JPEG", "progressive": True}, 3 + 6),
        ({"format": "PNG"}, 3),
    ],
)
def test_coefficients_that_a_decoder_holds_count_as_memory(
    options: dict[str, object], expected: int
) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels(40, 24)).save(file, **options)
    assert decode_rows(file.getvalue(), "a").memory == 40 * 24 * expected


@pytest.mark.slow
def test_200_megapixels_are_inspected_in_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    gradient = pyvips.Image.xyz(14_100, 14_100)
    pattern = ((gradient[0] * 3 + gradient[1] * 5) % 65_536).cast("ushort")
    pattern.copy(interpretation="grey16").write_to_file(str(folder / "a.png"), compression=1)
    program = (
        "import resource, sys; from train.__main__ import main; status = main(['data', "
        f"'folder:{folder}', '--test-data=photos', '--validation-data=none', "
        f"'--sheet={tmp_path}/sheet.png']); print(status, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, kilobytes = done.stdout.split()[-2:]
    assert status == "0" and int(kilobytes) < 1_500_000


def test_a_bmp_of_no_rows_is_refused(tmp_path: Path) -> None:
    header = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 4, 0, 1, 24, *[0] * 6
    )
    with pytest.raises(InputError, match="cannot be read as a photograph"):
        decode_image(header, "empty.bmp")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_in_memory_once(orientation: int) -> None:
    stored = np.arange(2300 * 1100 * 3, dtype=np.uint16).reshape(2300, 1100, 3)
    content = encoded(stored, ".png[compression=1]", orientation)
    tracemalloc.start()
    decoded = decode_image(content, "turned.png")
    assert tracemalloc.get_traced_memory()[1] < 1.5 * stored.nbytes
    tracemalloc.stop()
    assert np.array_equal(decoded, upright(stored, orientation))


def test_a_large_bmp_of_one_bit_is_read_strip_by_strip() -> None:
    side = 4000
    start = struct.pack("<2sIHHI", b"BM", 62 + side * side // 8, 0, 0, 62)
    start += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 1, 0, 0, 0, 0, 2, 0) + bytes(
        (0, 0, 0, 0, 255, 255, 255, 0)
    )
    content = start + bytes([0xAA]) * (side * side // 8)
    tracemalloc.start()
    strips = decode_rows(content, "bits.bmp").strips
    sums = [int(strip.sum()) for strip in strips]
    assert tracemalloc.get_traced_memory()[1] < 2 * side * side
    tracemalloc.stop()
    assert sum(sums) == side * side // 2 * 3 * 255 and len(sums) > 10
