"""Pictures: one defined result for each kind, refusal before harm, pixels by the formula."""

import io
import struct
import zlib
from fractions import Fraction
from math import ceil, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from service.bodies import picture
from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError
from service.specs import ImageSpec, TensorSpec

PIXELS = 10_000
BYTES = (0.0, 255.0)  # a range in which a value is its pixel

GREY = TensorSpec("float32", (1, 2, 3), BYTES, ImageSpec())
COLOUR = TensorSpec("float32", (3, 2, 3), BYTES, ImageSpec("RGB"))
ANY_GREY = TensorSpec("float32", (1, None, None), BYTES, ImageSpec())
ANY_COLOUR = TensorSpec("float32", (3, None, None), BYTES, ImageSpec("RGB"))

RAMP = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)


def written(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(pixels, **options):
    return written(Image.fromarray(np.asarray(pixels)), "PNG", **options)


def parse(data, spec=GREY, *, resize=False, pixels=PIXELS):
    return picture.parse(data, spec, budget=picture.PixelBudget(pixels), resize=resize)


def grey_of(image, **options):
    """Read a picture of any size as one grey plane of bytes."""
    return parse(written(image, **options), ANY_GREY)[0, 0]


def colours_of(image, **options):
    """Read a picture of one pixel as its three colours."""
    return parse(written(image, **options), ANY_COLOUR)[0, :, 0, 0].tolist()


def drawn(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def chunk(kind, content=b""):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def claiming_png(width, height):
    """A PNG of one pixel's data whose header claims any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND")


def claiming_jpeg(width, height):
    data = bytearray(written(Image.new("L", (1, 1)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def claiming_webp(width, height):
    """An animation of one frame of one pixel on a canvas of any size."""
    still = written(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = (
        (b"VP8X", bytes([2, 0, 0, 0]) + canvas),
        (b"ANIM", bytes(6)),
        (b"ANMF", bytes(12) + b"\1\0\0\0" + still),
    )
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (TensorSpec("float32", (1, 2, 3), BYTES, ImageSpec("L", "CHW")), (1, 1, 2, 3)),
        (TensorSpec("float32", (2, 3, 1), BYTES, ImageSpec("L", "HWC")), (1, 2, 3, 1)),
        (TensorSpec("float32", (2, 3), BYTES, ImageSpec("L", "HW")), (1, 2, 3)),
    ],
    ids=["CHW", "HWC", "HW"],
)
def test_a_grey_picture_lies_in_the_models_layout(spec, shape):
    rows = parse(png(RAMP), spec)

    assert rows.shape == shape
    assert rows.ravel().tolist() == RAMP.ravel().tolist()
    assert rows.flags.c_contiguous


@pytest.mark.parametrize(
    ("spec", "order"),
    [
        (TensorSpec("uint8", (3, 2, 3), BYTES, ImageSpec("RGB", "CHW")), (2, 0, 1)),
        (TensorSpec("uint8", (2, 3, 3), BYTES, ImageSpec("RGB", "HWC")), (0, 1, 2)),
    ],
    ids=["CHW", "HWC"],
)
def test_a_coloured_picture_lies_in_the_models_layout(spec, order):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)

    rows = parse(png(pixels), spec)

    np.testing.assert_array_equal(rows[0], pixels.transpose(order))
    assert rows.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "low_high", "values"),
    [
        ("float32", (0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("float32", (-1, 1), [-1, -0.6, -0.2, 0.2, 0.6, 1]),
        ("float64", (0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("float16", (0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("float32", (0, 255), [0, 51, 102, 153, 204, 255]),
        ("uint8", (0, 255), [0, 51, 102, 153, 204, 255]),
        ("int8", (-128, 127), [-128, -77, -26, 25, 76, 127]),
        ("int32", (0, 10), [0, 2, 4, 6, 8, 10]),
    ],
)
def test_black_is_the_low_end_and_white_the_high_end(dtype, low_high, values):
    spec = TensorSpec(dtype, (1, 2, 3), low_high, ImageSpec())

    rows = parse(png(RAMP), spec)

    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows.ravel(), np.array(values, dtype))


def test_the_scale_does_not_depend_on_what_the_picture_shows():
    spec = TensorSpec("float32", (1, 2, 3), (0, 1), ImageSpec())

    dark = parse(png(np.ones((2, 3), np.uint8)), spec)

    np.testing.assert_array_equal(dark, np.full((1, 1, 2, 3), 1 / 255, np.float32))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_lossless_picture_is_read_exactly(file_format):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14

    data = written(Image.fromarray(pixels), file_format, lossless=True)

    np.testing.assert_array_equal(parse(data, COLOUR)[0], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_jpeg_of_one_level_is_read(level):
    data = written(Image.new("L", (3, 2), level), "JPEG", quality=100)

    assert set(parse(data).ravel()) == {float(level)}


@pytest.mark.parametrize(
    ("colour", "level"),
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((9, 9, 9), 9)],
    ids=["red", "green", "blue", "grey"],
)
def test_colours_become_grey_by_their_luma(colour, level):
    assert grey_of(Image.new("RGB", (1, 1), colour)) == level


def test_grey_becomes_three_equal_colours():
    assert colours_of(Image.new("L", (1, 1), 100)) == [100, 100, 100]


@pytest.mark.parametrize(
    ("alpha", "colours"),
    [(255, [200, 100, 0]), (0, [0, 0, 0]), (128, [100, 50, 0])],
    ids=["opaque", "transparent", "half"],
)
def test_transparent_parts_lie_over_black(alpha, colours):
    assert colours_of(Image.new("RGBA", (1, 1), (200, 100, 0, alpha))) == colours


@pytest.mark.parametrize(("alpha", "level"), [(255, 200), (0, 0), (128, 100)])
def test_transparent_grey_lies_over_black(alpha, level):
    assert grey_of(Image.new("LA", (1, 1), (200, alpha))) == level


def test_one_colour_may_be_the_transparent_one():
    image = Image.fromarray(np.array([[[9, 9, 9], [8, 8, 8]]], np.uint8))

    assert grey_of(image, transparency=(9, 9, 9)).tolist() == [[0, 8]]


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)

    rows = parse(written(image), ANY_COLOUR)

    assert rows[0, :, 0].T.tolist() == [[10, 20, 30], [200, 100, 0]]


def test_a_transparent_entry_of_a_palette_is_black():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)

    rows = parse(written(image, transparency=0), ANY_COLOUR)

    assert rows[0, :, 0].T.tolist() == [[0, 0, 0], [200, 100, 0]]


def test_one_bit_is_black_or_white():
    assert grey_of(Image.fromarray(np.array([[True, False]]))).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("value", "level"), [(0, 0), (255, 0), (256, 1), (257, 1), (32768, 128), (65535, 255)]
)
def test_of_sixteen_bits_the_upper_eight_count(value, level):
    pixels = np.array([[value]], np.uint16)

    assert grey_of(Image.fromarray(pixels)) == level
    assert colours_of(Image.fromarray(pixels)) == [level] * 3


@pytest.mark.parametrize(("key", "level"), [(0, 255), (255, 0)], ids=["white", "black"])
def test_printing_colours_become_light(key, level):
    data = written(Image.new("CMYK", (3, 2), (0, 0, 0, key)), "JPEG", quality=100)

    assert set(parse(data).ravel()) == {float(level)}
    assert set(parse(data, COLOUR).ravel()) == {float(level)}


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[0, 51, 102], [153, 204, 255]]),
        (2, [[102, 51, 0], [255, 204, 153]]),
        (3, [[255, 204, 153], [102, 51, 0]]),
        (4, [[153, 204, 255], [0, 51, 102]]),
        (5, [[0, 153], [51, 204], [102, 255]]),
        (6, [[153, 0], [204, 51], [255, 102]]),
        (7, [[255, 102], [204, 51], [153, 0]]),
        (8, [[102, 255], [51, 204], [0, 153]]),
        (9, [[0, 51, 102], [153, 204, 255]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_is_turned_upright(orientation, upright, dtype):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = RAMP if dtype == np.uint8 else RAMP.astype(np.uint16) * 257

    assert grey_of(Image.fromarray(pixels), exif=exif).tolist() == upright


def test_the_size_that_counts_is_that_of_the_upright_picture():
    exif = Image.Exif()
    exif[0x0112] = 6

    assert parse(png(RAMP.T, exif=exif), GREY).shape == (1, 1, 2, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_picture_with_broken_exif_is_read_as_it_lies():
    assert parse(png(RAMP, exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff")).ravel()[1] == 51


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 5), "5x4"),
        ((1, 3, 2), "2x3"),
        ((1, 2, 4), "4x2"),
        ((1, 4, None), "3x4"),
        ((1, None, 5), "5x2"),
    ],
)
def test_a_picture_of_another_size_is_refused(shape, expected):
    with pytest.raises(InvalidRowsError, match="another size") as caught:
        parse(png(RAMP), TensorSpec("float32", shape, BYTES, ImageSpec()))

    assert (caught.value.expected, caught.value.received) == (expected, "3x2")


@pytest.mark.parametrize(
    ("shape", "resized"),
    [
        ((1, 4, 5), (1, 1, 4, 5)),
        ((1, 1, 1), (1, 1, 1, 1)),
        ((1, 7, None), (1, 1, 7, 3)),
        ((1, None, 7), (1, 1, 2, 7)),
        ((1, None, None), (1, 1, 2, 3)),
    ],
)
def test_a_picture_is_resized_when_asked(shape, resized):
    spec = TensorSpec("float32", shape, BYTES, ImageSpec())

    assert parse(png(RAMP), spec, resize=True).shape == resized


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_white_picture_of_any_mode_stays_white_when_resized(mode):
    white: Any = {"1": 1, "LA": (255, 255), "P": 255, "I;16": 65535}.get(mode, (255,) * len(mode))
    image = Image.new(mode, (7, 5), white)
    if mode == "P":
        image.putpalette([0] * 765 + [255] * 3)

    assert set(parse(written(image), GREY, resize=True).ravel()) == {255.0}


def test_a_picture_of_the_right_size_is_not_touched_by_resizing():
    np.testing.assert_array_equal(parse(png(RAMP), resize=True), parse(png(RAMP)))


@pytest.mark.parametrize("size", [(9, 8), (64, 64), (40, 20), (200, 3)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_resizing_is_bicubic_as_pillow_does_it(mode, size):
    """With its antialiasing: where a picture shrinks, every pixel of it counts."""
    image = Image.fromarray(NOISE).convert(mode)
    width, height = size
    spec = TensorSpec("uint8", (height, width, len(mode)), BYTES, ImageSpec(mode, "HWC"))

    rows = parse(png(image), spec, resize=True)

    wanted = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(rows[0], wanted.reshape(height, width, -1))


def test_colours_are_resized_before_they_become_grey():
    spec = TensorSpec("uint8", (9, 8), BYTES, ImageSpec("L", "HW"))

    rows = parse(png(NOISE), spec, resize=True)

    wanted = Image.fromarray(NOISE).resize((8, 9), Image.Resampling.BICUBIC).convert("L")
    np.testing.assert_array_equal(rows[0], np.asarray(wanted))


def test_resizing_does_not_mix_colours_by_their_place_in_a_palette():
    image = Image.new("P", (2, 2))
    image.putpalette([100, 100, 100, 0, 0, 0, 100, 100, 100])
    image.putpixel((0, 0), 2)

    assert set(parse(written(image), GREY, resize=True).ravel()) == {100.0}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(claiming_png(101, 100), id="just over the limit"),
        pytest.param(claiming_png(10_000, 10_000), id="more than Pillow likes"),
        pytest.param(claiming_png(30_000, 30_000), id="more than Pillow takes"),
        pytest.param(claiming_png(2**31 - 1, 2**31 - 1), id="the most that PNG can say"),
        pytest.param(claiming_png(10_001, 1), id="one line"),
        pytest.param(claiming_jpeg(65_000, 65_000), id="JPEG"),
        pytest.param(claiming_jpeg(101, 100), id="JPEG just over the limit"),
        pytest.param(claiming_webp(101, 100), id="WebP just over the limit"),
        pytest.param(claiming_webp(16_383, 16_383), id="WebP"),
    ],
)
def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header(data):
    assert len(data) < 1000
    with pytest.raises(TooLargeError, match="10000 pixels") as caught:
        parse(data, resize=True)

    assert caught.value.expected == "at most 10000 pixels"


def test_a_picture_that_is_too_large_is_told_its_pixels():
    with pytest.raises(TooLargeError) as caught:
        parse(claiming_png(200, 100))

    assert caught.value.received == "20000 pixels"


def test_as_many_pixels_as_allowed_are_read():
    assert parse(png(RAMP), pixels=6).shape == (1, 1, 2, 3)


def test_a_header_that_claims_more_than_there_is_is_broken():
    with pytest.raises(MalformedBodyError, match="broken"):
        parse(claiming_png(100, 100), resize=True)


HEAD_BYTES = 33  # of a PNG: signature and IHDR


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            png(RAMP)[:HEAD_BYTES] + chunk(b"prVt") * 60_000 + png(RAMP)[HEAD_BYTES:],
            id="PNG before its pixels",
        ),
        pytest.param(
            png(RAMP)[:-12] + chunk(b"prVt") * 60_000 + png(RAMP)[-12:], id="PNG after them"
        ),
        pytest.param(
            b"\xff\xd8" + b"\xff\xe5\0\2" * 60_000 + written(Image.new("L", (3, 2)), "JPEG")[2:],
            id="JPEG",
        ),
        pytest.param(b"\xff\xd8" + b"\xff" * 200_000, id="JPEG of fill bytes"),
    ],
)
def test_a_picture_of_endless_tiny_segments_is_refused(data):
    with pytest.raises(TooLargeError, match="too many segments"):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="signature alone"),
        pytest.param(b"\xff\xd8\xff", id="JPEG marker alone"),
        pytest.param(b"RIFF\0\0\0\0WEBP", id="WebP signature alone"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        pytest.param(b"P5 3 2 255 " + bytes(6), id="PGM"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="EPS"),
        *[
            pytest.param(written(Image.new("L", (3, 2)), other), id=other)
            for other in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA")
        ],
    ],
)
def test_what_is_no_picture_of_the_three_formats_is_malformed(data):
    with pytest.raises(MalformedBodyError, match="not a PNG, JPEG or WebP"):
        parse(data)


NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
ANY_NOISE = TensorSpec("float32", (3, 32, 32), BYTES, ImageSpec("RGB"))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_picture_that_is_cut_off_is_malformed(file_format, share):
    data = written(Image.fromarray(NOISE), file_format)

    with pytest.raises(MalformedBodyError):
        parse(data[: int(share * len(data))], ANY_NOISE)


def test_a_png_that_is_cut_off_anywhere_is_malformed_though_all_pixels_may_be_there():
    data = png(RAMP)

    for length in range(len(data)):
        with pytest.raises(MalformedBodyError):
            parse(data[:length])


def lines_png(lines, *, depth=8, kind=0, interlaced=0, width=3, height=2, header=1):
    """A PNG of 3 x 2 pixels with these lines, each with the byte of its filter."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))
    palette = chunk(b"PLTE", bytes(range(12))) if kind == 3 else b""
    data = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + head * header + palette + data + chunk(b"IEND")


# depth, colour type, interlaced; and the bytes of all lines
SHAPES_OF_PNG = [
    pytest.param(1, 0, 0, 2 * 2, id="one bit"),
    pytest.param(4, 3, 0, 2 * 3, id="palette"),
    pytest.param(8, 0, 0, 2 * 4, id="grey"),
    pytest.param(16, 0, 0, 2 * 7, id="16 bits"),
    pytest.param(8, 2, 0, 2 * 10, id="colours"),
    pytest.param(8, 4, 0, 2 * 7, id="grey with alpha"),
    pytest.param(16, 6, 0, 2 * 25, id="16 bits of colours with alpha"),
    # passes 1, 4, 6 and 7 have pixels of 3 x 2: 1, 1, 1 and a line of 3
    pytest.param(8, 0, 1, 2 + 2 + 2 + 4, id="interlaced"),
]


@pytest.mark.parametrize(("depth", "kind", "interlaced", "length"), SHAPES_OF_PNG)
def test_a_png_with_all_its_lines_is_read(depth, kind, interlaced, length):
    data = lines_png(b"\0" * length, depth=depth, kind=kind, interlaced=interlaced)

    assert parse(data).shape == (1, 1, 2, 3)


@pytest.mark.parametrize(("depth", "kind", "interlaced", "length"), SHAPES_OF_PNG)
def test_a_png_that_lacks_a_byte_of_its_lines_is_malformed(depth, kind, interlaced, length):
    """Pillow would paint what is missing black, without a word."""
    data = lines_png(b"\0" * (length - 1), depth=depth, kind=kind, interlaced=interlaced)

    with pytest.raises(MalformedBodyError, match="broken"):
        parse(data)


def test_a_png_with_more_than_its_lines_is_read():
    assert parse(lines_png(b"\0" * 100)).shape == (1, 1, 2, 3)


def test_a_png_with_two_headers_is_malformed():
    with pytest.raises(MalformedBodyError, match="broken"):
        parse(lines_png(b"\0" * 8, header=2))


def test_a_png_with_any_damaged_byte_is_malformed():
    data = png(RAMP)

    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(MalformedBodyError):
            parse(damaged)


@settings(max_examples=100)
@given(
    file_format=st.sampled_from(["JPEG", "WEBP"]),
    share=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=8),
)
def test_a_damaged_picture_is_refused_or_read(file_format, share, junk):
    data = bytearray(written(Image.fromarray(NOISE), file_format))
    position = int(share * len(data))
    data[position : position + len(junk)] = junk

    try:
        rows = parse(bytes(data), ANY_NOISE, resize=True)
    except (MalformedBodyError, TooLargeError, InvalidRowsError):
        return

    assert rows.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_picture_of_several_frames_is_refused(file_format):
    frames = [Image.new("RGB", (3, 2), level) for level in ("red", "green")]

    with pytest.raises(InvalidRowsError, match="several frames") as caught:
        parse(written(frames[0], file_format, save_all=True, append_images=frames[1:]))

    assert caught.value.expected == "one frame"


def test_of_a_jpeg_with_further_pictures_behind_it_the_first_is_read():
    frames = [Image.new("L", (3, 2), level) for level in (100, 200)]

    data = written(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=100)

    assert set(parse(data).ravel()) == {100.0}


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("size", [(3, 2), (64, 64)], ids=str)
def test_a_jpeg_that_is_cut_off_anywhere_is_malformed(size, progressive):
    """Behind its last pixel too: the marker of its end is missing."""
    data = written(Image.fromarray(NOISE).resize(size), "JPEG", progressive=progressive)

    for length in {*range(0, len(data), 7), *range(len(data) - 20, len(data))}:
        with pytest.raises(MalformedBodyError):
            parse(data[:length], ANY_COLOUR)


@pytest.mark.parametrize("lossless", [False, True], ids=["lossy", "lossless"])
def test_a_webp_that_is_cut_off_anywhere_is_malformed(lossless):
    data = written(Image.fromarray(NOISE), "WEBP", lossless=lossless)

    for length in {*range(0, len(data), 7), *range(len(data) - 20, len(data))}:
        with pytest.raises(MalformedBodyError):
            parse(data[:length], ANY_COLOUR)


def test_a_model_of_no_pictures_takes_and_gives_none():
    plain = TensorSpec("float32", (2,), BYTES)

    with pytest.raises(InvalidRowsError, match="no pictures"):
        parse(png(RAMP), plain)
    with pytest.raises(InvalidRowsError, match="no pictures"):
        picture.render(np.zeros((1, 2), np.float32), plain)


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        (0.0, 0),
        (1.0, 255),
        (-0.1, 0),
        (-1e30, 0),
        (1.1, 255),
        (1e30, 255),
        (0.5, 128),  # 127.5, to even
        (0.1, 26),  # 25.5, to even; in float32 a little more
        (0.3, 77),  # 76.5 and a little more
        (0.2, 51),
    ],
)
def test_a_pixel_by_hand(value, pixel):
    assert picture.to_pixels(np.array([value], np.float32), 0, 1) == pixel


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (0.0, 4.0), (-128.0, 128.0)]
)
def test_a_pixel_is_rounded_half_to_even(low, high):
    values = np.linspace(low - 1, high + 1, 1025)

    pixels = picture.to_pixels(values, low, high)

    width = Fraction(high) - Fraction(low)
    shares = [(Fraction(value) - Fraction(low)) / width for value in values]
    assert pixels.tolist() == [
        round(255 * min(max(share, Fraction(0)), Fraction(1))) for share in shares
    ]


