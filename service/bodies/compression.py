"""``Content-Encoding``: gzip and deflate in, with a cap on what comes out; gzip out."""

import zlib
from typing import Final

from service.errors import MalformedBodyError, TooLargeError, UnsupportedMediaError

# zlib's window bits: 16 more ask for the gzip wrapper, negative ones for none
_GZIP: Final = zlib.MAX_WBITS | 16
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS

# what follows a member is copied when it ends, so it is read in pieces; and empty members would
# cost time without ever reaching the limit
_PIECE_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 1024 * 1024
_MAX_MEMBERS: Final = 1024

# what is not made for its own sake seldom shrinks to less than a hundredth; where more comes out,
# and it is much, nobody but an attacker has to wait for the limit of bodies to be reached
_MAX_RATIO: Final = 200
_RATIO_FROM_BYTES: Final = 4 * 1024 * 1024

# deflate makes at most a thousand bytes of one, so this much is undone within 15 ms
_QUICK_BYTES: Final = 4 * 1024

# numbers in JSON shrink to a half at the lowest level, in a quarter of the time of the usual one
_LEVEL: Final = 1


def known(encoding: str) -> str:
    """Give a content encoding as *decompress* takes it, empty where there is none to undo.

    Raises:
        UnsupportedMediaError: Another encoding than gzip, deflate or identity.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return ""
        case "gzip" | "x-gzip":
            return "gzip"
        case "deflate":
            return "deflate"
        case _:
            raise UnsupportedMediaError(
                "this Content-Encoding is not understood", expected="gzip, deflate or identity"
            )


def is_quick(body: bytes) -> bool:
    """Whether *decompress* is done with *body* before anybody would notice."""
    return len(body) <= _QUICK_BYTES


def compress(body: bytes) -> bytes:
    """Write *body* as gzip; lets go of the interpreter, so a thread is the place for large ones."""
    return zlib.compress(body, _LEVEL, _GZIP)


def decompress(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo a content encoding.

    Raises:
        UnsupportedMediaError: Another encoding than gzip, deflate or identity.
        MalformedBodyError: The bytes are not of that encoding.
        TooLargeError: More than *max_bytes* come out, or more than 4 MiB that are over 200 times
            as much as what they come of; or it has too many members.
    """
    match known(encoding):
        case "gzip":
            return _inflate(body, _GZIP, max_bytes)
        case "deflate":
            # the standard says zlib, some clients send the bare stream: its first byte tells
            is_wrapped = body[:1] and body[0] & 0x0F == zlib.DEFLATED
            return _inflate(body, _ZLIB if is_wrapped else _BARE, max_bytes)
        case _:
            return body


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    out = bytearray()
    position = 0
    members = 0
    try:
        while position < len(body):  # a gzip file may have several members, deflate is one stream
            if members and window_bits != _GZIP:
                raise MalformedBodyError("something follows the compressed body")
            members += 1
            if members > _MAX_MEMBERS:
                raise TooLargeError(
                    f"a compressed body may have {_MAX_MEMBERS} members",
                    expected=f"at most {_MAX_MEMBERS} members",
                )
            position = _inflate_member(body, position, window_bits, out, max_bytes)
    except zlib.error:
        raise MalformedBodyError("the body is not of its Content-Encoding") from None
    return bytes(out)


def _inflate_member(
    body: bytes, position: int, window_bits: int, out: bytearray, max_bytes: int
) -> int:
    """Append what one member holds to *out*; gives the position after it."""
    stream = zlib.decompressobj(window_bits)
    piece = b""
    while not stream.eof:
        if not piece:
            piece = body[position : position + _PIECE_BYTES]
            position += len(piece)
        more = stream.decompress(piece, _STEP_BYTES)
        if not (more or piece or stream.eof):
            raise MalformedBodyError("the compressed body is cut off")
        out += more
        piece = stream.unconsumed_tail
        _check_room(len(out), position - len(piece), max_bytes)
    return position - len(stream.unused_data)


def _check_room(size: int, read: int, max_bytes: int) -> None:
    """Refuse *size* bytes that came of *read* ones where they are too many."""
    most = min(max_bytes, max(_RATIO_FROM_BYTES, _MAX_RATIO * read))
    if size > most:
        raise TooLargeError(
            "the body has too many bytes after decompression",
            expected=f"at most {most} bytes",
        )
