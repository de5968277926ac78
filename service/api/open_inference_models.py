"""The Open Inference Protocol without inference: health, metadata, statistics, the repository."""

import asyncio
from collections.abc import Iterable
from typing import Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from service import __version__
from service.api.faces import DECODER, Face, faces_of, find_face
from service.api.open_inference_schemas import (
    ConfigTensor,
    DynamicBatching,
    IndexEntry,
    IndexRequest,
    Live,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    OpenError,
    Ready,
    ServerMetadata,
    StatisticsAnswer,
    TensorMetadata,
)
from service.api.protocol import ROOT
from service.api.runtime import Runtime, runtime_of
from service.api.statistics import statistics_of
from service.api.system import missing
from service.bodies.compression import decompress
from service.bodies.open_inference import datatype
from service.errors import (
    ClientGoneError,
    DeadlineExceededError,
    InvalidRowsError,
    MalformedBodyError,
    TooLargeError,
    UnavailableError,
)
from service.registry import Entry
from service.specs import TensorSpec

router = APIRouter(prefix=ROOT, tags=["open inference protocol"])

EXTENSIONS: Final = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
]

# what ONNX models are called in Triton's metadata and configuration
_PLATFORM: Final = "onnxruntime_onnx"
_BACKEND: Final = "onnxruntime"

_INDEX_MAX_BYTES: Final = 4096

_STATES: Final = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE"}


@router.get("")
async def show_server() -> ServerMetadata:
    """Tell what this server is."""
    return ServerMetadata(name="hourglass", version=__version__, extensions=EXTENSIONS)


@router.get("/health/live", responses={503: {"model": Live}})
async def show_liveness(request: Request, response: Response) -> Live:
    """Tell whether the process can answer at all; only a restart cures a 503."""
    is_live = not runtime_of(request.scope).lifecycle.is_device_lost
    return Live(live=_told(response, so=is_live))


@router.get("/health/ready", responses={503: {"model": Ready}})
async def show_readiness(request: Request, response: Response) -> Ready:
    """Tell whether every required model is loaded, warmed and has passed its self-test."""
    is_ready = not missing(runtime_of(request.scope))
    return Ready(ready=_told(response, so=is_ready))


# before the paths of a model: "stats" would be taken for its name
@router.get("/models/stats")
def show_all_statistics(request: Request) -> StatisticsAnswer:
    """Tell what all models have done since they were loaded."""
    registry = runtime_of(request.scope).registry
    return _statistics(face for entry in registry.entries() for face in _faces(entry))


@router.get("/models/{model}")
async def show_metadata(request: Request, model: str) -> ModelMetadata:
    """Tell what a client needs to call a model."""
    return _metadata(runtime_of(request.scope), model, None)


@router.get("/models/{model}/versions/{version}")
async def show_version_metadata(request: Request, model: str, version: str) -> ModelMetadata:
    """Tell what a client needs to call a version of a model."""
    return _metadata(runtime_of(request.scope), model, version)


@router.get("/models/{model}/ready", responses={503: {"model": ModelReady}})
async def show_model_readiness(request: Request, response: Response, model: str) -> ModelReady:
    """Tell whether a model serves."""
    is_ready = _is_ready(runtime_of(request.scope), model, None)
    return ModelReady(name=model, ready=_told(response, so=is_ready))


@router.get("/models/{model}/versions/{version}/ready", responses={503: {"model": ModelReady}})
async def show_version_readiness(
    request: Request, response: Response, model: str, version: str
) -> ModelReady:
    """Tell whether a version of a model serves."""
    is_ready = _is_ready(runtime_of(request.scope), model, version)
    return ModelReady(name=model, ready=_told(response, so=is_ready))


@router.get("/models/{model}/config")
async def show_config(request: Request, model: str) -> ModelConfig:
    """Show a model's configuration, as Triton's tools read it."""
    return _config(runtime_of(request.scope), model, None)


@router.get("/models/{model}/versions/{version}/config")
async def show_version_config(request: Request, model: str, version: str) -> ModelConfig:
    """Show the configuration of a version of a model."""
    return _config(runtime_of(request.scope), model, version)


# not coroutines: statistics count the notes of requests, which takes a moment when they are many
@router.get("/models/{model}/stats")
def show_statistics(request: Request, model: str) -> StatisticsAnswer:
    """Tell what every version of a model that serves has done since it was loaded."""
    registry = runtime_of(request.scope).registry
    find_face(registry, model)
    entries = registry.versions(model.removesuffix(DECODER))
    return _statistics(face for entry in entries for face in _faces(entry) if face.name == model)


@router.get("/models/{model}/versions/{version}/stats")
def show_version_statistics(request: Request, model: str, version: str) -> StatisticsAnswer:
    """Tell what a version of a model has done since it was loaded."""
    return _statistics([find_face(runtime_of(request.scope).registry, model, version)])


