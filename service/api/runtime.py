"""What a request needs, yielded by the lifespan and found in its scope's state."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, TypeAlias, cast

from service.inference.ticket import Ticket
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings

Scope: TypeAlias = MutableMapping[str, Any]

STATE: Final = "runtime"
EXCHANGE: Final = "hourglass.exchange"

UNMATCHED: Final = "unmatched"


@dataclass(slots=True)
class Lifecycle:
    """How far the process is on its way from start to end.

    Attributes:
        is_draining: Readiness is withdrawn; requests are still answered.
        is_device_lost: No answer will come until the process restarts.
    """

    is_draining: bool = False
    is_device_lost: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a running server that requests use."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    lifecycle: Lifecycle


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as the edge sees them.

    Attributes:
        route: The path's template, ``unmatched`` until it is known.
        ticket: The times of an operation.
        model: Name and version that answered.
        fault: What went wrong, for the log.
    """

    request_id: str
    started: float = field(default_factory=perf_counter)
    route: str = UNMATCHED
    status: int | None = None
    ticket: Ticket | None = None
    model: tuple[str, str] | None = None
    fault: Exception | None = None

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self.started


def runtime_of(scope: Scope) -> Runtime:
    """Find what the lifespan yielded."""
    return cast("Runtime", scope["state"][STATE])


def exchange_of(scope: Scope) -> Exchange:
    """Find what the edge keeps of this request."""
    return cast("Exchange", scope[EXCHANGE])