def test_halves_between_all_levels_are_rounded_to_even():
    halves = np.arange(255) + 0.5

    assert picture.to_pixels(halves, 0, 255).tolist() == [round(half) for half in halves]


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20),
    low=st.integers(-5, 4),
    width=st.integers(1, 9),
)
def test_a_pixel_is_the_nearest_to_its_value(values, low, width):
    pixels = picture.to_pixels(np.array(values, np.float32), low, low + width)

    for value, pixel in zip(values, pixels.tolist(), strict=True):
        exact = 255 * min(max((value - low) / width, 0), 1)
        assert abs(pixel - exact) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("spec", "pixels"),
    [
        (GREY, RAMP),
        (TensorSpec("float32", (2, 3, 1), BYTES, ImageSpec("L", "HWC")), RAMP),
        (TensorSpec("float32", (2, 3), (-1, 1), ImageSpec("L", "HW")), RAMP),
        (TensorSpec("uint8", (1, 2, 3), BYTES, ImageSpec()), RAMP),
        (COLOUR, np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)),
        (
            TensorSpec("float16", (2, 3, 3), (0, 1), ImageSpec("RGB", "HWC")),
            np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1),
        ),
    ],
    ids=["CHW", "HWC", "HW", "bytes", "colour", "colour HWC in half precision"],
)
def test_a_picture_that_is_read_and_drawn_is_the_same(spec, pixels):
    rows = parse(png(pixels), spec)

    np.testing.assert_array_equal(drawn(picture.render(rows, spec)), pixels)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_every_level_survives_reading_and_drawing(dtype):
    spec = TensorSpec(dtype, (16, 16), BYTES, ImageSpec("L", "HW"))
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)

    np.testing.assert_array_equal(drawn(picture.render(parse(png(levels), spec), spec)), levels)


