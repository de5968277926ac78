"""Health and metrics, for machines that watch the service."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from service.api.runtime import Runtime, runtime_of
from service.api.schemas import Health

router = APIRouter(tags=["system"])

_FORMATS = ("text/plain", "application/openmetrics-text")


@router.get(
    "/livez",
    summary="Tell whether the process lives",
    responses={503: {"model": Health, "description": "Only a restart helps."}},
)
async def live(request: Request, response: Response) -> Health:
    """Tell whether the process can answer at all; only a restart cures a 503."""
    if runtime_of(request.scope).lifecycle.is_device_lost:
        response.status_code = 503
        return Health(status="the device is lost")
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Tell whether the server is ready",
    responses={503: {"model": Health, "description": "Not ready yet, or stopping."}},
)
async def ready(request: Request, response: Response) -> Health:
    """Tell whether every required model is loaded, warmed and has passed its self-test."""
    if waiting_for := missing(runtime_of(request.scope)):
        response.status_code = 503
        response.headers["retry-after"] = "1"
        return Health(status="not ready", waiting_for=waiting_for)
    return Health(status="ok")


def missing(runtime: Runtime) -> list[str]:
    """Name what the server lacks to be ready."""
    waiting_for = runtime.registry.not_ready()
    if runtime.lifecycle.is_device_lost:
        waiting_for.append("a restart: the device is lost")
    if runtime.lifecycle.is_draining:
        waiting_for.append("nothing: the server is stopping")
    return waiting_for


# some load balancers ask without wanting a body
router.add_api_route("/livez", live, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/readyz", ready, methods=["HEAD"], include_in_schema=False)


@router.get(
    "/metrics",
    summary="Give the metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Every metric of the service.",
            "content": {kind: {"schema": {"type": "string"}} for kind in _FORMATS},
        }
    },
)
def metrics(request: Request) -> Response:
    """Give the metrics as Prometheus text or OpenMetrics, by `Accept`."""
    # not a coroutine: writing the page takes milliseconds, and a thread lets others in between
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(
        encode(runtime_of(request.scope).metrics.registry), headers={"content-type": content_type}
    )
