"""Small pictures of every kind, and the rows that they are for a model.

    python -m tests.pictures.make

writes them beside this file: ``NAME.png``, ``.jpg`` or ``.webp``, and ``NAME.png.npy`` with four
planes for models of range 0..1: what a grey one gets, and the three colours of a coloured one; no
planes where the picture is refused.

PNG files are written byte by byte here, with stored blocks instead of compressed ones, so they come
out the same on every machine, and their rows follow from the pixels by formulas of this file. JPEG
and WebP files are what Pillow's encoders made of the pixels once; the rows of lossy ones are what
its decoders made of those.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent

HEIGHT, WIDTH = 5, 7  # not square, and no multiple of eight

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}

# x and y of the first pixel, and the steps to the next, of the seven passes of an interlaced PNG
ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sample:
    """A picture and what a model gets of it.

    Attributes:
        name: Its file.
        data: The file's content.
        colours: Height, width and colour in 8 bits; ``None`` where it is refused.
        grey: The same in grey, where it is not the luma of the colours.
    """

    name: str
    data: bytes
    colours: Pixels | None
    grey: Pixels | None = None

    def planes(self) -> Pixels | None:
        """The grey plane and the three of the colours, float32 from 0 to 1."""
        if self.colours is None:
            return None
        grey = luma(self.colours) if self.grey is None else self.grey
        planes = np.concatenate([grey[np.newaxis], np.moveaxis(self.colours, -1, 0)])
        return (planes / 255).astype(np.float32)


def luma(colours: Pixels) -> Pixels:
    """Weigh the colours as ITU-R BT.601 does, in 16 bits of fraction."""
    weighed: Pixels = colours.astype(np.int64) @ np.array([19595, 38470, 7471]) + 0x8000
    grey: Pixels = (weighed >> 16).astype(np.uint8)
    return grey


def over_black(colours: Pixels, alpha: Pixels) -> Pixels:
    """Darken colours by their transparency, rounded to the nearest level."""
    share = alpha.reshape(*alpha.shape[:2], 1) / 255
    return np.floor(colours * share + 0.5).astype(np.uint8)


def three(grey: Pixels) -> Pixels:
    return np.stack([grey] * 3, axis=-1).astype(np.uint8)


def noise(*channels: int, highest: int = 255, seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, highest + 1, (HEIGHT, WIDTH, *channels))


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    values: Pixels,
    colour_type: int,
    depth: int = 8,
    *,
    extra: bytes = b"",
    interlaced: bool = False,
    last: bytes = b"",
) -> bytes:
    """Write samples of *depth* bits; *extra* chunks before the pixels and *last* ones behind."""
    samples = values.reshape(*values.shape[:2], _CHANNELS[colour_type])
    height, width = samples.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    lines = b"".join(_lines(samples[y::down, x::right], depth) for x, y, right, down in passes)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            extra,
            chunk(b"IDAT", zlib.compress(lines, 0)),
            last,
            chunk(b"IEND"),
        )
    )


def _lines(samples: Pixels, depth: int) -> bytes:
    """Pack the samples of each line into bytes behind the filter type 0, which is none."""
    if samples.size == 0:  # a pass without pixels has no lines
        return b""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return b"".join(b"\0" + line.astype(">u2").tobytes() for line in flat)
    bits = np.unpackbits(flat.astype(np.uint8)[..., np.newaxis], axis=-1)[..., 8 - depth :]
    return b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)


def palette(entries: Pixels, alpha: bytes = b"") -> bytes:
    return chunk(b"PLTE", entries.astype(np.uint8).tobytes()) + (
        chunk(b"tRNS", alpha) if alpha else b""
    )


def transparent(*levels: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


def orientation(number: int) -> bytes:
    """Exif data that say nothing but how the picture is to be turned."""
    return b"MM\0\x2a\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, number, 0) + bytes(4)


# what a viewer does with each orientation, to a picture of any number of channels
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
    8: np.rot90,
}


def grey_pngs() -> Iterator[Sample]:
    for depth in (1, 2, 4, 8):
        highest = 2**depth - 1
        levels = noise(highest=highest)
        shown = three(levels * (255 // highest))
        yield Sample(f"grey-{depth}-bit.png", png(levels, GREY, depth), shown)
        level = int(levels[2, 3])
        named = png(levels, GREY, depth, extra=transparent(level))
        darker = three(np.where(levels == level, 0, shown[..., 0]))
        yield Sample(f"grey-{depth}-bit-one-level-transparent.png", named, darker)
    levels = noise(highest=65535)
    shown = three(levels >> 8)
    yield Sample("grey-16-bit.png", png(levels, GREY, 16), shown)
    yield Sample(
        "grey-16-bit-one-level-transparent.png",
        png(levels, GREY, 16, extra=transparent(int(levels[2, 3]))),
        None,
    )
    for depth in (8, 16):
        values = noise(2, highest=2**depth - 1)
        upper = values >> depth - 8
        shown = over_black(three(upper[..., 0]), upper[..., 1])
        yield Sample(f"grey-alpha-{depth}-bit.png", png(values, GREY_ALPHA, depth), shown)


def colour_pngs() -> Iterator[Sample]:
    for depth in (8, 16):
        values = noise(3, highest=2**depth - 1)
        shown = (values >> depth - 8).astype(np.uint8)
        yield Sample(f"rgb-{depth}-bit.png", png(values, RGB, depth), shown)
        named = png(values, RGB, depth, extra=transparent(*values[2, 3].tolist()))
        darker = shown.copy()
        darker[2, 3] = 0
        yield Sample(
            f"rgb-{depth}-bit-one-colour-transparent.png", named, darker if depth == 8 else None
        )
        values = noise(4, highest=2**depth - 1)
        upper = values >> depth - 8
        shown = over_black(upper[..., :3], upper[..., 3])
        yield Sample(f"rgb-alpha-{depth}-bit.png", png(values, RGB_ALPHA, depth), shown)


def palette_pngs() -> Iterator[Sample]:
    entries = noise(3, seed=1).reshape(-1, 3)
    for depth in (1, 2, 4, 8):
        some = entries[: 2**depth]
        places = noise(highest=len(some) - 1)
        data = png(places, PALETTE, depth, extra=palette(some))
        yield Sample(f"palette-{depth}-bit.png", data, some[places].astype(np.uint8))
    places = noise(highest=len(entries) - 1)
    shown = entries[places].astype(np.uint8)
    alpha = np.full(len(entries), 255)
    alpha[:3] = 0, 100, 200
    for name, given in (("one-entry", 1), ("some-entries", 3)):
        names = alpha[:given].astype(np.uint8).tobytes()
        data = png(places, PALETTE, 8, extra=palette(entries, names))
        alphas = np.where(places < given, alpha[places], 255)
        yield Sample(f"palette-{name}-transparent.png", data, over_black(shown, alphas))


def other_pngs() -> Iterator[Sample]:
    colours = noise(3).astype(np.uint8)
    bits = noise(highest=1)
    yield Sample("interlaced.png", png(colours, RGB, interlaced=True), colours)
    yield Sample("interlaced-1-bit.png", png(bits, GREY, 1, interlaced=True), three(bits * 255))
    profile = chunk(b"iCCP", b"some profile\0\0" + zlib.compress(bytes(128), 0))
    yield Sample("colour-profile.png", png(colours, RGB, extra=profile), colours)
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    yield Sample("gamma.png", png(colours, RGB, extra=gamma), colours)
    for number, turn in TURNS.items():
        data = png(colours, RGB, extra=chunk(b"eXIf", orientation(number)))
        yield Sample(f"orientation-{number}.png", data, turn(colours))
    yield Sample("animated.png", animated_png(colours), None)
    yield Sample("cut-before-its-end.png", png(colours, RGB)[:-12], None)


def animated_png(colours: Pixels) -> bytes:
    """Two frames of the same pixels."""
    frame = struct.pack(">IIIIHHBB", WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    first = control + chunk(b"fcTL", struct.pack(">I", 0) + frame)
    pixels = zlib.compress(_lines(colours, 8), 0)
    second = chunk(b"fcTL", struct.pack(">I", 1) + frame)
    second += chunk(b"fdAT", struct.pack(">I", 2) + pixels)
    return png(colours, RGB, extra=first, last=second)


def pngs() -> Iterator[Sample]:
    """Every PNG, the same bytes on every machine."""
    yield from grey_pngs()
    yield from colour_pngs()
    yield from palette_pngs()
    yield from other_pngs()


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes) -> Pixels:
    """The pixels of the first picture in *data*, as Pillow's decoder gives them."""
    return np.asarray(Image.open(io.BytesIO(data)))