def test_two_pictures_lie_side_by_side():
    rows = np.array([[[[10, 20]]], [[[30, 40]]]], np.float32)
    spec = TensorSpec("float32", (1, 1, 2), BYTES, ImageSpec())

    assert drawn(picture.render(rows, spec)).tolist() == [[10, 20, 0, 0, 30, 40]]


def test_five_pictures_by_hand():
    rows = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1)
    spec = TensorSpec("float32", (1, 1, 1), BYTES, ImageSpec())

    assert drawn(picture.render(rows, spec)).tolist() == [
        [1, 0, 0, 2, 0, 0, 3],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [4, 0, 0, 5, 0, 0, 0],
    ]


@settings(max_examples=40)
@given(
    count=st.integers(2, 40), height=st.integers(1, 4), width=st.integers(1, 4), rgb=st.booleans()
)
def test_the_contact_sheet_holds_every_picture_in_its_place(count, height, width, rgb):
    image = ImageSpec("RGB" if rgb else "L")
    shape = (image.channels, height, width)
    spec = TensorSpec("float32", shape, BYTES, image)
    rows = np.random.default_rng(count).integers(1, 256, (count, *shape)).astype(np.float32)

    sheet = drawn(picture.render(rows, spec))

    columns = ceil(sqrt(count))
    lines = ceil(count / columns)
    assert sheet.shape[:2] == (
        lines * height + 2 * (lines - 1),
        columns * width + 2 * (columns - 1),
    )
    seen = np.zeros(sheet.shape[:2], bool)
    for number, row in enumerate(rows):
        line, column = divmod(number, columns)
        place = np.s_[
            line * (height + 2) : line * (height + 2) + height,
            column * (width + 2) : column * (width + 2) + width,
        ]
        np.testing.assert_array_equal(sheet[place], row.transpose(1, 2, 0) if rgb else row[0])
        seen[place] = True
    assert not sheet[~seen].any()


