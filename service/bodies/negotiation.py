"""Which format and coding a client wants, from ``Accept`` and ``Accept-Encoding``.

RFC 9110, sections 12.4.2, 12.5.1 and 12.5.3. A part of a header that cannot be read is passed
over, as if it had not been sent.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from service.errors import NotAcceptableError

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
RAW: Final = "application/octet-stream"
PNG: Final = "image/png"

# below this compressing costs more time than sending saves, and headers weigh as much
COMPRESS_FROM_BYTES: Final = 16 * 1024

# an Accept header of a browser has eight; more is nobody's wish
_MAX_RANGES: Final = 32
_KEPT_MAX_LENGTH: Final = 1024

# a quoted text may hold commas and semicolons; one that is never closed ends with the header
_QUOTED: Final = r'"(?:[^"\\]|\\.?)*(?:"|$)'
_PARTS: Final = re.compile(rf'(?:[^",]|{_QUOTED})+', re.DOTALL)
_PARAMETERS: Final = re.compile(rf'(?:[^";]|{_QUOTED})+', re.DOTALL)
# the standard's three decimals with a zero before the point, and what clients write instead
_QUALITY: Final = re.compile(r"[01]\.?|[01]?\.[0-9]{1,9}")


def choose(accept: str, offered: Sequence[str]) -> str:
    """Choose the best of *offered*; on equal terms the one that is offered first.

    Raises:
        NotAcceptableError: The header rules out all of them.
    """
    if len(accept) > _KEPT_MAX_LENGTH:
        return _choose(accept, offered)
    return _chosen_before(accept, offered)


def _choose(accept: str, offered: Sequence[str]) -> str:
    if not accept.strip(" \t,"):
        return offered[0]
    weights = _media_weights(accept)
    qualities = [_quality(media, weights) for media in offered]
    best = max(qualities)
    if best <= 0:
        raise NotAcceptableError(
            "none of the formats in Accept can be given here", expected=" or ".join(offered)
        )
    return offered[qualities.index(best)]


_chosen_before = lru_cache(maxsize=256)(_choose)


def compress_from(accept_encoding: str, media: str) -> int | None:
    """Give the bytes from which on an answer of *media* is sent as gzip; ``None`` for never.

    gzip has to be asked for by its name, and is worth its time for text alone; but a client that
    refuses an answer as it is gets all of them compressed.

    Raises:
        NotAcceptableError: Neither gzip nor the answer as it is.
    """
    weights: dict[str, float] = {}
    for coding, _, quality in _weighted(accept_encoding):
        name = coding.removeprefix("x-")
        weights[name] = max(quality, weights.get(name, 0.0))
    rest = weights.get("*")
    plain = weights.get("identity", rest)
    gzip = weights.get("gzip")
    if plain == 0:
        if not (rest if gzip is None else gzip):
            raise NotAcceptableError(
                "none of the codings in Accept-Encoding can be given", expected="gzip or identity"
            )
        return 0
    is_wanted = gzip is not None and gzip > 0 and gzip >= (plain or 0.0)
    return COMPRESS_FROM_BYTES if is_wanted and media == JSON else None


def _weighted(field: str) -> Iterator[tuple[str, list[str], float]]:
    """Give name, parameters and quality of each part of a header, in lower case."""
    for part in _PARTS.findall(field)[:_MAX_RANGES]:
        name, *texts = (text.strip().lower() for text in _PARAMETERS.findall(part) or [""])
        parameters: list[str] = []
        quality: float | None = 1.0
        for text in texts:
            key, _, value = (half.strip() for half in text.partition("="))
            if key == "q":  # what follows it is an extension of old, without a meaning
                quality = _parse_quality(value)
                break
            parameters.append("=".join((key, value.strip('"'))))
        if quality is not None:
            yield name, parameters, quality


def _parse_quality(text: str) -> float | None:
    if not _QUALITY.fullmatch(text) or float(text) > 1:
        return None
    return float(text)


def _media_weights(accept: str) -> dict[str, float]:
    """Give the best quality of each range; one with parameters of its own ends in a semicolon."""
    weights: dict[str, float] = {}
    for name, parameters, quality in _weighted(accept):
        key = "*/*" if name == "*" else name
        if "*" not in name and set(parameters) - {"charset=utf-8"}:
            if quality == 0:  # rules out a variant that is not given anyway
                continue
            key = f"{name};"
        weights[key] = max(quality, weights.get(key, 0.0))
    return weights


def _quality(media: str, weights: dict[str, float]) -> float:
    """Take the quality of the most specific range that *media* falls into, 0 for none.

    A range with parameters that no answer has means its type, unless the type itself is there:
    whoever asks for ``application/json;version=2`` is better served with JSON than not at all.
    """
    kind = media.partition("/")[0]
    ranges = (media, f"{media};", f"{kind}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), 0.0)
