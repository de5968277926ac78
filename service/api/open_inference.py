"""Inference by the Open Inference Protocol: from a request to its answer, beside *Operations*.

One output alone goes through the queue of the operation that gives it, so that requests of both
protocols share their runs; several go through the graph of everything.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Final

from starlette.types import Receive

from service.api.faces import Face, Faces
from service.api.inputs import decoded
from service.api.operations import Answer
from service.api.outputs import shortest, timing_header
from service.api.protocol import MODELS, refuse_method
from service.api.records import Counted
from service.api.requests import LENGTH_MAX_DIGITS, Watch, read_body, timeout_of
from service.api.responses import Headers
from service.api.runtime import Exchange, Scope, path_of
from service.bodies import compression, open_inference
from service.bodies.negotiation import JSON, RAW, compress_from
from service.bodies.open_inference import Inquiry, Output, Parameter
from service.errors import (
    MalformedBodyError,
    TooLargeError,
    UnsupportedMediaError,
)
from service.inference import operations
from service.inference.evidence import gather
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.scoring import catalogue
from service.scoring.measures import MSE
from service.settings import Settings
from service.specs import Rows

# what says nothing of the body: the protocol's own clients send no type, curl one of forms
_KNOWN_TYPES: Final = frozenset({"", JSON, RAW, "application/x-www-form-urlencoded"})

_JSON_LENGTH: Final = b"inference-header-content-length"

# JSON above this is read in a thread: its numbers would hold everybody else up for too long
_QUICK_JSON_BYTES: Final = 256 * 1024
# and values above this are written in one: JSON takes 30 ns for each number
_QUICK_ROWS_BYTES: Final = 1024 * 1024


class OpenInference:
    """The endpoint of ``infer``.

    Args:
        json_turn: Held while a large JSON body is parsed, which holds the interpreter.
    """

    def __init__(self, json_turn: asyncio.Lock) -> None:
        self._json_turn = json_turn
        self._faces = Faces()
        self._watch = Watch()

    async def answer(
        self, exchange: Exchange, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer | None:
        """Answer a request to ``infer``, and count how it ended; ``None`` for any other.

        Raises:
            HourglassError: Whatever keeps it from an answer; the edge answers that.
        """
        route = route_of(scope)
        if route is None:
            return None
        name, version = route
        exchange.route = template_of(with_version=version is not None)
        if exchange.method != "POST":
            detail = "inference is asked for by POST"
            problem = refuse_method("POST", detail, exchange.request_id.decode())
            return problem.status, problem.headers, problem.body
        with Counted(exchange):
            face = self._faces.find(exchange.runtime.registry, name, version)
            exchange.follow((face.live.name, face.live.version), face.metrics, exchange.route)
            return await self._run(face, exchange, headers, receive)

    async def _run(
        self, face: Face, exchange: Exchange, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer:
        settings, ticket = exchange.runtime.settings, exchange.ticket
        ticket.deadline = ticket.started + timeout_of(headers, settings.request_timeout_s)
        accept_encoding = _text(headers, b"accept-encoding")
        if accept_encoding:  # refused before anything is computed
            compress_from(accept_encoding, JSON)
        try:
            body = _Body(headers, settings)
            data = await body.read(receive, headers, exchange, self._watch)
            inquiry = await body.parse(data, face, self._json_turn)
        finally:
            ticket.parse_s = perf_counter() - ticket.started
        if inquiry.timeout_s is not None:
            ticket.deadline = min(ticket.deadline, ticket.started + inquiry.timeout_s)
        ticket.rows = len(inquiry.rows)
        self._watch.waiting(ticket, receive)
        try:
            found = await _compute(face, inquiry, exchange)
        finally:
            self._watch.forget(ticket)
        return await _render(face, inquiry, found, exchange, accept_encoding)


class _Body:
    """How the body of a request is read.

    Args:
        headers: The request's.
        settings: The server's limits.

    Raises:
        UnsupportedMediaError: A content type that no request of the protocol has, or an unknown
            encoding.
        MalformedBodyError: The length of the JSON is not a number.
        TooLargeError: The JSON is larger than JSON may be.
    """

    def __init__(self, headers: Mapping[bytes, bytes], settings: Settings) -> None:
        media = _text(headers, b"content-type").partition(";")[0].strip().lower()
        if media not in _KNOWN_TYPES:
            raise UnsupportedMediaError(
                "this Content-Type is not one of the Open Inference Protocol",
                expected=f"{JSON}, {RAW} or none",
            )
        self._encoding = compression.known(_text(headers, b"content-encoding"))
        self._shape = _text(headers, b"x-shape") if b"x-shape" in headers else None
        self._max_rows = settings.max_request_rows
        self._json_bytes = _json_length(headers)
        self._max_bytes = settings.max_body_bytes
        max_json_bytes = min(settings.max_body_bytes, settings.max_json_bytes)
        if self._json_bytes is None:
            self._max_bytes = max_json_bytes
        elif self._json_bytes > max_json_bytes:
            raise TooLargeError(
                f"the JSON of a request may have {max_json_bytes} bytes",
                expected=f"at most {max_json_bytes} bytes",
                received=f"{self._json_bytes} bytes",
            )

    async def read(
        self,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        exchange: Exchange,
        watch: Watch,
    ) -> bytes:
        """Read and decompress it.

        Raises:
            RequestError: It is too large or not of its encoding.
            DeadlineExceededError: It does not end in time.
            ClientGoneError: The connection closes first.
        """
        ticket, limit = exchange.ticket, self._max_bytes
        body = await read_body(receive, headers, ticket, watch, max_bytes=limit)
        return await decoded(body, self._encoding, max_bytes=limit)

    async def parse(self, data: bytes, face: Face, json_turn: asyncio.Lock) -> Inquiry:
        """Turn it into what the request says.

        Raises:
            RequestError: It is not what the model takes, or asks for what it does not give.
        """
        json_bytes, source, max_rows = self._json_bytes, face.source, self._max_rows
        if json_bytes == 0:
            shape = self._shape
            return open_inference.parse_raw(data, source, shape=shape, max_rows=max_rows)
        read = partial(open_inference.parse, data, json_bytes, source, max_rows=max_rows)
        is_quick = (len(data) if json_bytes is None else json_bytes) <= _QUICK_JSON_BYTES
        if is_quick:
            return read()
        async with json_turn:
            return await asyncio.to_thread(read)


def route_of(scope: Scope) -> tuple[str, str | None] | None:
    """Read model and version from the path; ``None`` when it is not one of ``infer``."""
    path = path_of(scope)
    if not path.startswith(MODELS):
        return None
    match path[len(MODELS) :].split("/"):
        case [model, operations.INFER]:
            return model, None
        case [model, "versions", version, operations.INFER]:
            return model, version
    return None


def template_of(*, with_version: bool) -> str:
    """Name the route."""
    versions = "/versions/{version}" if with_version else ""
    return f"{MODELS}{{model}}{versions}/{operations.INFER}"


async def _encoded(body: bytes, headers: Headers, accept_encoding: str, media: str) -> Answer:
    """Compress an answer where that is wanted and worth its time."""
    if not accept_encoding:
        return 200, headers, body
    least = compress_from(accept_encoding, media)
    if least is None or len(body) < least:
        return 200, headers, body
    body = await asyncio.to_thread(compression.compress, body)
    return 200, [*headers, (b"content-encoding", b"gzip")], body


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _json_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(_JSON_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > LENGTH_MAX_DIGITS:
        raise MalformedBodyError(
            "Inference-Header-Content-Length must be a whole number",
            expected="the length of the JSON at the beginning of the body",
        )
    return int(text)


async def _compute(face: Face, inquiry: Inquiry, exchange: Exchange) -> Mapping[str, Rows]:
    """Give at least the wanted outputs by name."""
    model, rows, ticket = face.live.autoencoder, inquiry.rows, exchange.ticket
    names = [wanted.name for wanted in inquiry.outputs]
    measure = face.live.default_rule.measure
    if SCORE in names and measure != MSE:
        evidence = await gather(model, catalogue.needs_of([measure]), rows, ticket)
        scores = await asyncio.to_thread(face.live.scores_of, evidence, measure)
        given = {RECONSTRUCTION: evidence.reconstructions, CODE: evidence.codes, SCORE: scores}
        return {name: each for name, each in given.items() if each is not None}
    if len(names) > 1:
        return await model.infer(rows, ticket, names)
    match face.operations[names[0]]:
        case operations.ENCODE:
            return {names[0]: await model.encode(rows, ticket)}
        case operations.DECODE:
            return {names[0]: await model.decode(rows, ticket)}
        case operations.RECONSTRUCT:
            return {names[0]: await model.reconstruct(rows, ticket)}
    return {names[0]: await model.score(rows, ticket)}


async def _render(
    face: Face,
    inquiry: Inquiry,
    found: Mapping[str, Rows],
    exchange: Exchange,
    accept_encoding: str,
) -> Answer:
    """Make the answer, and feed the score metrics."""
    started = perf_counter()
    live = face.live
    fields: dict[str, object] = {"model_name": face.name, "model_version": live.version}
    if inquiry.id is not None:
        fields["id"] = inquiry.id
    told: Mapping[str, Mapping[str, Parameter]] = {}
    if any(wanted.name == SCORE for wanted in inquiry.outputs):
        live.metrics.scores[live.default_rule.measure].take(found[SCORE])
        told = {SCORE: _told(face)}
        fields["parameters"] = told[SCORE]
    outputs = [
        Output(name, found[name], is_binary, {} if is_bare else told.get(name, {}))
        for name, is_binary, is_bare in inquiry.outputs
    ]
    write = partial(open_inference.render, fields, outputs)
    is_quick = sum(each.rows.nbytes for each in outputs) <= _QUICK_ROWS_BYTES
    body, json_bytes = write() if is_quick else await asyncio.to_thread(write)
    media = JSON if json_bytes is None else RAW
    headers = [(b"content-type", media.encode()), (b"x-model-version", live.version.encode())]
    if json_bytes is not None:
        headers.append((_JSON_LENGTH, b"%d" % json_bytes))
    status, headers, body = await _encoded(body, headers, accept_encoding, media)
    exchange.ticket.render_s = perf_counter() - started
    return status, [*headers, timing_header(exchange.ticket)], body


def _told(face: Face) -> dict[str, Parameter]:
    """What goes with a score: its metric, and the threshold where there is one."""
    rule = face.live.default_rule
    told: dict[str, Parameter] = {"metric": rule.measure}
    if rule.threshold is not None:
        told["threshold"] = shortest(rule.threshold)
    return told
