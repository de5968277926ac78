"""``Accept`` and ``Accept-Encoding``, beside the rules of RFC 9110 written out."""

import re

from service.bodies.negotiation import (
    COMPRESS_FROM_BYTES,
    JSON,
    NPY,
    PNG,
    RAW,
    choose,
    compress_from,
)
from service.errors import NotAcceptableError
from tests.fuzz.harness import Harness, always, call

OFFERS = ((JSON, NPY, RAW), (JSON, NPY, RAW, PNG))

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - of a header
_RANGE = re.compile(
    rf"({_TOKEN})/({_TOKEN})(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?))?"
)
_CODING = re.compile(rf"({_TOKEN})(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?))?")
_MAX_RANGES = 32


def check(data: bytes) -> None:
    accept = data.decode("latin-1")
    _check_coding(accept)
    for offered in OFFERS:
        outcome = call(choose, accept, offered)
        assert outcome.value in offered or isinstance(outcome.error, NotAcceptableError)
        ranges = read(accept)
        if ranges is not None:
            assert outcome.value == best(ranges, offered)


def _check_coding(accept_encoding: str) -> None:
    text, picture = (call(compress_from, accept_encoding, media) for media in (JSON, PNG))
    assert text.value in {None, 0, COMPRESS_FROM_BYTES}
    assert picture.value in {None, 0}
    for error in (text.error, picture.error):
        assert error is None or isinstance(error, NotAcceptableError)
    wishes = read_codings(accept_encoding)
    if wishes is None:
        return
    as_it_is = wishes.get("identity", wishes.get("*", 1.0))
    compressed = wishes.get("gzip", wishes.get("*", 0.0))
    assert (text.error is not None) == (as_it_is == compressed == 0)
    if as_it_is == 0 < compressed:
        assert text.value == picture.value == 0
    elif text.error is None:
        said = max(wishes.get("identity", 0.0), wishes.get("*", 0.0) * ("identity" not in wishes))
        is_wanted = wishes.get("gzip", 0.0) > 0 and wishes["gzip"] >= said
        assert text.value == (COMPRESS_FROM_BYTES if is_wanted else None)
        assert picture.value is None


def read_codings(accept_encoding: str) -> dict[str, float] | None:
    """The codings with their qualities; ``None`` where the header is not of the plain kind."""
    wishes: dict[str, float] = {}
    for element in accept_encoding.split(","):
        text = element.strip(" \t")
        found = _CODING.fullmatch(text)
        if found is None and text:
            return None
        if found is not None:
            name = found[1].lower().removeprefix("x-")
            wishes[name] = max(float(found[2] or 1), wishes.get(name, 0.0))
    return wishes if accept_encoding.count(",") < _MAX_RANGES else None


def read(accept: str) -> list[tuple[str, float]] | None:
    """The ranges with their qualities; ``None`` where the header is not of the plain kind."""
    ranges = []
    for element in accept.split(","):
        text = element.strip(" \t")
        if not text:
            continue
        found = _RANGE.fullmatch(text)
        if found is None:
            return None
        kind, subtype, quality = found.groups()
        ranges.append((f"{kind}/{subtype}".lower(), float(quality or 1)))
    return ranges if ranges and accept.count(",") < _MAX_RANGES else None


def best(ranges: list[tuple[str, float]], offered: tuple[str, ...]) -> str | None:
    """The first of those with the highest quality above zero."""
    qualities = [_quality(media, ranges) for media in offered]
    return offered[qualities.index(max(qualities))] if max(qualities) > 0 else None


def _quality(media: str, ranges: list[tuple[str, float]]) -> float:
    for wanted in (media, media.partition("/")[0] + "/*", "*/*"):  # the most specific one counts
        fitting = [quality for name, quality in ranges if name == wanted]
        if fitting:
            return max(fitting)
    return 0.0


HARNESS = Harness(
    always(check),
    (
        *(JSON.encode(), NPY.encode(), RAW.encode(), PNG.encode(), b"*/*", b"application/*"),
        *(b"gzip", b"identity", b"x-gzip", b"deflate", b"*", b"identity;q=0", b"gzip;q=0.5"),
        *(b"image/*", b"text/html", b"; q=", b";q=0"),
        *(b";q=0.5", b";q=1.000", b";q=1e-1", b";q=nan"),
        *(b",", b", ", b" ", b"\t", b'; a="x,y"', b";level=1", b"Q=0.001", b"application/JSON"),
    ),
    max_bytes=512,
)
