"""The bodies of the contract as pydantic models: what the OpenAPI document shows.

The hot path renders its answers without them; a test holds the two together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from service.api.options import EncodeOptions, RowOptions, ScoreOptions
from service.repository.manifest import (
    Architecture,
    BatchInvariance,
    FileRecord,
    InnerTensor,
    Preprocessing,
    Quality,
    Training,
)
from service.scoring.thresholds import Method
from service.specs import TensorSpec

RowList = Annotated[
    list[list[Any]],
    Field(
        min_length=1,
        description="Rows in the model's item shape, or flat where the shape is fixed. All of one"
        " shape, of numbers only.",
    ),
]


def without_resize(schema: dict[str, Any]) -> None:
    """Tell that there is nothing to resize in numbers."""
    del schema["properties"]["resize"]


class RowsBody(RowOptions):
    """Rows of the model's input for `reconstruct`, or codes for `decode`."""

    model_config = ConfigDict(json_schema_extra=without_resize)

    inputs: RowList


class EncodeBody(EncodeOptions):
    """Rows of the model's input, and perhaps the layer that is wanted."""

    model_config = ConfigDict(json_schema_extra=without_resize)

    inputs: RowList


def _as_beside_numbers(schema: dict[str, Any]) -> None:
    """Tell what holds between the options; and that there is nothing to resize in numbers."""
    without_resize(schema)
    number, text = {"type": "number"}, {"type": "string"}
    schema["allOf"] = [
        {"not": {"required": [*both], "properties": both}}
        for both in (
            {"threshold": number, "false_positive_rate": number},
            {"threshold": number, "method": text},
        )
    ]


class ScoreBody(ScoreOptions):
    """Rows of the model's input, with the options of the score."""

    model_config = ConfigDict(json_schema_extra=_as_beside_numbers)

    inputs: RowList


def _no_default(schema: dict[str, Any]) -> None:
    """Tell of a field that is left out where there is nothing to say, and never null."""
    schema.pop("default")


class _Answer(BaseModel):
    model: str
    version: str


class _RowsAnswer(_Answer):
    domain: list[Literal["in", "out"]] | SkipJsonSchema[None] = Field(
        default=None,
        description="Whether each row is of the kind that the model knows, with include=domain.",
        json_schema_extra=_no_default,
    )
    domain_p_values: list[float] | SkipJsonSchema[None] = Field(
        default=None,
        description="Share of normal rows that are at least as strange, with include=domain.",
        json_schema_extra=_no_default,
    )


class Explanation(BaseModel):
    """What one feature adds to the error of a row."""

    index: list[int] = Field(description="Its place in the row.")
    name: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Where features have names.",
        json_schema_extra=_no_default,
    )
    error: float = Field(description="Squared, in units of the range or of the feature's scale.")
    share: float = Field(description="Of the row's error; those of all features sum to 1.")
    observed: float
    expected: float = Field(description="What the model made of it.")
    residual: float = Field(description="observed - expected")


class ErrorRegion(BaseModel):
    """A box around a connected region of errors."""

    top: int
    left: int
    height: int
    width: int
    pixels: int = Field(description="Places in the region itself.")
    error: float = Field(description="Mean of its places.")
    share: float = Field(description="Of the picture's error.")


class CodesAnswer(_RowsAnswer):
    """What `encode` gives; the card lists its `further_outputs`, which are fields of it too."""

    model_config = ConfigDict(extra="allow")

    layer: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Whose values `codes` holds, where a layer was asked for.",
        json_schema_extra=_no_default,
    )
    codes: list[list[Any] | float] = Field(
        description="One code a row: a list, or a number where it has no axes."
    )


class ReconstructionsAnswer(_RowsAnswer):
    """What `decode` and `reconstruct` give."""

    reconstructions: list[list[Any]] = Field(
        description="One row a row, in the input's units and layout."
    )


class ScoresAnswer(_RowsAnswer):
    """What `anomaly-score` gives; high is abnormal, always."""

    metric: str
    scores: list[float] = Field(description="One a row, in the metric's unit.")
    threshold: float | None = Field(description="In the unit of the scores.")
    false_positive_rate: float | None = Field(
        description="Share of normal rows expected above the threshold."
    )
    p_values: list[float] | None = Field(
        description="(1 + number of calibration scores >= score) / (1 + n)."
    )
    anomalies: list[bool | Literal["uncertain"]] | None = Field(
        description="score > threshold; uncertain only with include=uncertain."
    )
    method: Method | SkipJsonSchema[None] = Field(
        default=None,
        description="How the threshold was found, with method or include=uncertain.",
        json_schema_extra=_no_default,
    )
    threshold_interval: tuple[float | None, float | None] | SkipJsonSchema[None] = Field(
        default=None,
        description="Where endless calibration rows would put it, with 95 % confidence.",
        json_schema_extra=_no_default,
    )
    false_positive_rate_interval: tuple[float, float] | SkipJsonSchema[None] = Field(
        default=None,
        description="Share of normal rows that is really above it, with 95 % confidence.",
        json_schema_extra=_no_default,
    )
    extrapolated: bool | SkipJsonSchema[None] = Field(
        default=None,
        description="Whether the rate is rarer than any that the calibration shows.",
        json_schema_extra=_no_default,
    )
    explanations: list[list[Explanation]] | SkipJsonSchema[None] = Field(
        default=None,
        description="For each row the features with the largest errors, with explain.",
        json_schema_extra=_no_default,
    )
    regions: list[list[ErrorRegion]] | SkipJsonSchema[None] = Field(
        default=None,
        description="For each picture the boxes around its errors, with include=regions.",
        json_schema_extra=_no_default,
    )
    feature_errors: list[list[Any]] | SkipJsonSchema[None] = Field(
        default=None,
        description="Squared error of every feature, with include=feature_errors.",
        json_schema_extra=_no_default,
    )


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    detail: str = Field(description="What is wrong; never with a value that was sent.")
    row: int | SkipJsonSchema[None] = Field(
        default=None,
        description="Zero-based index of the row that is wrong.",
        json_schema_extra=_no_default,
    )
    expected: str | SkipJsonSchema[None] = Field(
        default=None, description="What would be right.", json_schema_extra=_no_default
    )
    received: str | SkipJsonSchema[None] = Field(
        default=None, description="What came instead.", json_schema_extra=_no_default
    )


