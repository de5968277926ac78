"""Pictures to rows and rows to pictures, by the declared layout, colour mode and value range.

How values are scaled never depends on the values themselves: 0 is the low end of the model's
range and 255 the high end, whatever the picture shows. What colour profiles and gamma say is
passed over: a model was trained on the numbers in the file.
"""

import io
import struct
import zlib
from math import ceil, sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError
from service.specs import ImageSpec, Rows, TensorSpec

FORMATS: Final = ("PNG", "JPEG", "WEBP")

# a JPEG with further pictures behind it, as phones write them (depth, gain map): every viewer shows
# the first
_FIRST_OF_SEVERAL: Final = "MPO"

GAP: Final = 2
MAX_TILES: Final = 256

_EIGHT_BIT_MAX: Final = 255
_SIXTEEN_BITS: Final = 16

# a broken picture can raise any of these from inside its decoder
_DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
)

# bytes of compressed lines, of which at most 4 MB come out
_PIECE_BYTES: Final = 4096

# channels by colour type: grey, colours, palette, grey with alpha, colours with alpha
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# first column and line, and the steps, of the seven passes of an interlaced PNG
_PASSES: Final = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)

# a large picture in small segments takes some thousands; each costs a microsecond or more
_MAX_READS: Final = 100_000

_PNG_SIGNATURE_BYTES: Final = 8
_PNG_DEPTH_AT: Final = 24  # bits a channel, in the header that comes first

# markers of JPEG begin with a byte of their own; some, and what only looks like one, have no length
_MARK: Final = b"\xff"
_WITHOUT_LENGTH: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})
_START_OF_SCAN: Final = 0xDA
_END_OF_JPEG: Final = b"\xff\xd9"


class PixelBudget:
    """Pixels that the pictures of one request may have together, by their headers."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._left = pixels

    def spend(self, size: tuple[int, int]) -> None:
        """Take the pixels of one picture out.

        Raises:
            TooLargeError: There are not so many left.
        """
        pixels = size[0] * size[1]
        if pixels > self._left:
            raise self.exceeded(pixels)
        self._left -= pixels

    def exceeded(self, pixels: int | None = None) -> TooLargeError:
        """Make the error of a picture that asks for more than is left."""
        return TooLargeError(
            f"the pictures of a request may have {self._pixels} pixels",
            expected=f"at most {self._pixels} pixels",
            received=None if pixels is None else f"{self._pixels - self._left + pixels} pixels",
        )


def parse(data: bytes, spec: TensorSpec, *, budget: PixelBudget, resize: bool = False) -> Rows:
    """Read one picture as one row.

    Upright by its EXIF orientation, transparent parts over black, 16 bits scaled to 8; its
    size must be the model's unless *resize* asks for bicubic resizing.

    Raises:
        MalformedBodyError: Not a PNG, JPEG or WebP picture, or a broken one.
        TooLargeError: More pixels than *budget* has left, by its header; or millions of tiny
            segments.
        InvalidRowsError: Another size than the model's, or several frames.
    """
    image = _image_spec(spec)
    try:
        # nothing is decoded before its size is known to be harmless
        with Image.open(_File(data), formats=FORMATS) as picture:
            budget.spend(picture.size)
            if not resize:
                _check_size(picture.size, image.size(spec.shape))
            _check_frames(picture)
            if picture.format == "PNG":
                _scale_transparent_level(picture, data[_PNG_DEPTH_AT])
            upright = _flattened(ImageOps.exif_transpose(picture))
            _check_whole(picture, data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise budget.exceeded() from None
    except UnidentifiedImageError:
        raise MalformedBodyError("not a PNG, JPEG or WebP picture") from None
    except _DECODER_ERRORS:
        raise MalformedBodyError("the picture is broken") from None
    if not resize:
        _check_size(upright.size, image.size(spec.shape), turned=False)
    converted = _fitted(upright, image.size(spec.shape)).convert(image.mode)
    return _to_row(np.asarray(converted), spec, image)


def render(rows: Rows, spec: TensorSpec) -> bytes:
    """Draw rows as one PNG: a single picture, or a contact sheet of several.

    A pixel is round-half-even(255 * clip((v - low) / (high - low), 0, 1)).

    Raises:
        TooLargeError: More rows than a contact sheet holds.
    """
    image = _image_spec(spec)
    low, high = spec.range or (0.0, 1.0)
    return _png([_axes_last(row, image) for row in to_pixels(rows, low, high)])


def render_heat_map(errors: Rows, spec: TensorSpec, high: float) -> bytes:
    """Draw feature errors as one grey PNG, black for none and white from *high* on.

    The scale is fixed by the calibration: with one of its own for each picture, every normal
    picture would show alarms. Colours are averaged.
    """
    image = _image_spec(spec)
    tiles = [_axes_last(row, image) for row in errors]
    grey = [tile.mean(axis=-1) if tile.ndim == 3 else tile for tile in tiles]  # noqa: PLR2004
    return _png([to_pixels(tile, 0.0, high) for tile in grey])


def check_tiles(tiles: int) -> None:
    """See that a contact sheet has room for them.

    Raises:
        TooLargeError: It has not.
    """
    if tiles > MAX_TILES:
        raise TooLargeError(
            f"a PNG answer holds {MAX_TILES} pictures",
            expected=f"at most {MAX_TILES} rows",
            received=f"{tiles} rows",
        )


def to_pixels(values: Rows, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map *low* to 0 and *high* to 255; ``np.rint`` rounds halves to even."""
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(_EIGHT_BIT_MAX * np.clip(share, 0, 1)).astype(np.uint8)


