"""Which format a client wants, from ``Accept`` (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from service.errors import NotAcceptableError

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
RAW: Final = "application/octet-stream"
PNG: Final = "image/png"

# an Accept header of a browser has eight; more is nobody's wish
_MAX_RANGES: Final = 32


@lru_cache(maxsize=256)
def choose(accept: str, offered: Sequence[str]) -> str:
    """Choose the best of *offered*; on equal terms the one that is offered first.

    Raises:
        NotAcceptableError: The header rules out all of them.
    """
    if not accept.strip():
        return offered[0]
    ranges = [_parse_range(text) for text in accept.split(",")[:_MAX_RANGES]]
    qualities = [_quality(media, ranges) for media in offered]
    best = max(qualities)
    if best <= 0:
        raise NotAcceptableError(
            "none of the formats in Accept can be given here", expected=" or ".join(offered)
        )
    return offered[qualities.index(best)]


def _parse_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return media, _parse_quality(value.strip())
    return media, 1.0


def _parse_quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0  # NaN too is no quality


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Take the quality of the most specific range that *media* falls into, 0 for none."""
    kind = media.partition("/")[0]
    for candidate in (media, f"{kind}/*", "*/*"):
        matching = [quality for name, quality in ranges if name == candidate]
        if matching:
            return max(matching)
    return 0.0
