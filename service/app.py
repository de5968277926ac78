"""The composition root: the one module that knows everybody.

Settings become metrics, device and registry; the lifespan loads the models while health
already answers, and lets everybody finish before it ends.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, disable_created_metrics
from starlette.exceptions import HTTPException

from service import __version__
from service.api import calibrations, models, open_inference_models, system
from service.api.errors import Problem, make_problem, problem_of
from service.api.gate import Gate
from service.api.limits import Edge
from service.api.openapi import describe
from service.api.protocol import in_form_of
from service.api.runtime import STATE, Lifecycle, Runtime, exchange_of
from service.assembly import SessionFactory, make_engine
from service.errors import ConfigurationError, HourglassError, InvalidRowsError, together
from service.inference.memory import give_back_memory
from service.keys import read_keys
from service.metrics import Metrics
from service.placement import server_device
from service.registry import Registry
from service.settings import Settings

logger = logging.getLogger(__name__)

# new objects before the collector looks at them: requests make no cycles, and at the
# interpreter's 700 it would look once a batch
YOUNG_OBJECTS = 10_000


def create_app(
    settings: Settings,
    *,
    sessions: SessionFactory | None = None,
    registry: CollectorRegistry | None = None,
) -> Edge:
    """Build the application; nothing is loaded before its lifespan starts.

    Args:
        settings: How this server is to run.
        sessions: Makes a session of a graph; ONNX Runtime unless a test hands in a fake.
        registry: Where metrics are registered; a new one unless given.

    Returns:
        An ASGI application whose ``state.lifecycle`` tells and steers how far it is.

    Raises:
        ConfigurationError: The file of keys cannot be used.
    """
    # they would be a second series for every counter, which nobody reads
    disable_created_metrics()  # type: ignore[no-untyped-call]
    lifecycle = Lifecycle()
    metrics = Metrics(registry or CollectorRegistry())
    metrics.configure(settings.device)
    gate = _make_gate(settings)
    _check_state(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Runtime]]:
        runtime = _make_runtime(settings, lifecycle, sessions, metrics)
        loading = asyncio.create_task(_load(runtime.registry))
        try:
            yield {STATE: runtime}
        finally:
            lifecycle.is_draining = True
            # sessions on a lost device end the process when they are let go of: C++ destructors
            # that throw. Nobody waits in them any more, and the process ends without
            if not lifecycle.is_device_lost:
                timeout_s = settings.drain_timeout_ms / 1000
                lifecycle.is_stuck = await _stop(runtime.registry, loading, timeout_s)

    app = FastAPIOffline(
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # which is somebody else's host
        generate_unique_id_function=lambda route: route.name,  # as generated clients call it
        redirect_slashes=False,  # a redirect would send the client wherever its Host header says
        title="Hourglass",
        summary="A REST inference service for autoencoders",
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        exception_handlers=_exception_handlers(),
    )
    app.state.lifecycle = lifecycle
    app.include_router(models.router)
    app.include_router(calibrations.router)
    app.include_router(system.router)
    app.include_router(open_inference_models.router)
    app.openapi = partial(describe, app, needs_keys=gate is not None)  # type: ignore[method-assign]
    return Edge(app, gate)


def _check_state(settings: Settings) -> None:
    """See that calibrations can be kept, before somebody makes one.

    Raises:
        ConfigurationError: The folder is none, or cannot be made.
    """
    if settings.state is None:
        return
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError("the state folder cannot be used") from error


def _make_gate(settings: Settings) -> Gate | None:
    if settings.api_keys_file is None:
        return None
    keys = read_keys(settings.api_keys_file)
    logger.info("API keys are asked for", extra={"keys": len(keys)})
    return Gate(keys)


def _make_runtime(
    settings: Settings, lifecycle: Lifecycle, sessions: SessionFactory | None, metrics: Metrics
) -> Runtime:
    device = server_device(settings)

    def lose_device() -> None:
        lifecycle.is_device_lost = True
        registry.withdraw()

    engine = make_engine(settings, device, metrics, sessions=sessions, on_device_lost=lose_device)
    registry = Registry(settings.models, engine, required=settings.required_models)
    registry.discover()
    return Runtime(settings, metrics, registry, lifecycle)


async def _load(registry: Registry) -> None:
    await registry.load()
    # full collections walk what the imports left behind: without this p99 at concurrency 32
    # was 43 ms instead of 7
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    await asyncio.to_thread(give_back_memory)  # what measuring and reading have freed
    logger.info("ready" if registry.is_ready else "not ready", extra=_outcome(registry))


def _outcome(registry: Registry) -> dict[str, Any]:
    return {"waiting_for": registry.not_ready()} if not registry.is_ready else {}


async def _stop(registry: Registry, loading: asyncio.Task[None], timeout_s: float) -> bool:
    """Let everybody finish, and tell whether threads are left that nobody can stop."""
    try:
        async with asyncio.timeout(timeout_s):
            await registry.drain()
            await loading  # ends soon, and lets go of what it has opened
    except TimeoutError:
        logger.warning("requests were still in flight after %g s", timeout_s)
    registry.close()
    return registry.has_stuck_loads


def _exception_handlers() -> dict[Any, Callable[[Request, Any], Response]]:
    return {
        HourglassError: _on_error,
        RequestValidationError: _on_invalid_parameter,
        HTTPException: _on_http_exception,
        Exception: _on_error,
    }


def _on_error(request: Request, error: Exception) -> Response:
    exchange = exchange_of(request.scope)
    exchange.fault = error
    return _response(request, problem_of(error, exchange.request_id.decode()))


def _on_invalid_parameter(request: Request, error: RequestValidationError) -> Response:
    # a place within a body is named by its keys, and they are the client's
    places = {
        "the body" if fault["loc"][0] == "body" else ".".join(map(str, fault["loc"][:2]))
        for fault in error.errors()
    }
    faults = [InvalidRowsError(f"{place} is not valid") for place in sorted(places)]
    return _on_error(request, together(faults, len(faults)))


def _on_http_exception(request: Request, error: HTTPException) -> Response:
    detail = "there is nothing at this path" if error.status_code == 404 else error.detail  # noqa: PLR2004
    more = [
        (name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()
    ]
    problem = make_problem(
        error.status_code, detail, exchange_of(request.scope).request_id.decode(), headers=more
    )
    return _response(request, problem)


def _response(request: Request, problem: Problem) -> Response:
    problem = in_form_of(request.scope, problem)
    response = Response(problem.body, problem.status)
    response.raw_headers.extend(problem.headers)
    return response