@router.post("/repository/index")
async def list_repository(request: Request) -> list[IndexEntry]:
    """List every version in the repository, or with `ready` only those that serve."""
    runtime = runtime_of(request.scope)
    wanted = _index_request(await _read(request, runtime))
    listed = [one for entry in runtime.registry.entries() for one in _listed(entry, runtime)]
    return [each for each in listed if each.state == "READY" or not wanted.ready]


@router.post("/repository/models/{model}/load", status_code=403, response_model=OpenError)
async def load_model(model: str) -> OpenError:  # noqa: ARG001 - it is part of the path
    """Refuse: what is served is what the repository held at the start."""
    return _unmanaged()


@router.post("/repository/models/{model}/unload", status_code=403, response_model=OpenError)
async def unload_model(model: str) -> OpenError:  # noqa: ARG001 - it is part of the path
    """Refuse: what is served is what the repository held at the start."""
    return _unmanaged()


def _unmanaged() -> OpenError:
    return OpenError(error="this server does not load or unload models over HTTP")


def _told(response: Response, *, so: bool) -> bool:
    """Give *so*, and say by the status that it is not, where it is not."""
    if not so:
        response.status_code = 503
        response.headers["retry-after"] = "1"
    return so


def _faces(entry: Entry) -> list[Face]:
    live = entry.live  # looked at once: statistics are read in a thread
    return [] if live is None else faces_of(live)


def _statistics(faces: Iterable[Face]) -> StatisticsAnswer:
    return StatisticsAnswer(model_stats=[statistics_of(face) for face in faces])


def _is_ready(runtime: Runtime, model: str, version: str | None) -> bool:
    try:
        find_face(runtime.registry, model, version)
    except UnavailableError:
        return False
    return True


def _metadata(runtime: Runtime, model: str, version: str | None) -> ModelMetadata:
    face = find_face(runtime.registry, model, version)
    entries = runtime.registry.versions(face.live.name)
    return ModelMetadata(
        name=face.name,
        versions=[
            str(entry.location.version)
            for entry in entries
            if any(each.name == face.name for each in _faces(entry))
        ],
        platform=_PLATFORM,
        inputs=[_tensor(face.source.name, face.source.spec)],
        outputs=[_tensor(name, spec) for name, spec in face.outputs.items()],
    )


def _tensor(name: str, spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=name, datatype=datatype(spec), shape=[-1, *_dims(spec)])


def _dims(spec: TensorSpec) -> list[int]:
    return [-1 if axis is None else axis for axis in spec.shape]


def _config(runtime: Runtime, model: str, version: str | None) -> ModelConfig:
    face = find_face(runtime.registry, model, version)
    delay_us = round(runtime.settings.queue_delay_ms * 1000)
    return ModelConfig(
        name=face.name,
        platform=_PLATFORM,
        backend=_BACKEND,
        max_batch_size=runtime.settings.max_request_rows,
        input=[_config_tensor(face.source.name, face.source.spec)],
        output=[_config_tensor(name, spec) for name, spec in face.outputs.items()],
        dynamic_batching=DynamicBatching(max_queue_delay_microseconds=delay_us),
    )


def _config_tensor(name: str, spec: TensorSpec) -> ConfigTensor:
    return ConfigTensor(name=name, data_type=f"TYPE_{datatype(spec)}", dims=_dims(spec))


def _listed(entry: Entry, runtime: Runtime) -> list[IndexEntry]:
    """List a version, and the decoder of one that serves."""
    version = str(entry.location.version)
    if runtime.lifecycle.is_device_lost:
        return [_entry(entry.location.name, version, "failed", "the device is lost")]
    if entry.live is None:
        why = "" if entry.state == "loading" else "it could not be loaded"
        return [_entry(entry.location.name, version, entry.state, why)]
    return [_entry(face.name, version, entry.state, "") for face in faces_of(entry.live)]


def _entry(name: str, version: str, state: str, reason: str) -> IndexEntry:
    return IndexEntry.model_validate(
        {"name": name, "version": version, "state": _STATES[state], "reason": reason}
    )


def _index_request(body: bytes) -> IndexRequest:
    """Read what is to be listed; everything where the body is empty."""
    if not body:
        return IndexRequest()
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedBodyError("the body is not JSON", expected='{"ready": true}') from None
    ready = document.get("ready", False) if type(document) is dict else None
    if type(ready) is not bool:
        raise InvalidRowsError("'ready' must be true or false", expected='{"ready": true}')
    return IndexRequest(ready=ready)


async def _read(request: Request, runtime: Runtime) -> bytes:
    """Read a small body within the server's deadline."""
    body = b""
    try:
        async with asyncio.timeout(runtime.settings.request_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _INDEX_MAX_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the body was complete") from None
    except ClientDisconnect:
        raise ClientGoneError("the client left before its body was complete") from None
    encoding = request.headers.get("content-encoding", "")
    return decompress(body, encoding, max_bytes=_INDEX_MAX_BYTES)


def _too_large() -> TooLargeError:
    return TooLargeError(
        f"a body of this kind may have {_INDEX_MAX_BYTES} bytes",
        expected=f"at most {_INDEX_MAX_BYTES} bytes",
    )
