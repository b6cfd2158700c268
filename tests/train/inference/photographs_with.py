"""A photograph for each cell of the table in docs/photographs.md."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin

from tests.train.data.hostile_images import (
    XMP,
    exif_block,
    plain_tiff,
    png_chunks,
    png_of,
    profile,
    tiff_of,
)
from tests.train.inference.stored_images import pixels

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WebP")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp", "WebP": ".webp"}
_PILLOW = {"WebP": "WEBP"}
_LARGE = bytes(65_000_000)

Make = Callable[[], bytes]


def encoded(name: str, array: np.ndarray, **options: object) -> bytes:
    """Encodes with Pillow, without loss except in JPEG."""
    file = io.BytesIO()
    if name == "WebP":
        options |= {"lossless": True, "exact": True}
    PIL.Image.fromarray(array).save(file, _PILLOW.get(name, name), **options)
    return file.getvalue()


RGB = pixels((9, 12, 3))


def png(*chunks: tuple[bytes, bytes], behind: bool = False, array: np.ndarray = RGB) -> bytes:
    """A PNG with chunks before its pixels or behind them."""
    found = png_chunks(encoded("PNG", array))
    at = len(found) - 1 if behind else 1
    return png_of([*found[:at], *chunks, *found[at:]])


def jpeg(*segments: tuple[int, bytes], behind: bytes = b"", array: np.ndarray = RGB) -> bytes:
    """A JPEG with segments after its first one, and bytes after the picture."""
    content = encoded("JPEG", array)
    at = 4 + int.from_bytes(content[4:6], "big")
    added = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments
    )
    return content[:at] + added + content[at:] + behind


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP with chunks behind its pixels."""
    content = encoded("WebP", RGB, xmp=XMP)
    for name, data in chunks:
        content += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


def tiff(**tags: object) -> bytes:
    """A TIFF with tags: ``t270="text"``."""
    found = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        found[int(name[1:])] = value
        if isinstance(value, bytes):
            found.tagtype[int(name[1:])] = 7
    return encoded("TIFF", RGB, tiffinfo=found)


