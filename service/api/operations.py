"""The hot path: encode, decode, reconstruct and anomaly-score, from body to answer.

An ASGI endpoint, not a FastAPI function: on a small request that difference is more than all
the rest.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from starlette.types import Receive, Send

from service.api.errors import outcome_of
from service.api.inputs import Body
from service.api.options import Options, ScoreOptions, read_options
from service.api.outputs import offered, render_rows, render_scores, timing_headers
from service.api.requests import Departures, headers_of, query_of, timeout_of
from service.api.responses import Headers, send_answer
from service.api.runtime import Scope, exchange_of, runtime_of
from service.assembly import LiveModel
from service.bodies.negotiation import JSON, PNG, choose
from service.bodies.picture import check_tiles
from service.errors import (
    HourglassError,
    InvalidRowsError,
)
from service.inference import operations
from service.inference.ticket import Ticket
from service.metrics import OperationMetrics
from service.scoring.verdicts import Rule, Verdicts, choose_rule, judge
from service.settings import Settings
from service.specs import Rows, TensorSpec

PREFIX: Final = "/v1/models/"


@dataclass(frozen=True, slots=True)
class Route:
    """Which operation of which model a path asks for."""

    model: str
    version: str | None
    operation: str

    @property
    def template(self) -> str:
        versions = "" if self.version is None else "/versions/{version}"
        return f"{PREFIX}{{model}}{versions}/{self.operation}"


def route_of(scope: Scope) -> Route | None:
    """Read the path; ``None`` when it is not one of an operation."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if not path.startswith(PREFIX):
        return None
    match path[len(PREFIX) :].split("/"):
        case [model, operation] if operation in operations.ALL:
            return Route(model, None, operation)
        case [model, "versions", version, operation] if operation in operations.ALL:
            return Route(model, version, operation)
    return None


class Operations:
    """The endpoint of all four operations."""

    def __init__(self) -> None:
        self._departures = Departures()

    async def answer(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count how it ended.

        Raises:
            HourglassError: Whatever keeps it from an answer; the edge answers that.
        """
        runtime, exchange = runtime_of(scope), exchange_of(scope)
        live = runtime.registry.resolve(route.model, route.version)
        exchange.model = (live.name, live.version)
        exchange.ticket = ticket = Ticket(started=exchange.started)
        metrics = live.operation_metrics[route.operation]
        call = _Call(route.operation, live, runtime.settings, headers_of(scope), scope, ticket)
        try:
            headers, body = await call.run(receive, self._departures)
        except HourglassError as error:
            _count(metrics, ticket, outcome_of(error))
            raise
        except BaseException:
            _count(metrics, ticket, "failed")
            raise
        _count(metrics, ticket, "ok")
        await send_answer(send, 200, headers, body)


def _count(metrics: OperationMetrics, ticket: Ticket, outcome: str) -> None:
    """Count how a request ended, and the time of every phase that it came to."""
    metrics.requests[outcome].inc()
    metrics.request_s.observe(perf_counter() - ticket.started)
    if outcome == "ok":
        metrics.rows.inc(ticket.rows)
    metrics.parse_s.observe(ticket.parse_s)
    if ticket.queue_s:
        metrics.queue_s.observe(ticket.queue_s)
    if ticket.infer_s:
        metrics.infer_s.observe(ticket.infer_s)
    if ticket.render_s:
        metrics.render_s.observe(ticket.render_s)


@dataclass(slots=True)
class _Call:
    """One request to one operation, step by step."""

    operation: str
    live: LiveModel
    settings: Settings
    headers: dict[bytes, bytes]
    scope: Scope
    ticket: Ticket

    async def run(self, receive: Receive, departures: Departures) -> tuple[Headers, bytes]:
        ticket, live = self.ticket, self.live
        timeout_s = timeout_of(self.headers, self.settings.request_timeout_s)
        ticket.deadline = ticket.started + timeout_s
        live.autoencoder.check(self.operation)
        accept = self.headers.get(b"accept", b"").decode("latin-1")
        media = choose(accept, offered(live, self.operation))
        try:
            rows, options = await self._read(receive)
        finally:
            ticket.parse_s = perf_counter() - ticket.started
        if media == PNG:
            check_tiles(len(rows))
        ticket.rows = len(rows)
        departures.watch(ticket, receive)
        try:
            if isinstance(options, ScoreOptions):
                headers, body = await self._score(rows, options, media)
            else:
                headers, body = await self._transform(rows, media)
        finally:
            departures.forget(ticket)
        return headers + timing_headers(live, ticket), body

    async def _read(self, receive: Receive) -> tuple[Rows, Options]:
        """Read and parse the body; a wrong option in the query is refused before that."""
        kind = ScoreOptions if self.operation == operations.ANOMALY_SCORE else Options
        query = query_of(self.scope)
        body = Body(self.headers, self._input_spec(), self.settings)
        options = read_options(kind, query, {})
        data = await body.read(receive, self.ticket)
        if body.is_costly(options):
            rows, fields = await asyncio.to_thread(body.parse, data, options)
        else:
            rows, fields = body.parse(data, options)
        if fields:
            options = read_options(kind, query, fields)
        if "resize" in options.model_fields_set and not body.is_picture:
            raise InvalidRowsError("resize is for pictures", expected="a picture as the body")
        return rows, options

    def _input_spec(self) -> TensorSpec:
        manifest = self.live.manifest
        if self.operation == operations.DECODE and manifest.code is not None:
            return manifest.code
        return manifest.input

    async def _transform(self, rows: Rows, media: str) -> tuple[Headers, bytes]:
        model = self.live.autoencoder
        match self.operation:
            case operations.ENCODE:
                result = await model.encode(rows, self.ticket)
            case operations.DECODE:
                result = await model.decode(rows, self.ticket)
            case _:
                result = await model.reconstruct(rows, self.ticket)
        started = perf_counter()
        answer = render_rows(result, media, self.operation, self.live)
        self.ticket.render_s = perf_counter() - started
        return answer

    async def _score(self, rows: Rows, options: ScoreOptions, media: str) -> tuple[Headers, bytes]:
        if options.include and media != JSON:
            raise InvalidRowsError("include needs a JSON answer", expected=f"Accept: {JSON}")
        live = self.live
        rule = self._rule(options)
        errors = None
        if options.include or media == PNG:
            scores, errors = await live.autoencoder.score_features(rows, self.ticket)
        else:
            scores = await live.autoencoder.score(rows, self.ticket)
        live.observe(scores)
        started = perf_counter()
        # an array holds the scores alone
        is_judged = media == JSON
        verdicts = judge(scores, rule, live.calibration) if is_judged else Verdicts(rule, scores)
        answer = render_scores(verdicts, errors, media, live)
        self.ticket.render_s = perf_counter() - started
        return answer

    def _rule(self, options: ScoreOptions) -> Rule:
        wishes = (options.metric, options.false_positive_rate, options.threshold)
        if wishes == (None, None, None):
            return self.live.default_rule
        return choose_rule(
            self.live.calibration,
            measure=options.metric,
            false_positive_rate=options.false_positive_rate,
            threshold=options.threshold,
        )