def test_256_pictures_fill_a_sheet_and_one_more_is_refused():
    spec = TensorSpec("float32", (1, 1, 1), BYTES, ImageSpec())

    sheet = drawn(picture.render(np.ones((256, 1, 1, 1), np.float32), spec))

    assert sheet.shape == (16 + 15 * 2, 16 + 15 * 2)
    with pytest.raises(TooLargeError, match="256 pictures") as caught:
        picture.render(np.ones((257, 1, 1, 1), np.float32), spec)
    assert (caught.value.expected, caught.value.received) == ("at most 256 rows", "257 rows")


def test_whether_a_sheet_has_room_can_be_asked_before():
    picture.check_tiles(256)
    with pytest.raises(TooLargeError):
        picture.check_tiles(257)


def test_a_heat_map_is_black_for_no_error_and_white_from_the_fixed_end_on():
    errors = np.array([[[[0, 0.1, 0.25], [0.5, 1, 100]]]], np.float32)

    assert drawn(picture.render_heat_map(errors, GREY, 0.5)).tolist() == [
        [0, 51, 128],
        [255, 255, 255],
    ]


def test_the_scale_of_a_heat_map_does_not_depend_on_the_errors():
    faint = np.full((1, 1, 2, 3), 0.002, np.float32)

    assert set(drawn(picture.render_heat_map(faint, GREY, 0.5)).ravel()) == {1}


