"""Pictures, with and without resizing, beside Pillow's own reading without our guards."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from service.bodies import picture
from service.specs import ImageSpec, Rows, TensorSpec
from tests.fuzz.harness import Harness, always, call

SPECS = (
    TensorSpec("float32", (1, 4, 4), (0, 1), ImageSpec()),
    TensorSpec("uint8", (3, 4, 3), (0, 255), ImageSpec("RGB", "HWC")),
    TensorSpec("float32", (None, None), (-1, 1), ImageSpec("L", "HW")),
)
MAX_PIXELS = 1 << 16

# of 255: colours are blended, mixed to grey and resized in another order, rounded at each step
_LEVELS_OFF = 3

# a picture with others behind it, of which the first counts
_SEVERAL = "MPO"

_SIXTEEN_BITS = {"I", "I;16", "I;16B", "I;16L"}

Levels = npt.NDArray[np.float64]


def check(data: bytes) -> None:
    for picture_file in {data, _mended(data)}:  # or mutations would not get past the checksums
        _check(picture_file)


def _check(data: bytes) -> None:
    for spec in SPECS:
        for resize in (False, True):
            budget = picture.PixelBudget(MAX_PIXELS)
            rows = call(picture.parse, data, spec, budget=budget, resize=resize).value
            if rows is not None:
                _check_row(rows, data, spec, resize=resize)


def _check_row(rows: Rows, data: bytes, spec: TensorSpec, *, resize: bool) -> None:
    assert rows.dtype == spec.numpy_dtype
    assert len(rows) == 1
    assert spec.accepts_shape(rows.shape[1:])
    assert spec.holds(rows)
    assert spec.image is not None
    if data.startswith(b"\x89PNG"):
        _check_png(data)
    wanted = read(data, spec.image, spec.image.size(spec.shape), resize=resize)
    if wanted is None:
        return
    low, high = spec.range or (0.0, 1.0)
    levels = (rows[0].astype(np.float64) - low) / (high - low) * 255
    if spec.image.layout == "CHW":
        levels = np.moveaxis(levels, 0, -1)
    assert levels.size == wanted.size
    assert np.abs(levels.reshape(wanted.shape) - wanted).max() <= _LEVELS_OFF


def read(
    data: bytes, image: ImageSpec, size: tuple[int | None, int | None], *, resize: bool
) -> Levels | None:
    """The levels of one picture, 0 to 255, by height, width and colour."""
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format in {*picture.FORMATS, _SEVERAL}
        assert opened.width * opened.height <= MAX_PIXELS
        assert opened.format == _SEVERAL or getattr(opened, "n_frames", 1) == 1
        if _has_level_of_few_bits(opened, data):
            return None
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    colours = _over_black(upright)
    wanted = (size[0] or upright.width, size[1] or upright.height)
    if upright.size != wanted:
        assert resize, "another size was taken"
        small = Image.fromarray(np.rint(colours).astype(np.uint8))
        colours = np.asarray(small.resize(wanted, Image.Resampling.BICUBIC), np.float64)
    if image.mode == "L":
        grey: Levels = colours @ np.array([0.299, 0.587, 0.114])
        return grey[..., np.newaxis]
    return colours


def _has_level_of_few_bits(opened: Image.Image, data: bytes) -> bool:
    """Whether a grey PNG of less than 8 bits names a transparent level, which Pillow misreads."""
    is_grey = opened.format == "PNG" and data[24] < 8 and data[25] == 0
    return is_grey and "transparency" in opened.info


def _over_black(upright: Image.Image) -> Levels:
    if upright.mode in _SIXTEEN_BITS:
        grey = np.asarray(upright).astype(np.float64) / 257
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("RGB"), np.float64)
    layers = np.asarray(upright.convert("RGBA"), np.float64)
    return layers[..., :3] * layers[..., 3:] / 255


def _check_png(data: bytes) -> None:
    """See that every line of a PNG that its header promises is there."""
    chunks = list(_chunks(data))
    assert chunks[0][0] == b"IHDR"
    assert chunks[-1] == (b"IEND", b"")
    width, height, depth, kind, *_, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    sizes = _passes(width, height) if interlace else [(width, height)]
    wanted = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)
    pixels = b"".join(part for name, part in chunks if name == b"IDAT")
    stream = zlib.decompressobj()
    count = 0
    for byte in pixels:  # one by one, for what comes behind the last line is nobody's business
        if count < wanted:
            count += len(stream.decompress(bytes([byte])))
    assert count >= wanted, "lines are missing"


def _chunks(data: bytes) -> Any:
    position, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        position += length + 12
        (checksum,) = struct.unpack_from(">I", data, position - 4)
        assert checksum == zlib.crc32(name + content)
        yield name, content


def _passes(width: int, height: int) -> list[tuple[int, int]]:
    """The sizes of the seven passes of an interlaced PNG."""
    starts = [(0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1)]
    steps = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)]
    return [
        (-(-(width - x) // across), -(-(height - y) // down))
        for (x, y), (across, down) in zip(starts, steps, strict=True)
    ]


def _mended(data: bytes) -> bytes:
    """The same PNG with the checksums that its chunks need."""
    out = bytearray(data)
    position = 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        out[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(out)


HARNESS = Harness(
    always(check),
    (
        *(b"\x89PNG\r\n\x1a\n", b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"eXIf"),
        *(b"gAMA", b"iCCP", b"zTXt", b"\xff\xd8"),
        *(b"\xff\xd9", b"\xff\xc0", b"\xff\xc2", b"\xff\xda"),
        *(b"\xff\xe1", b"Exif\0\0", b"MM\0*", b"II*\0", b"\x01\x12", b"JFIF\0", b"Adobe", b"MPF\0"),
        *(b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"\0\0\0\x04"),
        *(b"\x7f\xff\xff\xff", b"\x00\x00\x00\x0d", b"\x08\x02\0\0\0", b"\x10\0\0\0\0"),
    ),
)