def bmp(
    *, alpha: bool = False, colour: bytes = b"BGRs", embedded: bytes = b"", resolution: int = 0
) -> bytes:
    """A BMP with the longest header."""
    array = pixels((9, 12, 4 if alpha else 3))
    bits, masks = (
        (32, struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)) if alpha else (24, bytes(16))
    )
    rows = b"".join(array[y][:, [2, 1, 0, 3][: bits // 8]].tobytes() for y in range(8, -1, -1))
    header = struct.pack("<IiiHHII", 124, 12, 9, 1, bits, 3 if alpha else 0, len(rows))
    header += struct.pack("<iiII", resolution, resolution, 0, 0) + masks
    space = (b"DEBM" if embedded else colour).ljust(52, b"\x21" if colour == bytes(4) else b"\0")
    header += space + struct.pack("<4I", 4, 124 + len(rows) if embedded else 0, len(embedded), 0)
    return (
        struct.pack("<2sIHHI", b"BM", 138 + len(rows) + len(embedded), 0, 0, 138)
        + header
        + rows
        + embedded
    )


def deep(name: str) -> bytes:
    """16 bits for each channel, by libvips, since Pillow cannot write such files in colour."""
    import pyvips

    content = pyvips.Image.new_from_array(pixels((9, 12, 3), np.uint16)).write_to_buffer(
        SUFFIXES[name]
    )
    return bytes(content)


def _with_exif(name: str, **options: object) -> bytes:
    return encoded(name, RGB, exif=exif_block(6).tobytes(), **options)


def _transparent(name: str) -> bytes:
    array = pixels((9, 12, 4))
    array[2:5, :, 3] = 0
    return encoded(name, array)


def _four_channels() -> bytes:
    content = encoded("TIFF", pixels((9, 12, 4)))
    tag = content.index(struct.pack("<HHI", 338, 3, 1))
    return content[: tag + 8] + b"\0\0\0\0" + content[tag + 12 :]


def tiff_of_pages(*purposes: int) -> bytes:
    """Makes a page for each value of its purpose tag; 1 means a smaller copy of another page."""
    file = io.BytesIO()
    pages = []
    for number, purpose in enumerate(purposes):
        page = PIL.Image.fromarray(RGB[: 9 - number, : 12 - number])
        page.encoderinfo = {"tiffinfo": {254: purpose}}
        pages.append(page)
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], tiffinfo={254: purposes[0]})
    return file.getvalue()


def _fourth_byte() -> bytes:
    content = bytearray(bmp(alpha=True))
    struct.pack_into("<I", content, 14 + 16, 0)
    content[14 + 40 : 14 + 56] = bytes(16)
    return bytes(content)


def _huge(name: str) -> bytes:
    """A header that claims 40,000 x 40,000 pixels, or as many as the format can express."""
    content = bytearray(encoded(name, RGB))
    if name == "PNG":
        header = (b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
        return png_of([header, *png_chunks(bytes(content))[1:]])
    if name == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", content, at, 40000, 40000)
    elif name == "TIFF":
        return tiff_of(plain_tiff(40000, 40000))
    elif name == "BMP":
        struct.pack_into("<ii", content, 18, 40000, 40000)
    else:
        at = content.index(b"VP8L") + 9
        struct.pack_into("<I", content, at, 16382 | 16382 << 14)
    return bytes(content)


def _heavy(name: str) -> bytes:
    if name == "PNG":
        return png((b"teSt", _LARGE))
    if name == "JPEG":
        return jpeg(*[(0xFE, bytes(65000))] * 1001)
    if name == "TIFF":
        return tiff(t65000=_LARGE)
    if name == "BMP":
        return bmp(embedded=_LARGE)
    return webp((b"teSt", _LARGE))


def _animation(name: str) -> bytes:
    others = [PIL.Image.fromarray(RGB[::-1])]
    return encoded(name, RGB, save_all=True, append_images=others)


def _cmyk(name: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(RGB).convert("CMYK").save(file, name)
    return file.getvalue()


def _several() -> bytes:
    file = io.BytesIO()
    first = PIL.Image.fromarray(RGB)
    first.save(file, "MPO", save_all=True, append_images=[first])
    return file.getvalue()


def _y_cb_cr() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(RGB).convert("YCbCr").save(file, "TIFF")
    return file.getvalue()


_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_LONGER_XMP = (
    b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 4, 0) + b"more"
)
_IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x05\0\x03abc"
_CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
_COLOUR = (
    *((b"gAMA", struct.pack(">I", 100000)), (b"cHRM", _CHROMATICITIES), (b"cICP", b"\x0c\x0d\0\1")),
    *((b"sBIT", b"\5\6\5"), (b"sRGB", b"\0")),
)
_WHITE = (0.3127, 0.329)
_UNICODE = b"Description\0\0\0\0\0" + "\u00fc\u732b".encode()
_TEXTS = (
    *(
        (b"tEXt", b"Creation Time\0today"),
        (b"tEXt", "Author\0Andr\u00e9".encode("latin-1")),
        (b"iTXt", _UNICODE),
    ),
    *((b"zTXt", b"Comment\0\0" + zlib.compress(b"deflated")), (b"tIME", bytes(7))),
)


def _many_scans() -> bytes:
    """A JPEG whose last scan is there a hundred times."""
    content = encoded("JPEG", RGB, progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[start:end] * 100 + content[end:]


MAKERS: dict[tuple[str, str], Make] = {
    ("16 bits for each channel", "PNG"): lambda: deep("PNG"),
    ("16 bits for each channel", "TIFF"): lambda: deep("TIFF"),
    ("colour without a profile", "PNG"): lambda: png(*_COLOUR),
    ("colour without a profile", "TIFF"): lambda: tiff(t318=_WHITE, t319=_WHITE * 3),
    ("colour without a profile", "BMP"): lambda: bmp(colour=bytes(4)),
    ("ICC profile", "BMP"): lambda: bmp(embedded=profile()),
    ("alpha", "BMP"): lambda: bmp(alpha=True),
    ("colour under full transparency", "BMP"): lambda: bmp(alpha=True),
    ("a fourth channel of unstated meaning", "TIFF"): _four_channels,
    ("a fourth channel of unstated meaning", "BMP"): _fourth_byte,
    ("orientation stated only in XMP", "PNG"): lambda: png(
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    ),
    ("orientation stated only in XMP", "JPEG"): lambda: jpeg((0xE1, _XMP_SEGMENT + XMP)),
    ("orientation stated only in XMP", "TIFF"): lambda: tiff(t700=XMP),
    ("orientation stated only in XMP", "WebP"): lambda: encoded("WebP", RGB, xmp=XMP),
    ("XMP", "PNG"): lambda: png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    ("XMP", "JPEG"): lambda: jpeg((0xE1, _XMP_SEGMENT + XMP), (0xE1, _LONGER_XMP)),
    ("XMP", "TIFF"): lambda: tiff(t700=XMP),
    ("XMP", "WebP"): lambda: encoded("WebP", RGB, xmp=XMP),
    ("IPTC", "JPEG"): lambda: jpeg((0xED, _IPTC)),
    ("IPTC", "TIFF"): lambda: tiff(t33723=b"\x1c\x02\x05\0\3abc", t34377=_IPTC[14:]),
    ("comments and text", "PNG"): lambda: png(*_TEXTS),
    ("comments and text", "JPEG"): lambda: jpeg((0xFE, b"caf\xe9"), (0xFE, b"two")),
    ("comments and text", "TIFF"): lambda: tiff(
        t270="harbour", t305="a program", t315="N. N.", t33432="nobody"
    ),
    ("metadata after the pixels", "PNG"): lambda: png(
        (b"eXIf", exif_block().tobytes()[6:]), *_TEXTS, behind=True
    ),
    ("metadata after the pixels", "TIFF"): lambda: tiff(t270="harbour"),
    ("metadata after the pixels", "WebP"): lambda: webp((b"teSt", b"abc")),
    ("resolution", "PNG"): lambda: png((b"pHYs", struct.pack(">IIB", 11811, 3000, 1))),
    ("resolution", "JPEG"): lambda: encoded("JPEG", RGB, dpi=(300, 300)),
    ("resolution", "TIFF"): lambda: encoded("TIFF", RGB, dpi=(300, 299)),
    ("resolution", "BMP"): lambda: bmp(resolution=11811),
    ("data that only one program understands", "PNG"): lambda: png((b"teSt", b"abc")),
    ("data that only one program understands", "JPEG"): lambda: jpeg((0xE5, b"Camera\0abc")),
    ("data that only one program understands", "TIFF"): lambda: tiff(t65000=b"abcdef", t65001=7),
    ("data that only one program understands", "WebP"): lambda: webp((b"teSt", b"abc")),
    ("data that is true only of the old pixels", "PNG"): lambda: png((b"caBX", b"credentials")),
    ("data that is true only of the old pixels", "JPEG"): lambda: jpeg((0xEB, b"JP credentials")),
    ("data that is true only of the old pixels", "TIFF"): lambda: tiff(
        t52545=b"credentials", t37724=b"layers"
    ),
    ("data that is true only of the old pixels", "WebP"): lambda: webp((b"C2PA", b"credentials")),
    ("bytes after the picture", "PNG"): lambda: png() + b"more",
    ("bytes after the picture", "JPEG"): lambda: jpeg(behind=b"more"),
    ("bytes after the picture", "BMP"): lambda: bmp() + b"more",
    ("bytes after the picture", "WebP"): lambda: webp() + b"more",
    ("several pictures that belong together", "JPEG"): _several,
    ("more than 100 scans", "JPEG"): _many_scans,
    ("a gain map for bright screens", "JPEG"): lambda: jpeg(
        (0xE2, b"urn:iso:std:iso:ts:21496:-1\0abcd")
    ),
    ("smaller copies on other pages", "TIFF"): lambda: tiff_of_pages(0, 1),
    ("an animation, or several pages", "PNG"): lambda: _animation("PNG"),
    ("an animation, or several pages", "TIFF"): lambda: _animation("TIFF"),
    ("an animation, or several pages", "WebP"): lambda: _animation("WebP"),
    ("CMYK", "JPEG"): lambda: _cmyk("JPEG"),
    ("CMYK", "TIFF"): lambda: _cmyk("TIFF"),
    ("Y'CbCr without JPEG compression", "TIFF"): _y_cb_cr,
    ("a compression that few programs read", "TIFF"): lambda: encoded(
        "TIFF", RGB, compression="zstd"
    ),
    ("floating-point pixels", "TIFF"): lambda: encoded("TIFF", RGB[..., 0].astype(np.float32)),
}
for _name in FORMATS:
    MAKERS |= {
        ("absence of a stated resolution", _name): lambda name=_name: encoded(name, RGB),
        ("an ending that belongs to another format", _name): lambda name=_name: encoded(name, RGB),
        ("more than 200 megapixels", _name): lambda name=_name: _huge(name),
        ("more than 64 MB of metadata", _name): lambda name=_name: _heavy(name),
    }
    if _name != "WebP":
        MAKERS["grey in one channel", _name] = lambda name=_name: encoded(name, RGB[..., 0])
    if _name != "BMP":
        MAKERS["orientation", _name] = lambda name=_name: _with_exif(name)
        MAKERS["EXIF, including the GPS position", _name] = lambda name=_name: _with_exif(name)
        MAKERS["ICC profile", _name] = lambda name=_name: encoded(name, RGB, icc_profile=profile())
    if _name not in ("BMP", "JPEG"):
        _beside_alpha: dict[str, object] = {"xmp": XMP} if _name == "WebP" else {}
        MAKERS["alpha", _name] = lambda name=_name, more=_beside_alpha: encoded(
            name, pixels((9, 12, 4)), **more
        )
        MAKERS["colour under full transparency", _name] = lambda name=_name: _transparent(name)

SAID = {
    "a fourth channel of unstated meaning": "the restored file lacks the fourth byte of each pixel",
    "data that is true only of the old pixels": "the restored file lacks ",
    "bytes after the picture": "the restored file lacks 4 bytes that follow the picture",
    "several pictures that belong together": "only one of its 2 pictures is kept",
    "a gain map for bright screens": "it has a gain map for bright screens, which is left out",
    "smaller copies on other pages": "the restored file lacks a smaller copy of it on another page",
    "an animation, or several pages": "is an animation of 2 pictures|has 2 pages",
    "CMYK": "is in CMYK",
    "Y'CbCr without JPEG compression": "has Y'CbCr pixels without JPEG compression",
    "a compression that few programs read": "is compressed with Zstandard",
    "floating-point pixels": "of floating-point numbers",
    "more than 200 megapixels": "megapixels, and at most 200 can be read",
    "more than 64 MB of metadata": "has more than 64 MB of metadata",
    "more than 100 scans": "has more than 100 scans|JPEGs of up to 101 scans",
}
