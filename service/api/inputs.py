"""From a request to rows: content type, length, encoding, format."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from starlette.types import Receive

from service.api.options import Options
from service.api.requests import Watch, read_body
from service.bodies import compression, json, multipart, negotiation, npy, picture, raw
from service.bodies.negotiation import JSON, NPY, RAW
from service.bodies.rows import check_count
from service.errors import (
    MAX_FAULTS,
    InvalidRowsError,
    RequestError,
    TooLargeError,
    UnsupportedMediaError,
    together,
)
from service.inference.ticket import Ticket
from service.settings import Settings
from service.specs import Rows, TensorSpec

PICTURES: Final = ("image/png", "image/jpeg", "image/webp")
FORM: Final = "multipart/form-data"

# what is parsed in the event loop holds up everybody else: of JSON so many bytes take up to 30 ms
# (numbers of one digit), of the smallest pictures so many 10 ms
_QUICK_JSON_BYTES: Final = 1024 * 1024
_QUICK_PICTURE_BYTES: Final = 16 * 1024
_QUICK_PICTURE_VALUES: Final = 256 * 256


class Body:
    """How the bodies of requests with one head are read.

    Args:
        headers: The headers that say what the body is.
        spec: What a row of it must be.
        settings: The server's limits.

    Raises:
        UnsupportedMediaError: No content type, an unknown one, or one not for this model; or an
            unknown encoding.
        MalformedBodyError: A shape that cannot be read.
    """

    def __init__(
        self, headers: Mapping[bytes, bytes], spec: TensorSpec, settings: Settings
    ) -> None:
        self._spec = spec
        self._shape = headers[b"x-shape"].decode("latin-1") if b"x-shape" in headers else None
        self._settings = settings
        self._content_type = headers.get(b"content-type", b"").decode("latin-1")
        self.media = self._content_type.partition(";")[0].strip().lower()
        known = accepted(spec)
        if self.media not in known:
            is_picture = self.media in {*PICTURES, FORM}
            raise UnsupportedMediaError(
                "this model takes no pictures here"
                if is_picture
                else "this Content-Type is not understood",
                expected=", ".join(known),
            )
        if self._shape is not None:
            raw.axes_of(self._shape)  # a broken header is refused, whichever body it comes with

        self.encoding = compression.known(headers.get(b"content-encoding", b"").decode("latin-1"))
        self.max_bytes = settings.max_body_bytes
        if self.media == JSON:
            self.max_bytes = min(self.max_bytes, settings.max_json_bytes)

    @property
    def is_picture(self) -> bool:
        return self.media in PICTURES or self.media == FORM

    def is_costly(self, body_bytes: int, options: Options) -> bool:
        """Whether parsing so many bytes may take longer than others should wait for.

        A picture that must have a fixed size of the model is refused by its header or small.
        """
        if not self.is_picture:
            return self.media == JSON and body_bytes > _QUICK_JSON_BYTES
        is_small = self._spec.is_fixed and self._spec.size <= _QUICK_PICTURE_VALUES
        return options.resize or not is_small or body_bytes > _QUICK_PICTURE_BYTES

    async def read(
        self, receive: Receive, headers: Mapping[bytes, bytes], ticket: Ticket, watch: Watch
    ) -> bytes:
        """Read and decompress it.

        Raises:
            RequestError: It is too large or not of its encoding.
            DeadlineExceededError: It does not end in time.
            ClientGoneError: The connection closes first.
        """
        body = await read_body(receive, headers, ticket, watch, max_bytes=self.max_bytes)
        return await decoded(body, self.encoding, max_bytes=self.max_bytes)

    def parse(self, body: bytes, options: Options) -> tuple[Rows, dict[str, Any]]:
        """Turn it into rows, and the options beside them if it is JSON.

        Raises:
            RequestError: It is not what the model takes.
        """
        spec = self._spec
        fields: dict[str, Any] = {}
        if options.resize and not self.is_picture:
            raise InvalidRowsError("resize is for pictures", expected="a picture as the body")
        match self.media:
            case negotiation.JSON:
                rows, fields = json.parse(body, spec, max_rows=self._settings.max_request_rows)
            case negotiation.NPY:
                rows = npy.parse(body, spec)
            case negotiation.RAW:
                rows = raw.parse(body, spec, self._shape)
            case _:
                rows = self._parse_pictures(body, resize=options.resize)
        check_count(len(rows), self._settings.max_request_rows)
        return rows, fields

    def _parse_pictures(self, body: bytes, *, resize: bool) -> Rows:
        budget = picture.PixelBudget(self._settings.max_picture_pixels)
        if self.media != FORM:
            return picture.parse(body, self._spec, budget=budget, resize=resize)
        files = multipart.parse(body, self._content_type, max_parts=self._settings.max_request_rows)
        pictures = _Pictures(self._spec, budget, resize=resize)
        for data in files:
            try:
                pictures.add(data)
            except RequestError as fault:
                raise pictures.faults(fault, files) from None
        return np.concatenate(pictures.rows)


class _Pictures:
    """The pictures of a form, which become rows of one shape.

    Attributes:
        rows: Those that were right so far.
    """

    def __init__(self, spec: TensorSpec, budget: picture.PixelBudget, *, resize: bool) -> None:
        self.rows: list[Rows] = []
        self._spec = spec
        self._budget = budget
        self._resize = resize

    def add(self, data: bytes) -> None:
        """Parse the next one.

        Raises:
            RequestError: It is no picture, or not one that the model takes beside the others.
        """
        row = picture.parse(data, self._spec, budget=self._budget, resize=self._resize)
        if self.rows and row.shape != self.rows[0].shape:
            raise InvalidRowsError(
                "all pictures of a request have one size",
                expected="the size of the first; ?resize=true where the model has one",
            )
        self.rows.append(row)

    def faults(self, first: RequestError, files: Sequence[bytes]) -> RequestError:
        """Find out what is wrong with the other *files* too, after the *first* fault."""
        first.row = len(self.rows)
        found = [first]
        for row in range(first.row + 1, len(files)):
            # what lies behind the last pixel of the budget is not even opened
            if len(found) == MAX_FAULTS or isinstance(found[-1], TooLargeError):
                break
            try:
                self.add(files[row])
            except RequestError as fault:
                fault.row = row
                found.append(fault.with_traceback(None))
        return together(found)


async def decoded(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo a content encoding, empty for none; in a thread where others would have to wait.

    Raises:
        RequestError: The body is not of it, or too large without it.
    """
    if not encoding:
        return body
    undo = partial(compression.decompress, body, encoding, max_bytes=max_bytes)
    return undo() if compression.is_quick(body) else await asyncio.to_thread(undo)


def accepted(spec: TensorSpec) -> tuple[str, ...]:
    """List the content types that rows of *spec* may come in."""
    plain = (JSON, NPY, RAW)
    return plain if spec.image is None else (*plain, *PICTURES, FORM)
