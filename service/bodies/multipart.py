"""``multipart/form-data``: pictures in parts named ``file``, in the order of the rows."""

from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import (
    MAX_FAULTS,
    InvalidRowsError,
    MalformedBodyError,
    TooLargeError,
    together,
)

PART_NAME: Final = b"file"


@dataclass
class _Part:
    """One part while it is being read."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


class _Collector:
    """The callbacks of the parser."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._max_parts = max_parts
        self._name = bytearray()
        self._value = bytearray()

    def begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise _too_many(self._max_parts)
        self.parts.append(_Part())

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += data[start:end]

    def end(self) -> None:
        self.is_complete = True


def parse(body: bytes, content_type: str, *, max_parts: int) -> list[bytes]:
    """Split a form into the contents of its ``file`` parts.

    Args:
        body: The whole body.
        content_type: The header, for its boundary.
        max_parts: Parts that one request may hold.

    Raises:
        MalformedBodyError: No boundary, or a body that does not follow it to its end.
        InvalidRowsError: No part, or one of another name.
        TooLargeError: More than *max_parts*.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBodyError("multipart/form-data needs a boundary")
    # counted before they are read, which takes a hundred times as long; the last line ends the form
    if body.count(b"\r\n--" + boundary) > max_parts + 1:
        raise _too_many(max_parts)
    collector = _Collector(max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.begin,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.data,
                "on_end": collector.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise MalformedBodyError("the form does not follow its boundary") from None
    if not collector.is_complete:
        raise MalformedBodyError("the form is cut off")
    _check_names(collector.parts)
    return [bytes(part.content) for part in collector.parts] or _no_parts()


def _too_many(max_parts: int) -> TooLargeError:
    return TooLargeError(
        f"a request may hold {max_parts} parts", expected=f"at most {max_parts} parts"
    )


def _check_names(parts: list[_Part]) -> None:
    wrong = [row for row, part in enumerate(parts) if _name(part) != PART_NAME]
    if wrong:
        raise together([_wrong_name(row) for row in wrong[:MAX_FAULTS]], len(wrong))


def _name(part: _Part) -> bytes | None:
    disposition = part.headers.get(b"content-disposition", b"")
    return parse_options_header(disposition)[1].get(b"name")


def _wrong_name(row: int) -> InvalidRowsError:
    return InvalidRowsError(
        "pictures come in parts named 'file', options as query parameters",
        row=row,
        expected="a part named 'file'",
        received="a part of another name",
    )


def _no_parts() -> list[bytes]:
    raise InvalidRowsError("the form has no parts", expected="parts named 'file'")
