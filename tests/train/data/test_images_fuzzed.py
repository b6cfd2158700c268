import io

import hypothesis
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.slow_cases import slow_for
from train.data.images import decode_image
from train.errors import InputError


def _encoded(kind: str) -> bytes:
    rows, columns = np.mgrid[0:24, 0:20]
    image = Image.fromarray(
        np.stack([rows * 9, columns * 11, (rows ^ columns) * 7], axis=2).astype(np.uint8)
    )
    options = {"TIFF": {"compression": "tiff_lzw"}, "JPEG": {"quality": 90}}.get(kind, {})
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


KINDS = {kind: _encoded(kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")}
each_kind = slow_for("kind", KINDS, ["BMP", "TIFF", "WEBP"])
WHOLE = {kind: decode_image(content, kind) for kind, content in KINDS.items()}


@each_kind
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=100)
def test_a_truncated_photograph_is_refused_or_whole(kind: str, data: st.DataObject) -> None:
    content = KINDS[kind][: data.draw(st.integers(0, len(KINDS[kind]) - 1))]
    try:
        # The part that was cut off did not hold pixels
        np.testing.assert_array_equal(decode_image(content, "cut"), WHOLE[kind])
    except InputError as error:
        assert str(error).startswith("cut ")


@each_kind
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=200)
def test_flipped_bits_give_pixels_or_a_sentence(kind: str, data: st.DataObject) -> None:
    content = bytearray(KINDS[kind])
    # Headers are short and decide most: half of the flips fall into the first hundred bytes.
    places = st.one_of(st.integers(0, min(100, len(content)) - 1), st.integers(0, len(content) - 1))
    for place, bit in data.draw(
        st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=4)
    ):
        content[place] ^= 1 << bit
    try:
        pixels = decode_image(bytes(content), "flipped")
        assert pixels.dtype in (np.uint8, np.uint16)
        assert pixels.ndim == 3 and pixels.shape[2] == 3
    except InputError as error:
        assert str(error).startswith("flipped ")
        assert "\n" not in str(error)
