import struct
import zlib

import numpy as np
import pytest

from train.data.images import decode_image
from train.study.picture_files import encode_alike, without_padding
from train.study.pictures import find_place


def chunks(file: bytes) -> list[bytes]:
    """Names of the chunks of a PNG file; each checksum is checked."""
    place, names = 8, []
    while place < len(file):
        (length,) = struct.unpack(">I", file[place : place + 4])
        content = file[place + 4 : place + 8 + length]
        assert struct.unpack(">I", file[place + 8 + length : place + 12 + length])[0] == zlib.crc32(
            content
        )
        names.append(content[:4])
        place += 12 + length
    return names


def test_files_have_one_length_and_no_metadata():
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 256, (40, 50, 3), dtype=np.uint8),
        np.full((64, 20, 3), 7, np.uint8),
        random.integers(0, 3, (40, 50, 3), dtype=np.uint8),
    ]
    files = encode_alike(images)
    assert len(set(map(len, files))) == 1
    for file, image in zip(files, images, strict=True):
        assert set(chunks(file)) == {b"IHDR", b"IDAT", b"paDd", b"IEND"}
        assert chunks(file)[-2:] == [b"paDd", b"IEND"]
        np.testing.assert_array_equal(decode_image(file, "picture"), image)
        bare = without_padding(file)
        assert set(chunks(bare)) == {b"IHDR", b"IDAT", b"IEND"}
        np.testing.assert_array_equal(decode_image(bare, "picture"), image)
    assert len(without_padding(files[1])) < 300 < len(files[1])


def test_the_place_is_where_results_differ_most():
    one = np.zeros((100, 90, 3), np.uint8)
    other = one.copy()
    other[60:70, 30:40] = 50  # the only difference
    other[0:5, 0:5] = 9  # a smaller one elsewhere
    rows, columns = find_place([one, other], 20)
    assert rows.stop - rows.start == columns.stop - columns.start == 20
    assert rows.start <= 60 and rows.stop >= 70 and columns.start <= 30 and columns.stop >= 40


@pytest.mark.parametrize("side", [None, 100, 500])
def test_a_photograph_that_is_smaller_than_the_crop_is_shown_whole(side):
    image = np.zeros((100, 90, 3), np.uint8)
    assert find_place([image, image], side) == (slice(0, 100), slice(0, 90))
