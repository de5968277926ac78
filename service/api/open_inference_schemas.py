"""The bodies of the Open Inference Protocol as pydantic models: what the OpenAPI document shows.

``infer`` parses and renders its bodies without them; a test holds the two together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Parameters = Annotated[
    dict[str, bool | int | float | str],
    Field(description="What the protocol has no field for; unknown ones are passed over."),
]

Datatype = Literal["FP16", "FP32", "FP64", "UINT8", "INT8", "INT32", "INT64"]


class _Part(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class OpenError(_Part):
    """Every error below `/v2`."""

    error: str = Field(examples=["the datatype is not that of the input (expected FP32)"])


class Live(_Part):
    """Whether the process can answer."""

    live: bool


class Ready(_Part):
    """Whether every required model serves."""

    ready: bool


class ModelReady(_Part):
    """Whether a model serves."""

    name: str
    ready: bool


class ServerMetadata(_Part):
    """What this server is."""

    name: str = Field(examples=["hourglass"])
    version: str
    extensions: list[str]


class TensorMetadata(_Part):
    """A tensor of a model, its batch axis first."""

    name: str
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(description="-1 is a free axis.", examples=[[-1, 1, 28, 28]])


class ModelMetadata(_Part):
    """What a client needs to call a model."""

    name: str
    versions: list[str] = Field(description="Those that serve, oldest first.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfigTensor(_Part):
    """A tensor of a model, without its batch axis."""

    name: str
    data_type: str = Field(examples=["TYPE_FP32"])
    dims: list[int] = Field(description="-1 is a free axis.", examples=[[1, 28, 28]])


class DynamicBatching(_Part):
    """Rows of concurrent requests are run together."""

    max_queue_delay_microseconds: int


class ModelConfig(_Part):
    """A model's configuration, as Triton's tools read it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="Rows of one request at most.")
    input: list[ConfigTensor]
    output: list[ConfigTensor]
    dynamic_batching: DynamicBatching


class Duration(_Part):
    """How often, and how long together."""

    count: int
    ns: int


class InferenceStatistics(_Part):
    """Of requests: how they ended, and the phases of those that were answered."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration = Field(description="Body read and parsed.")
    compute_infer: Duration = Field(description="From the first run's start to its end.")
    compute_output: Duration = Field(description="Answer rendered.")
    cache_hit: Duration = Field(description="There is no cache.")
    cache_miss: Duration = Field(description="There is no cache.")


class BatchStatistics(_Part):
    """Of runs with so many rows; what the other phases take is not known by batch."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(_Part):
    """What a version has done since it was loaded, by either protocol."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970; 0 before the first.")
    inference_count: int = Field(description="Rows answered.")
    execution_count: int = Field(description="Runs that succeeded.")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class StatisticsAnswer(_Part):
    """Statistics of models."""

    model_stats: list[ModelStatistics]


class IndexRequest(_Part):
    """Which models to list."""

    ready: bool = Field(default=False, description="Only those that serve.")


class IndexEntry(_Part):
    """A version of a model in the repository."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class RequestTensor(_Part):
    """The input, its values as JSON or as bytes behind the JSON."""

    name: str = Field(examples=["input"])
    shape: list[int] = Field(description="Batch axis first.", examples=[[1, 4]])
    datatype: Datatype
    parameters: Parameters | None = Field(
        default=None, description="`binary_data_size`: bytes of the tensor behind the JSON."
    )
    data: list[Any] | None = Field(
        default=None, description="Numbers, flat in row-major order or nested.",
        examples=[[0.25, 0.5, 0.75, 1.0]],
    )  # fmt: skip


class RequestOutput(_Part):
    """An output that is wanted."""

    name: str = Field(examples=["code"])
    parameters: Parameters | None = Field(
        default=None, description="`binary_data`: as bytes behind the JSON."
    )


class InferRequest(_Part):
    """Rows of a model's input, and what is wanted of them."""

    id: str | None = Field(default=None, description="Repeated in the answer.")
    parameters: Parameters | None = Field(
        default=None,
        description="`binary_data_output`: all outputs as bytes behind the JSON; `timeout`:"
        " microseconds that the request may take.",
    )
    inputs: Annotated[list[RequestTensor], Field(min_length=1, max_length=1)]
    outputs: list[RequestOutput] | None = Field(default=None, description="All if not given.")


class ResponseTensor(_Part):
    """An output."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters | None = Field(
        default=None,
        description="`binary_data_size` of bytes behind the JSON; `metric` and `threshold` of"
        " scores. None where `binary_data` was asked for as false.",
    )
    data: list[Any] | None = Field(default=None, description="Numbers, flat.")


class InferAnswer(_Part):
    """The outputs, in the order in which they were asked for."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters | None = Field(
        default=None, description="`metric` and `threshold`, where `score` is among the outputs."
    )
    outputs: list[ResponseTensor]
