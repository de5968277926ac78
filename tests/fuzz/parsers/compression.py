"""Compressed bodies behind a line with their ``Content-Encoding``, beside gzip and zlib."""

import gzip
import zlib

from service.bodies import compression
from service.errors import TooLargeError
from tests.fuzz.harness import Harness, always, call

MAX_BYTES = 1 << 16
_LEVELS = (0, 9)


def check(data: bytes) -> None:
    line, _, body = data.partition(b"\n")
    encoding = line.decode("latin-1")
    found = call(compression.decompress, body, encoding, max_bytes=MAX_BYTES).value
    if found is not None:
        assert len(found) <= max(MAX_BYTES, len(body))
        assert bytes(found) == read(body, encoding)
    _check_limit(body)


def read(body: bytes, encoding: str) -> bytes:
    """What comes out, by the standard library; its errors are findings."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return gzip.decompress(body)
        case "deflate":
            return _inflate(body)
        case _:
            raise AssertionError("an unknown encoding was taken")


def _inflate(body: bytes) -> bytes:
    if not body:
        return b""
    has_header = body[0] & 15 == 8 and body[0] >> 4 <= 7 and int.from_bytes(body[:2]) % 31 == 0
    stream = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    out = stream.decompress(body) + stream.flush()
    assert stream.eof, "cut off"
    assert not stream.unused_data, "something follows"
    return out


def _check_limit(body: bytes) -> None:
    """Whatever is compressed comes back, up to the limit to the byte."""
    plain = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = {
        "gzip": gzip.compress(body, _LEVELS[len(body) % 2]),
        "x-gzip": gzip.compress(body) + gzip.compress(b""),
        "deflate": zlib.compress(body, _LEVELS[len(body) % 2]),
        " DEFLATE ": plain.compress(body) + plain.flush(),
    }
    for encoding, data in packed.items():
        assert compression.decompress(data, encoding, max_bytes=len(body)) == body
        if body:
            error = call(compression.decompress, data, encoding, max_bytes=len(body) - 1).error
            assert isinstance(error, TooLargeError)


HARNESS = Harness(
    always(check),
    (
        *(b"gzip\n", b"deflate\n", b"x-gzip\n", b"identity\n", b"br\n", b"gzip, deflate\n", b"\n"),
        *(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", b"\x03\x00", b"\x00" * 8, b"\x78\x9c"),
        *(b"\x78\x01", b"\x78\xda", b"\x01\x00\x00\xff\xff", b"\x00\x00\x00\xff\xff", b"\x04\x00"),
    ),
)