@pytest.mark.parametrize(
    ("layout", "shape"), [("CHW", (3, 1, 2)), ("HWC", (1, 2, 3))], ids=["CHW", "HWC"]
)
def test_a_heat_map_shows_the_mean_error_of_the_colours(layout, shape):
    spec = TensorSpec("float32", shape, BYTES, ImageSpec("RGB", layout))
    errors = np.array([[[0.0, 0.25, 0.5], [1.0, 1.0, 1.0]]], np.float32)  # height, width, colour
    row = errors.transpose(2, 0, 1) if layout == "CHW" else errors

    assert drawn(picture.render_heat_map(row[np.newaxis], spec, 1.0)).tolist() == [[64, 255]]


def test_several_heat_maps_come_as_one_sheet():
    errors = np.array([0, 1, 2], np.float32).reshape(3, 1, 1, 1)
    spec = TensorSpec("float32", (1, 1, 1), BYTES, ImageSpec())

    assert drawn(picture.render_heat_map(errors, spec, 2.0)).tolist() == [
        [0, 0, 0, 128],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [255, 0, 0, 0],
    ]


def test_a_picture_of_the_wrong_size_is_refused_before_it_is_decoded():
    cut_off = png(np.zeros((64, 64), np.uint8))[:60]

    with pytest.raises(InvalidRowsError, match="another size"):
        parse(cut_off)


def test_the_pictures_of_a_request_share_their_pixels():
    budget = picture.PixelBudget(10)
    spec = TensorSpec("float32", (1, 2, 3), range=(0, 1), image=ImageSpec())
    picture.parse(png(RAMP), spec, budget=budget)

    with pytest.raises(TooLargeError) as caught:
        picture.parse(png(RAMP), spec, budget=budget)

    assert (caught.value.expected, caught.value.received) == ("at most 10 pixels", "12 pixels")