class _File(io.BytesIO):
    """A file that ends the walk of a decoder through endless tiny segments."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise TooLargeError("the picture has too many segments")
        return super().read(size)


def _check_frames(picture: Image.Image) -> None:
    if picture.format != _FIRST_OF_SEVERAL and getattr(picture, "n_frames", 1) > 1:
        raise InvalidRowsError("a picture has several frames", expected="one frame")


def _scale_transparent_level(picture: Image.Image, depth: int) -> None:
    """Bring the level that a PNG names transparent to 8 bits, as Pillow brings its pixels."""
    level = picture.info.get("transparency")
    if depth == _SIXTEEN_BITS and level is not None:
        # the lower half of its pixels is not read, so which ones have that level is not known
        raise InvalidRowsError(
            "a picture of 16 bits names a transparent level",
            expected="8 bits, or an alpha channel",
        )
    if picture.mode == "L" and isinstance(level, int):
        highest = 2**depth - 1
        picture.info["transparency"] = (level & highest) * (_EIGHT_BIT_MAX // highest)


def _check_whole(picture: Image.Image, data: bytes) -> None:
    """See that nothing is missing behind the last pixel, where Pillow may stop to read."""
    if picture.format == "PNG":
        _check_chunks(memoryview(data))
    elif picture.format != "WEBP" and data.find(_END_OF_JPEG, _first_scan(data)) < 0:
        raise MalformedBodyError("the picture is broken")


def _first_scan(data: bytes) -> int:
    """Find where the pixels of a JPEG begin; its header may hold a whole other picture."""
    position = data.index(_MARK, 2)
    while (marker := data[position + 1]) != _START_OF_SCAN:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        behind = position + 1 if marker in _WITHOUT_LENGTH else position + 2 + length
        position = data.index(_MARK, behind)
    return position


def _check_chunks(data: memoryview) -> None:
    """See that every chunk of a PNG is there and undamaged, to the last one."""
    position = _PNG_SIGNATURE_BYTES
    kind = b""
    lines = _Lines()
    while kind != b"IEND":
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        content = data[position + 4 : end]
        kind = bytes(content[:4])
        checksum = zlib.crc32(content).to_bytes(4, "big")
        if data[end : end + 4] != checksum:
            raise MalformedBodyError("the picture is broken")
        lines.take(kind, content[4:])
        position = end + 4
    lines.check()


class _Lines:
    """Looks whether all lines of a PNG are there; Pillow paints those black that are missing."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._missing: int | None = None  # bytes, once there was a header

    def take(self, kind: bytes, content: memoryview) -> None:
        """Look at the next chunk."""
        if (kind == b"IHDR") != (self._missing is None):
            raise MalformedBodyError("the picture is broken")
        if self._missing is None:
            self._missing = _lines_bytes(content)
        elif kind == b"IDAT":
            for start in range(0, len(content), _PIECE_BYTES):
                if self._missing:  # no bytes at most would be no limit
                    piece = content[start : start + _PIECE_BYTES]
                    self._missing -= len(self._stream.decompress(piece, self._missing))

    def check(self) -> None:
        """See that nothing is missing."""
        if self._missing:
            raise MalformedBodyError("the picture is broken")


