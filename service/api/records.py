"""The last steps of a request: how it ended is counted, and logged where that was asked for."""

import logging
from types import TracebackType
from typing import Any

from service.api.errors import outcome_of
from service.api.runtime import Exchange
from service.errors import ForbiddenError, HourglassError

logger = logging.getLogger(__name__)


class Counted:
    """Counts by what a block ends how a request to a model ended; nothing for one to none."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._exchange.count("ok")
        elif isinstance(error, HourglassError):
            self._exchange.count(outcome_of(error))
        else:
            self._exchange.count("failed")


def record(exchange: Exchange) -> None:
    """Count an answer; log failures always, and successes when the settings say so."""
    status, runtime = exchange.status, exchange.runtime
    if status is not None:
        runtime.metrics.http_responses.take((exchange.route, status))
    is_failure = status is None or status >= 400 or exchange.fault is not None  # noqa: PLR2004
    if is_failure or runtime.settings.access_log:
        _log(exchange)
        # it knows the frames that it went through, and they the exchange and a body of megabytes:
        # in a circle, which would be kept until the collector comes
        exchange.fault = None


def _log(exchange: Exchange) -> None:
    """Write one line of a request."""
    fields: dict[str, Any] = {
        "request_id": exchange.request_id.decode(),
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "seconds": round(exchange.elapsed_s, 6),
    }
    if exchange.model is not None:
        fields["model"], fields["version"] = exchange.model
        fields["rows"] = exchange.ticket.rows
    fault = exchange.fault
    key = fault.key if isinstance(fault, ForbiddenError) else exchange.key
    if key is not None:
        fields["key"] = key
    if isinstance(fault, HourglassError):
        fields["fault"] = str(fault)
    is_unknown = fault is not None and not isinstance(fault, HourglassError)
    level = logging.WARNING if fault is not None or (exchange.status or 0) >= 400 else logging.INFO  # noqa: PLR2004
    if is_unknown or exchange.status in {500, 504}:  # these want somebody to look
        level = logging.ERROR
    message = "request answered" if exchange.status is not None else "client left"
    logger.log(level, message, extra=fields, exc_info=fault if is_unknown else None)
