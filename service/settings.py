"""Every setting: an environment variable ``HOURGLASS_*`` and a flag of ``hourglass serve``.

Built in ``service.cli`` and handed down; nothing reads the environment later.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENVIRONMENT_PREFIX = "HOURGLASS_"

Count = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Patience = Annotated[float, Field(gt=0, le=3_600_000)]
Mebibytes = Annotated[int, Field(ge=0)]

# what a server and a model may say of how runs are made
Threads: TypeAlias = Literal["auto"] | Count
ArenaExtend: TypeAlias = Literal["same_as_requested", "next_power_of_two"]
ConvolutionSearch: TypeAlias = Literal["heuristic", "exhaustive", "default"]


class Settings(BaseSettings):
    """How this server is to run."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", validate_default=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port; 0 takes any.")
    models: Path = Field(Path("models"), description="Folder of the model repository.")
    state: Path | None = Field(
        None,
        description="Folder that keeps calibrations made by this server and by `hourglass"
        " calibrate --name`; without it none can be made over HTTP.",
    )
    required_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Models without which the server is not ready, as name or name/version,"
        " separated by commas; all that are found at start when empty.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; cuda never falls back to the CPU."
    )
    device_id: Annotated[int, Field(ge=0)] = Field(0, description="Which GPU.")
    intra_op_threads: Threads = Field(
        1,
        description="Threads that share one run on the CPU; auto takes the cores that affinity and"
        " cgroup leave, less one for HTTP.",
    )
    cuda_memory_limit_mib: Mebibytes = Field(
        0, description="MiB that the arena of each session may take on a GPU; 0 is no limit."
    )
    cuda_arena_extend: ArenaExtend = Field(
        "same_as_requested",
        description="How much a GPU arena takes when it grows: same_as_requested or"
        " next_power_of_two.",
    )
    cuda_conv_search: ConvolutionSearch = Field(
        "heuristic",
        description="How cuDNN chooses a convolution: heuristic, exhaustive (measures, for seconds"
        " a shape) or default.",
    )
    cuda_tf32: bool = Field(
        False,
        description="Let a GPU multiply with ten bits of mantissa; never where scores are"
        " calibrated.",
    )
    cuda_prefer_nhwc: bool = Field(
        False, description="Let a GPU run convolutions with the channels last."
    )
    max_batch_rows: Count | Literal["auto"] = Field(
        "auto",
        description="Rows in a run at most; auto takes for each model and operation what its"
        " measured cost makes useful, up to 128.",
    )
    max_queue_rows: Count = Field(
        4096, description="Rows that may wait for each operation of a model; more are refused."
    )
    max_queue_wait_ms: Annotated[float, Field(gt=0)] = Field(
        1_000,
        description="Work that may wait for each operation of a model, by what its runs were"
        " seen to cost; whoever finds more is refused.",
    )
    parallel_runs: Count | Literal["auto"] = Field(
        "auto", description="Runs at the same time on the CPU; auto takes the cores it may use."
    )
    run_place: Literal["auto", "loop", "thread"] = Field(
        "auto",
        description="Where runs happen: each in the event loop, each in a thread, or the cheap"
        " ones in the loop.",
    )
    max_request_rows: Count = Field(4096, description="Rows of one request.")
    queue_delay_ms: Milliseconds = Field(
        0, description="How long a batch that is not full waits for company on an idle device."
    )
    request_timeout_ms: Patience = Field(
        10_000, description="Deadline of a request, from its first byte to its answer."
    )
    header_timeout_ms: Patience = Field(
        10_000,
        description="How long the head of a request may take, from the connection or from its"
        " first byte; and the rest of a body that nobody waits for any more.",
    )
    send_timeout_ms: Patience = Field(
        10_000,
        description="How long a client may take for each 64 KiB of its answer before it is cut.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of the API keys that are asked for, one a line as `hourglass key` writes"
        " them, read at the start; without it everybody who reaches the server may do everything.",
    )
    max_connections: Count | Literal["auto"] = Field(
        "auto",
        description="Connections at the same time; over further ones only health and metrics are"
        " answered. auto takes what the limit of open files leaves, up to 10000.",
    )
    max_body_bytes: Count = Field(
        32 * 1024 * 1024, description="Bytes of a body, before and after decompression."
    )
    max_json_bytes: Count = Field(
        2 * 1024 * 1024,
        description="Bytes of a JSON body; parsing holds up everybody else meanwhile.",
    )
    max_picture_pixels: Count = Field(
        4096 * 4096,
        description="Pixels of a request's pictures together, by their headers, before decoding.",
    )
    load_timeout_ms: Patience = Field(
        120_000,
        description="How long a model may take to load before it is left out, without the time"
        " that it waits for others.",
    )
    drain_delay_ms: Milliseconds = Field(
        1_000,
        description="How long the server goes on answering after SIGTERM while /readyz already"
        " says 503, so that load balancers notice.",
    )
    drain_timeout_ms: Milliseconds = Field(
        30_000, description="How long requests in flight may take after that."
    )
    domain_guard: Literal["asked", "always"] = Field(
        "asked",
        description="When rows are compared with those that the model knows: where a request asks"
        " with include=domain, or with every request, which costs a millisecond or two for one row"
        " and 0.1 to 0.3 ms a row in larger requests.",
    )
    access_log: bool = Field(False, description="Log successful requests too.")
    log_format: Literal["json", "text"] = Field("json", description="How a log line looks.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least serious lines to log."
    )

    @field_validator("required_models", mode="before")
    @classmethod
    def _split_by_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.max_request_rows > self.max_queue_rows:
            raise ValueError("max_request_rows must not exceed max_queue_rows: it could never run")
        return self

    @property
    def request_timeout_s(self) -> float:
        return self.request_timeout_ms / 1000

    @property
    def queue_delay_s(self) -> float:
        return self.queue_delay_ms / 1000