class ProblemDetails(Fault):
    """Every error (RFC 9457)."""

    type: str = Field(description="A URN made of the title.")
    title: str
    status: int
    request_id: str = Field(description="As in the header X-Request-ID, and in the log.")
    faults: list[Fault] | SkipJsonSchema[None] = Field(
        default=None,
        description="The first ten, where a request has several; the first says what stands above.",
        json_schema_extra=_no_default,
    )
    faults_total: int | SkipJsonSchema[None] = Field(
        default=None,
        description="How many there are, where that is known.",
        json_schema_extra=_no_default,
    )


class ModelSummary(BaseModel):
    """One model in the list."""

    name: str
    versions: list[str] = Field(description="Oldest first.")
    labels: dict[str, str]
    ready: bool
    operations: list[str] = Field(description="Of the version that answers by default.")


class ModelList(BaseModel):
    """Every model in the repository."""

    models: list[ModelSummary]


class CardTensor(BaseModel):
    """A tensor of a model, without its batch axis."""

    dtype: str
    shape: list[int | None] = Field(description="null is a free axis.")
    range: tuple[float, float] | None
    image: dict[str, str] | None
    features: list[str] | None
    scale: list[float] | None = Field(
        default=None, description="What errors are divided by, for each feature."
    )
    body_types: list[str] = Field(default=[], description="Content types that rows may come in.")

    @classmethod
    def of(cls, spec: TensorSpec, body_types: tuple[str, ...] = ()) -> "CardTensor":
        """Show *spec*."""
        image = spec.image and {"mode": spec.image.mode, "layout": spec.image.layout}
        return cls(
            dtype=spec.dtype,
            shape=list(spec.shape),
            range=spec.range,
            image=image,
            features=list(spec.features) if spec.features else None,
            scale=list(spec.scale) if spec.scale else None,
            body_types=list(body_types),
        )


class CardCalibration(BaseModel):
    """What the thresholds rest on."""

    name: str | None = Field(description="Of a stored calibration; null for the package's own.")
    version: int | None
    rows: int
    data: str
    metrics: list[str]
    default_metric: str
    default_false_positive_rate: float
    thresholds: dict[str, dict[str, float]] = Field(
        description="For each metric, thresholds by false positive rate."
    )
    knows_domain: bool = Field(
        description="Whether rows of the model's kind can be told from others."
    )


class OperationCost(BaseModel):
    """What a run costs by the number of its rows, as it was measured at load."""

    rows: list[int] = Field(description="Batch sizes that were measured.")
    seconds: list[float] = Field(description="Of one run of each size.")
    base_s: float = Field(description="By the fit, what a run costs whatever its rows.")
    row_s: float = Field(description="By the fit, what every row adds.")
    rows_per_s: float = Field(description="In batches of the largest size that was measured.")
    useful_rows: int = Field(
        description="Rows beyond which a larger batch wins next to nothing, by the fit; what"
        " batches are limited to where the server's setting is auto."
    )


class Placement(BaseModel):
    """Where a version really runs."""

    provider: str
    device: str
    graph_nodes: dict[str, dict[str, int]] = Field(
        description="For each operation, nodes on each execution provider."
    )
    fixed_batch_rows: int | None = Field(
        description="Rows that every run is padded to; null where a run has the rows that came."
    )
    cost: dict[str, OperationCost] = Field(
        description="For each operation that has a graph of its own and has been opened."
    )


class ModelCard(BaseModel):
    """What a client needs to call a model and an operator to trust it."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    version: str
    labels: list[str]
    state: str = Field(description="loading, ready or failed")
    ready: bool
    title: str | None
    description: str
    licence: str | None
    intended_use: str | None
    not_for: list[str]
    operations: list[str]
    input: CardTensor
    code: CardTensor | None
    output: CardTensor | None
    output_kind: str
    layers: dict[str, InnerTensor] = Field(
        description="What `encode` gives with the option `layer`."
    )
    further_outputs: dict[str, InnerTensor] = Field(
        description="Further fields of the JSON answer of `encode`."
    )
    code_size: int | None
    compression_ratio: float | None = Field(description="Bytes of a row by bytes of its code.")
    preprocessing: Preprocessing | None
    architecture: Architecture | None
    training: Training | None
    quality: Quality | None
    calibration: CardCalibration | None
    batch_invariance: BatchInvariance | None = Field(
        description="Whether answers depend on the batch around a row; null if never measured."
    )
    placement: Placement | None = Field(description="null while it does not serve.")
    files: dict[str, FileRecord]


class Health(BaseModel):
    """Whether the process lives, or is ready."""

    status: str
    waiting_for: list[str] = Field(default=[], description="What is missing to be ready.")
