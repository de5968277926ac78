"""The bodies of the contract as pydantic models: what the OpenAPI document shows.

The hot path renders its answers without them; a test holds the two together.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.options import Options, ScoreOptions
from service.repository.manifest import (
    Architecture,
    BatchInvariance,
    FileRecord,
    Preprocessing,
    Quality,
    Training,
)
from service.specs import TensorSpec

RowList = Annotated[
    list[Any],
    Field(
        description="Rows in the model's item shape, or flat where the shape is fixed."
        " Numbers only.",
        examples=[[[0.0, 0.5, 1.0]]],
    ),
]


class RowsBody(Options):
    """Rows of the model's input, or codes for `decode`."""

    inputs: RowList


class ScoreBody(ScoreOptions):
    """Rows of the model's input, with the options of the score."""

    inputs: RowList


class _Answer(BaseModel):
    model: str = Field(examples=["mnist-conv"])
    version: str = Field(examples=["1"])


class CodesAnswer(_Answer):
    """What `encode` gives."""

    codes: list[Any] = Field(description="One code a row.", examples=[[[0.12, -1.4]]])


class ReconstructionsAnswer(_Answer):
    """What `decode` and `reconstruct` give."""

    reconstructions: list[Any] = Field(
        description="One row a row, in the input's units and layout.", examples=[[[0.0, 0.48]]]
    )


class ScoresAnswer(_Answer):
    """What `anomaly-score` gives; high is abnormal, always."""

    metric: str = Field(examples=["mse"])
    scores: list[float] = Field(description="Reconstruction error of each row.")
    threshold: float | None = Field(description="In the unit of the scores.")
    false_positive_rate: float | None = Field(
        description="Share of normal rows expected above the threshold."
    )
    p_values: list[float] | None = Field(
        description="(1 + number of calibration scores >= score) / (1 + n)."
    )
    anomalies: list[bool] | None = Field(description="score > threshold")
    feature_errors: list[Any] | None = Field(
        default=None, description="Squared error of every feature, with include=feature_errors."
    )


class ProblemDetails(BaseModel):
    """Every error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    row: int | None = Field(default=None, description="Zero-based index of the first wrong row.")
    expected: str | None = None
    received: str | None = None


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
            body_types=list(body_types),
        )


class CardCalibration(BaseModel):
    """What the thresholds rest on."""

    rows: int
    data: str
    metrics: list[str]
    default_metric: str
    default_false_positive_rate: float
    thresholds: dict[str, dict[str, float]] = Field(
        description="For each metric, thresholds by false positive rate."
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
