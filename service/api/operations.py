"""The hot path: encode, decode, reconstruct and anomaly-score, from body to answer.

An ASGI endpoint, not a FastAPI function: on a small request that difference is more than all
the rest. What the head of a request asks for is a *plan*, made once; here it meets a body.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final, TypeAlias

from starlette.types import Receive

from service.api.assessing import assess, check_size, judge_codes, judge_domain
from service.api.errors import make_problem
from service.api.outputs import (
    ARRAYS,
    Given,
    domain_header,
    render_array,
    render_rows,
    render_scores,
    rule_headers,
    timing_header,
)
from service.api.plans import Plan, Plans, Wish, make_plan, route_of
from service.api.records import Counted
from service.api.requests import Watch, timeout_of
from service.api.responses import Headers
from service.api.runtime import Exchange, Scope
from service.bodies.compression import compress
from service.bodies.negotiation import JSON, PNG
from service.bodies.picture import check_tiles
from service.errors import InvalidRowsError
from service.inference import operations
from service.inference.ticket import Ticket
from service.scoring.verdicts import judge
from service.specs import Rows

Answer: TypeAlias = tuple[int, Headers, bytes]
"""Status, headers without those that every answer carries, body."""

Work: TypeAlias = Callable[[], Answer]
"""Makes an answer, in a thread: it takes longer than others should wait for."""

_GZIP: Final = (b"content-encoding", b"gzip")


class Operations:
    """The endpoint of all four operations.

    Args:
        json_turn: Held while a large JSON body is parsed, which holds the interpreter.

    Attributes:
        plans: Of the heads that were asked lately.
    """

    def __init__(self, json_turn: asyncio.Lock) -> None:
        self.plans = Plans()
        self._watch = Watch()
        self._json_turn = json_turn

    async def answer(
        self, exchange: Exchange, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer | None:
        """Answer a request to an operation, and count how it ended; ``None`` for any other.

        Raises:
            HourglassError: Whatever keeps it from an answer; the edge answers that.
        """
        with Counted(exchange):
            plan = self.plans.find(scope, headers, exchange.runtime.registry.changes)
            if plan is not None and exchange.method == "POST":
                exchange.follow(plan.model, plan.metrics, plan.template)
            else:
                made = self._make_plan(exchange, scope, headers)
                if not isinstance(made, Plan):
                    return made
                plan = made
            exchange.ticket.deadline = exchange.ticket.started + timeout_of(
                headers, exchange.runtime.settings.request_timeout_s
            )
            return await self._run(plan, exchange.ticket, headers, receive)

    def _make_plan(
        self, exchange: Exchange, scope: Scope, headers: Mapping[bytes, bytes]
    ) -> Plan | Answer | None:
        """Make a plan and keep it; or give the answer to a wrong method."""
        route = route_of(scope)
        if route is None:
            return None
        exchange.route = route.template
        if exchange.method != "POST":
            return _refuse_method(exchange)
        runtime = exchange.runtime
        live = runtime.registry.resolve(route.model, route.version)
        model, metrics = (live.name, live.version), live.operation_metrics[route.operation]
        exchange.follow(model, metrics, route.template)
        plan = make_plan(route, live, scope, headers, runtime.settings)
        self.plans.keep(scope, headers, plan)
        return plan

    async def _run(
        self, plan: Plan, ticket: Ticket, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer:
        plan.live.autoencoder.check_has(plan.operation)
        plan.live.autoencoder.check_room(plan.queue)
        try:
            data = await plan.body.read(receive, headers, ticket, self._watch)
            if plan.body.is_costly(len(data), plan.wish.options):
                rows, wish = await self._parse_apart(plan, data)
            else:
                rows, wish = parse(plan, data)
        finally:
            ticket.parse_s = perf_counter() - ticket.started
        ticket.rows = len(rows)
        self._watch.waiting(ticket, receive)
        try:
            given = await _compute(plan, rows, wish, ticket)
        finally:
            self._watch.forget(ticket)
        answer = render(plan, wish, given, ticket)
        return answer if isinstance(answer, tuple) else await asyncio.to_thread(answer)

    async def _parse_apart(self, plan: Plan, data: bytes) -> tuple[Rows, Wish]:
        """Parse in a thread; of JSON, which holds the interpreter, one body at a time.

        With several at it the loop would have to wait for one after the other.
        """
        if plan.body.media != JSON:
            return await asyncio.to_thread(parse, plan, data)
        async with self._json_turn:
            return await asyncio.to_thread(parse, plan, data)


def _refuse_method(exchange: Exchange) -> Answer:
    request_id = exchange.request_id.decode()
    detail = "an operation is asked for by POST"
    problem = make_problem(405, detail, request_id, fields={"expected": "POST"})
    return problem.status, [*problem.headers, (b"allow", b"POST")], problem.body


def parse(plan: Plan, data: bytes) -> tuple[Rows, Wish]:
    """Turn a body into rows, and join the options in it with those of the query.

    Raises:
        RequestError: It is not what the model takes, or cannot be answered as was asked.
    """
    wish = plan.wish
    rows, fields = plan.body.parse(data, wish.options)
    if fields:
        wish = plan.wish_with(fields)
        if "resize" in fields:
            raise InvalidRowsError("resize is for pictures", expected="a picture as the body")
    if plan.media == PNG:
        check_tiles(len(rows))
    if wish.needs_json and plan.media != JSON:
        raise InvalidRowsError("include and explain need a JSON answer", expected=f"Accept: {JSON}")
    check_size(wish, len(rows))
    return rows, wish


async def _compute(plan: Plan, rows: Rows, wish: Wish, ticket: Ticket) -> Given:
    """Give what the operation gives, and what else is wanted."""
    if plan.operation == operations.ANOMALY_SCORE:
        return await _score(plan, rows, wish, ticket)
    given = await _answer(plan, rows, wish, ticket)
    if not wish.domain:
        return given
    judge = judge_codes if plan.operation == operations.DECODE else judge_domain
    return given._replace(domain=await judge(plan.live, rows, ticket))


async def _answer(plan: Plan, rows: Rows, wish: Wish, ticket: Ticket) -> Given:
    model = plan.live.autoencoder
    match plan.operation:
        case operations.ENCODE if wish.layer is not None:
            return Given(await model.layer(wish.layer, rows, ticket))
        case operations.ENCODE:
            codes, *further = await model.encode_further(rows, ticket)
            return Given(codes, further=further)
        case operations.DECODE:
            return Given(await model.decode(rows, ticket))
    return Given(await model.reconstruct(rows, ticket))


async def _score(plan: Plan, rows: Rows, wish: Wish, ticket: Ticket) -> Given:
    wants_errors = "feature_errors" in wish.included or plan.media == PNG
    if not (wish.is_more_than_scores or wants_errors):
        return Given(await plan.live.autoencoder.score(rows, ticket))
    return await assess(plan.live, wish, rows, ticket, wants_errors=wants_errors)


def render(plan: Plan, wish: Wish, given: Given, ticket: Ticket) -> Answer | Work:
    """Make the answer of what the model gave, or say how; and feed the score metrics."""
    started = perf_counter()
    if wish.rule is not None:
        plan.live.metrics.scores[wish.rule.measure].take(given.result)
    if given.domain is not None:
        plan.live.metrics.domain.take(given.domain.counts)
    if plan.media not in ARRAYS and given.is_large:
        return lambda: _finish(plan, *_draw(plan, wish, given), ticket, started)
    headers, body = _draw(plan, wish, given)
    if plan.compress_from is None or len(body) < plan.compress_from:
        return _finish(plan, headers, body, ticket, started)
    return partial(_finish, plan, headers, body, ticket, started)


def _draw(plan: Plan, wish: Wish, given: Given) -> tuple[Headers, bytes]:
    """Put what the model gave into the format that was chosen."""
    live, media, rule = plan.live, plan.media, wish.rule
    told = given if "domain" in wish.included else given.without_domain
    if media in ARRAYS:  # which holds codes or scores alone
        headers, body = render_array(given.result, media)
        if rule is not None:
            headers = headers + rule_headers(rule)
    elif rule is not None:
        verdicts = judge(given.result, rule, live.calibration)
        headers, body = render_scores(verdicts, told, media, live)
    else:
        headers, body = render_rows(told, media, plan.operation, live, layer=wish.layer)
    if given.domain is None:
        return headers, body
    return [*headers, domain_header(given.domain)], body


def _finish(plan: Plan, headers: Headers, body: bytes, ticket: Ticket, started: float) -> Answer:
    """Compress an answer where that was asked for and pays, and put the last headers on it."""
    if plan.compress_from is not None and len(body) >= plan.compress_from:
        headers, body = [*headers, _GZIP], compress(body)
    ticket.render_s = perf_counter() - started
    return 200, [*headers, plan.version_header, timing_header(ticket)], body