def _lines_bytes(header: memoryview) -> int:
    """Work out how long the lines of a PNG are together, each with its filter's byte."""
    width, height, depth, kind, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[kind]
    passes = _PASSES if is_interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(
        max(0, lines) * (1 + (columns * bits + 7) // 8) for columns, lines in sizes if columns > 0
    )


def _image_spec(spec: TensorSpec) -> ImageSpec:
    if spec.image is None:
        raise InvalidRowsError("the rows of this model are no pictures")
    return spec.image


def _check_size(
    size: tuple[int, int], wanted: tuple[int | None, int | None], *, turned: bool = True
) -> None:
    """See that a picture has the model's size, or may have it once it is *turned* upright."""
    sizes = [size, size[::-1]] if turned else [size]
    if not any(
        all(want in {None, got} for want, got in zip(wanted, found, strict=True)) for found in sizes
    ):
        raise InvalidRowsError(
            "the picture has another size than the model's; ?resize=true resizes it",
            expected="x".join(str(w or got) for w, got in zip(wanted, size, strict=True)),
            received=f"{size[0]}x{size[1]}",
        )


def _flattened(picture: Image.Image) -> Image.Image:
    """Give 8 bits a channel and no transparency."""
    if picture.mode.startswith("I"):
        # the upper 8 of 16 bits, as Pillow reads colours; grey it would clip to 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        opaque.alpha_composite(picture.convert("RGBA"))
        return opaque.convert("RGB")
    picture.load()
    return picture


def _fitted(picture: Image.Image, size: tuple[int | None, int | None]) -> Image.Image:
    wanted = (size[0] or picture.width, size[1] or picture.height)
    if picture.size == wanted:
        return picture
    plain = picture if picture.mode in {"L", "RGB"} else picture.convert("RGB")
    return plain.resize(wanted, Image.Resampling.BICUBIC)


def _to_row(pixels: npt.NDArray[np.uint8], spec: TensorSpec, image: ImageSpec) -> Rows:
    if image.mode == "L" and image.layout != "HW":
        pixels = pixels[..., np.newaxis]
    if image.layout == "CHW":
        pixels = np.moveaxis(pixels, -1, 0)
    row = _levels(spec)[pixels]
    return np.ascontiguousarray(row[np.newaxis])


def _levels(spec: TensorSpec) -> npt.NDArray[Any]:
    """Give the value of each of the 256 levels in the model's range and dtype."""
    low, high = spec.range or (0.0, 1.0)
    levels = low + (high - low) * (np.arange(256) / _EIGHT_BIT_MAX)
    is_integer = spec.numpy_dtype.kind in "iu"
    return (np.rint(levels) if is_integer else levels).astype(spec.numpy_dtype)


def _axes_last(row: Rows, image: ImageSpec) -> Rows:
    """Bring a row into height, width and, for colours, channel."""
    if image.layout == "CHW":
        row = np.moveaxis(row, 0, -1)
    return row[..., 0] if row.ndim == 3 and row.shape[-1] == 1 else row  # noqa: PLR2004


def _png(tiles: list[npt.NDArray[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_contact_sheet(tiles)).save(buffer, "PNG")
    return buffer.getvalue()


def _contact_sheet(tiles: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Lay tiles of one size out in ceil(sqrt(n)) columns with black gaps."""
    if len(tiles) == 1:
        return tiles[0]
    check_tiles(len(tiles))
    columns = ceil(sqrt(len(tiles)))
    lines = ceil(len(tiles) / columns)
    height, width, *channels = tiles[0].shape
    sheet = np.zeros(
        (lines * (height + GAP) - GAP, columns * (width + GAP) - GAP, *channels), np.uint8
    )
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet
