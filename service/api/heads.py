"""What the head of a request must be before anybody reads it: for one server, and not too long.

The parser has refused what is no HTTP, and lengths that contradict each other. What follows here
it lets through, though others on the way may understand it differently (RFC 9112, 3.2 and 11.2).
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from service.api.responses import Headers
from service.errors import LongHeadError, LongTargetError, MalformedBodyError

# what servers in front of this one let through by default; the longest honest targets and headers
# have a few hundred bytes
TARGET_MAX_BYTES: Final = 8 * 1024
HEADERS_MAX: Final = 100
HEADER_MAX_BYTES: Final = 8 * 1024
HEADERS_MAX_BYTES: Final = 32 * 1024

_VERSIONS: Final = frozenset({"1.0", "1.1"})

# a name of DNS has 255 bytes at most, a port five
_HOST_MAX_BYTES: Final = 255 + 6
# uri-host [":" port] (RFC 3986, 3.2.2), an address in brackets by itself
_HOST: Final = re.compile(
    rb"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
    rb"(?::(?P<port>[0-9]{1,5})?)?"
)
_PORT_MAX: Final = 65_535
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def check_target(target: bytes) -> bytes:
    """Give the path and query of a target, which proxies send with the server's name before it.

    Raises:
        LongTargetError: It is too long.
        MalformedBodyError: It is no path.
    """
    if len(target) > TARGET_MAX_BYTES:
        raise LongTargetError(
            "path and query are too long", expected=f"at most {TARGET_MAX_BYTES} bytes"
        )
    if target[:1] == b"/":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None or len(found[1]) > _HOST_MAX_BYTES or not _is_host(found[1]):
        raise MalformedBodyError("the target is not one of this server", expected="a path")
    rest: bytes = found[2]
    return rest if rest[:1] == b"/" else b"/" + rest


def check_headers(version: str, headers: Headers) -> None:
    """Refuse headers that nobody should act on.

    Args:
        version: Of HTTP.
        headers: With lower-case names, repeated ones apart.

    Raises:
        LongHeadError: They are too many or too long.
        MalformedBodyError: Another version; no Host, several, or one that is none; a transfer
            coding that is not undone here.
    """
    if version not in _VERSIONS:
        raise MalformedBodyError("this version of HTTP is not spoken", expected="HTTP/1.1")
    hosts, codings, size = [], [], 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    if size > HEADER_MAX_BYTES or len(headers) > HEADERS_MAX:
        _check_size(headers, size)
    if codings:
        _check_coding(version, codings)
    if hosts or version != "1.0":
        _check_host(hosts)


def _check_size(headers: Headers, size: int) -> None:
    if len(headers) > HEADERS_MAX:
        raise LongHeadError(
            "there are too many headers",
            expected=f"at most {HEADERS_MAX}",
            received=f"{len(headers)} headers",
        )
    if size > HEADERS_MAX_BYTES:
        raise LongHeadError(
            "the headers are too long",
            expected=f"at most {HEADERS_MAX_BYTES} bytes together",
            received=f"{size} bytes",
        )
    if any(len(name) + len(value) > HEADER_MAX_BYTES for name, value in headers):
        raise LongHeadError("a header is too long", expected=f"at most {HEADER_MAX_BYTES} bytes")


def _check_coding(version: str, codings: list[bytes]) -> None:
    if version == "1.0" or len(codings) > 1 or codings[0].lower() != b"chunked":
        raise MalformedBodyError(
            "this Transfer-Encoding is not understood",
            expected="Transfer-Encoding: chunked, once, by HTTP/1.1",
        )


def _check_host(hosts: list[bytes]) -> None:
    if len(hosts) != 1:
        raise MalformedBodyError(
            "a request has exactly one Host", expected="one", received=str(len(hosts))
        )
    if len(hosts[0]) > _HOST_MAX_BYTES or not _is_host(hosts[0]):
        raise MalformedBodyError("Host names no server", expected="a name or address, and a port")


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    if found is None or int(found["port"] or 0) > _PORT_MAX:
        return False
    try:
        return found["address"] is None or bool(IPv6Address(found["address"].decode()))
    except AddressValueError:
        return False