def smooth(*channels: int) -> Pixels:
    """A slope for each channel, which survives a lossy encoder."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [(30 * x + 10 * y * (n + 1) + 40 * n) % 256 for n in range(*channels or (1,))]
    return np.stack(planes, axis=-1).astype(np.uint8).squeeze()


def jpegs() -> Iterator[Sample]:
    grey, colours = Image.fromarray(smooth()), Image.fromarray(smooth(3))
    data = written(grey, "JPEG")
    yield Sample("grey.jpg", data, three(read(data)), read(data))
    data = written(colours, "JPEG", subsampling=0, quality=95)
    yield Sample("all-colours.jpg", data, read(data))
    data = written(colours, "JPEG", subsampling=2)
    yield Sample("fewer-colours.jpg", data, read(data))
    data = written(colours, "JPEG", progressive=True)
    yield Sample("progressive.jpg", data, read(data))
    yield Sample("cut-before-its-end.jpg", data[:-2], None)
    data = written(colours, "JPEG", restart_marker_blocks=1)
    yield Sample("restart-markers.jpg", data, read(data))
    data = written(colours, "JPEG", icc_profile=bytes(128))
    yield Sample("colour-profile.jpg", data, read(data))
    plain = written(colours, "JPEG")
    for number in (3, 6):
        data = written(colours, "JPEG", exif=b"Exif\0\0" + orientation(number))
        yield Sample(f"orientation-{number}.jpg", data, TURNS[number](read(plain)))
    thumbnail = b"Exif\0\0" + orientation(1) + written(grey, "JPEG")
    data = written(colours, "JPEG", exif=thumbnail)
    yield Sample("with-another-inside.jpg", data, read(plain))
    yield Sample("with-another-inside-cut-before-its-end.jpg", data[:-2], None)
    data = written(colours, "MPO", save_all=True, append_images=[grey.convert("RGB")])
    yield Sample("with-another-behind.jpg", data, read(data))
    yield Sample("something-behind.jpg", plain + b"behind", read(plain))


def printing_jpegs() -> Iterator[Sample]:
    """Four inks: as Adobe writes them, where 255 is no ink, and without its marker."""
    image = Image.fromarray(smooth(4), "CMYK")
    adobe = written(image, "JPEG", quality=95)
    yield Sample("inks-adobe.jpg", adobe, light(read(adobe)))
    marker = adobe.index(b"\xff\xee")
    transform = marker + 15
    ycck = adobe[:transform] + b"\2" + adobe[transform + 1 :]
    yield Sample("inks-adobe-ycck.jpg", ycck, light(read(ycck)))
    plain = adobe[:marker] + adobe[marker + 16 :]
    yield Sample("inks-plain.jpg", plain, light(read(plain)))


def light(inks: Pixels) -> Pixels:
    """What four inks leave of white light; 255 is all of an ink."""
    left = 255 - inks.astype(np.int64)
    product = left[..., :3] * left[..., 3:] + 128
    return (((product >> 8) + product) >> 8).astype(np.uint8)


def webps() -> Iterator[Sample]:
    colours, alpha = noise(3).astype(np.uint8), noise(4).astype(np.uint8)
    image = Image.fromarray(colours)
    yield Sample("lossless.webp", written(image, "WEBP", lossless=True), colours)
    data = written(Image.fromarray(smooth(3)), "WEBP")
    yield Sample("lossy.webp", data, read(data))
    data = written(Image.fromarray(alpha), "WEBP", lossless=True, exact=True)
    yield Sample("alpha.webp", data, over_black(alpha[..., :3], alpha[..., 3]))
    turned = written(image, "WEBP", lossless=True, exif=b"Exif\0\0" + orientation(6))
    yield Sample("orientation-6.webp", turned, TURNS[6](colours))
    profile = written(image, "WEBP", lossless=True, icc_profile=bytes(128))
    yield Sample("colour-profile.webp", profile, colours)
    other = Image.fromarray(255 - colours)
    animated = written(image, "WEBP", lossless=True, save_all=True, append_images=[other])
    yield Sample("animated.webp", animated, None)
    data = written(image, "WEBP", lossless=True)
    yield Sample("cut-before-its-end.webp", data[:-2], None)


def samples() -> list[Sample]:
    """Every picture."""
    return [*pngs(), *jpegs(), *printing_jpegs(), *webps()]


def main() -> None:
    for sample in samples():
        (FOLDER / sample.name).write_bytes(sample.data)
        planes = sample.planes()
        if planes is not None:
            np.save(FOLDER / f"{sample.name}.npy", planes)


if __name__ == "__main__":
    main()
