"""The manifest of a model package, ``model.json``: what the model is and what was measured of it.

It is the author's half of the model card; the server adds what it finds at load.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from service.settings import ArenaExtend, ConvolutionSearch, Mebibytes, Threads
from service.specs import DType, Shape, TensorSpec

MODEL_NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
LAYER_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
# one plain name: a manifest can never lead out of its folder
FILE_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"

ModelName = Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME_PATTERN}$")]
FileName = Annotated[str, StringConstraints(pattern=f"^{FILE_NAME_PATTERN}$")]
LayerName = Annotated[str, StringConstraints(pattern=f"^{LAYER_NAME_PATTERN}$")]
OutputName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


GRAPH_KINDS = ("encoder", "decoder", "autoencoder")
_ENCODE_FIELDS = frozenset({"model", "version", "layer", "codes"})
# of the archive of golden rows, and what NumPy's writer calls its own arguments
_GOLDEN_NAMES = frozenset({"input", "code", "reconstruction", "score", "file", "allow_pickle"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class GraphFiles(_Part):
    """Which files hold the graphs: an encoder, a decoder or both, or one autoencoder."""

    encoder: FileName | None = None
    decoder: FileName | None = None
    autoencoder: FileName | None = None
    code_tensor: str | None = Field(
        default=None, description="Name of the code inside the autoencoder file, where it has one."
    )
    code_output: str | None = Field(
        default=None,
        description="Which output of the encoder file is the code, where it has several.",
    )
    output: str | None = Field(
        default=None,
        description="Which output of the decoder or autoencoder file is the reconstruction, where"
        " it has several.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        pair = self.encoder is not None or self.decoder is not None
        if pair == (self.autoencoder is not None):
            raise ValueError("give encoder and decoder, or an autoencoder")
        if pair and self.encoder is None:
            raise ValueError("a decoder alone has nothing to encode with")
        if self.code_tensor is not None and self.autoencoder is None:
            raise ValueError("code_tensor belongs to an autoencoder file")
        if self.code_output is not None and self.encoder is None:
            raise ValueError("code_output belongs to an encoder file")
        if self.output is not None and not (self.decoder or self.autoencoder):
            raise ValueError("output belongs to a decoder or autoencoder file")
        return self

    @property
    def names(self) -> list[str]:
        """The files, in a fixed order."""
        return [name for name in (self.encoder, self.decoder, self.autoencoder) if name]


class InnerTensor(_Part):
    """A tensor inside one of the graph files, and what a row of it looks like."""

    file: Literal["encoder", "decoder", "autoencoder"]
    tensor: str = Field(description="Its name in the file as it was packed.")
    dtype: DType
    shape: Shape = Field(description="Without the batch axis; null is free.")

    @property
    def spec(self) -> TensorSpec:
        """What a row of it looks like."""
        return TensorSpec(self.dtype, self.shape)


class FileRecord(_Part):
    """What a file must be to be trusted."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Preprocessing(_Part):
    """Scaling that happens inside the graph, so that no client does it twice."""

    description: str
    scale: float | list[float] | None = None
    mean: float | list[float] | None = None
    standard_deviation: float | list[float] | None = None


class Layer(_Part):
    """One layer, in the order of the data."""

    name: str
    kind: str
    part: str = Field(description="encoder or decoder")
    nodes: int | None = Field(default=None, description="Units, or channels of a convolution.")
    kernel: list[int] | None = None
    stride: list[int] | None = None
    activation: str | None = None
    output_shape: list[int | None]


class Architecture(_Part):
    """The network and its hyperparameters."""

    kind: str = Field(description="undercomplete, convolutional, sparse, denoising, ...")
    layers: list[Layer] = []
    parameters: int | None = None
    loss: str | None = None
    regularisation: str | None = None
    hyperparameters: dict[str, JsonValue] = {}


class DataSet(_Part):
    """Rows that the model saw, where they come from and what may be done with them."""

    name: str
    source: str
    licence: str
    split: dict[str, int] = Field(default={}, description="Rows for each use.")


class Training(_Part):
    """How the weights came about, so that somebody else can do it again."""

    command: str | None = None
    seed: int | None = None
    seconds: float | None = None
    machine: str | None = None
    software: dict[str, str] = {}
    data: list[DataSet] = []


class PcaTwin(_Part):
    """Principal components of the same size as the code, fitted on the same rows."""

    components: int
    mse: float


class Quality(_Part):
    """What was measured on rows kept apart from training and calibration."""

    data: str
    rows: int
    mse: float
    pca: PcaTwin | None = None
    parity_max_difference: float | None = Field(
        default=None, description="Largest difference to the training framework's own answer."
    )
    figures: dict[str, JsonValue] = Field(default={}, description="Anything else measured.")


class HeldBackRate(_Part):
    """What a threshold did on rows that took no part in setting it."""

    false_positive_rate: float = Field(description="The one that was asked for.")
    threshold: float
    rows_above: int
    achieved: float
    interval: tuple[float, float] = Field(description="Exact binomial, 95 %.")


class HeldBack(_Part):
    """Clean rows that were kept apart from a calibration, to try it on."""

    rows: Annotated[int, Field(ge=1)]
    rates: list[HeldBackRate] = []


class CalibrationFacts(_Part):
    """Where the calibration lies and which rows it comes from."""

    file: FileName
    data: str
    rows: int
    data_sha256: Sha256 | None = Field(
        default=None, description="Of the rows as the model takes them, one after another."
    )
    held_back: HeldBack | None = None


class Golden(_Part):
    """Stored rows and answers; a version serves only when it still gives them.

    An answer passes when |got - stored| <= tolerance * (1 + |stored|).
    """

    file: FileName
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4


class RuntimeOptions(_Part):
    """How this model is run, where that differs from the server's setting of the same name."""

    device_id: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Which GPU, on a server that uses GPUs."
    )
    intra_op_threads: Threads | None = None
    cuda_memory_limit_mib: Mebibytes | None = None
    cuda_arena_extend: ArenaExtend | None = None
    cuda_conv_search: ConvolutionSearch | None = None
    cuda_tf32: bool | None = None
    cuda_prefer_nhwc: bool | None = None


class BatchInvariance(_Part):
    """Whether a row's answers have the same bits in every batch, as it was measured."""

    invariant: bool
    largest_batch: Annotated[int, Field(ge=1)] = Field(
        description="Rows of the largest batch that was tried."
    )
    depends_on: dict[str, list[Literal["size", "position", "neighbours"]]] = Field(
        description="For each operation what the bits depend on beside the row itself."
    )
    provider: str
    onnxruntime: str
    machine: str = Field(description="Architecture of the processor that it was measured on.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.invariant == any(self.depends_on.values()):
            raise ValueError("'invariant' is true exactly when no operation depends on anything")
        return self


class OriginFile(_Part):
    """A file that a package was made from, as it came."""

    file: str
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    producer: str = Field(default="", description="What wrote it, and its version.")
    ir_version: int | None = Field(default=None, description="Of a graph; weights have none.")
    opsets: dict[str, int] = Field(default={}, description="By domain.")


class Parity(_Part):
    """How far the answers of the packed graphs are from those of the graphs as they came."""

    max_difference: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="The largest |packed - source| / (1 + |source|)."
    )
    rows: Annotated[int, Field(ge=1)]


class Origin(_Part):
    """Where the graphs come from, and what was changed in them."""

    files: list[OriginFile]
    changes: list[str] = []
    batch_axis: Literal["free", "freed", "fixed"] = Field(
        description="Whether the file left the number of rows open, was made to, or cannot be."
    )
    parity: Parity


class Description(_Part):
    """All that an author writes down about a model; the files are described by *Manifest*."""

    name: ModelName
    version: Annotated[int, Field(ge=1)]
    title: str | None = None
    description: str = ""
    licence: str | None = None
    intended_use: str | None = None
    not_for: list[str] = Field(default=[], description="What the model must not be used for.")
    graphs: GraphFiles
    input: TensorSpec
    code: TensorSpec | None = None
    output: TensorSpec | None = None
    output_kind: str = Field(
        default="reconstruction",
        description="Anything but 'reconstruction' (colour from grey, a larger picture) has no"
        " anomaly score.",
    )
    layers: dict[LayerName, InnerTensor] = Field(
        default={}, description="Inner tensors that 'encode' gives when they are asked for by name."
    )
    further_outputs: dict[OutputName, InnerTensor] = Field(
        default={},
        description="What the encoder gives of a row beside its code, a cluster say; fields of the"
        " answer of 'encode'.",
    )
    preprocessing: Preprocessing | None = None
    architecture: Architecture | None = None
    training: Training | None = None
    origin: Origin | None = None
    quality: Quality | None = None
    max_batch_rows: Annotated[int, Field(ge=1)] | None = None
    runtime: RuntimeOptions | None = None
    invariant: bool = Field(
        default=False,
        description="Every run is padded to 'max_batch_rows', because bits depend on the size.",
    )

    @model_validator(mode="after")
    def _a_fixed_batch_has_a_size(self) -> Self:
        if self.invariant and self.max_batch_rows is None:
            raise ValueError("'invariant' needs 'max_batch_rows': every run gets so many rows")
        return self

    @model_validator(mode="after")
    def _tensors_follow_from_graphs(self) -> Self:
        whole = self.graphs.autoencoder is not None
        has_code = not whole or self.graphs.code_tensor is not None
        has_output = whole or self.graphs.decoder is not None
        if has_code != (self.code is not None):
            raise ValueError("'code' must be given exactly when the graphs have one")
        if has_output != (self.output is not None):
            raise ValueError("'output' must be given exactly when the graphs have one")
        if self.output and self.reconstructs and self.output.shape != self.input.shape:
            raise ValueError("a reconstruction has the shape of the input")
        return self

    @model_validator(mode="after")
    def _inner_tensors_lie_in_files(self) -> Self:
        given = self.graphs.model_dump(include=set(GRAPH_KINDS), exclude_none=True)
        inner_tensors = [*self.layers.items(), *self.further_outputs.items()]
        if inner_tensors and self.code is None:
            raise ValueError("inner tensors are given by 'encode', and the graphs have no code")
        for name, inner in inner_tensors:
            if inner.file not in given:
                raise ValueError(f"'{name}' lies in the {inner.file}, and there is none")
        for name, inner in self.further_outputs.items():
            if name in _ENCODE_FIELDS:
                raise ValueError(f"'{name}' is already a field of the answer of encode")
            if name in _GOLDEN_NAMES:
                raise ValueError(f"'{name}' has a meaning beside the golden rows")
            if inner.file == "decoder":
                raise ValueError(f"'{name}' must come from the encoder's side")
        return self

    @property
    def reconstructs(self) -> bool:
        """Whether the output is the input again, so that a difference means something."""
        return self.output is not None and self.output_kind == "reconstruction"

    @property
    def fixed_batch_rows(self) -> int | None:
        """Rows that every run is padded to, ``None`` where a run has the rows that came."""
        return self.max_batch_rows if self.invariant else None


class Manifest(Description):
    """The content of ``model.json``."""

    schema_version: Annotated[int, Field(ge=1, le=1)] = 1
    files: dict[FileName, FileRecord]
    calibration: CalibrationFacts | None = None
    golden: Golden | None = None
    batch_invariance: BatchInvariance | None = None
    seal: Sha256 | None = Field(
        default=None, description="sha-256 of all the rest; see service.repository.seal."
    )

    @model_validator(mode="after")
    def _promises_what_was_found(self) -> Self:
        if self.invariant and self.batch_invariance and not self.batch_invariance.invariant:
            raise ValueError("'invariant' is promised, and was measured not to hold")
        return self

    @model_validator(mode="after")
    def _files_are_recorded(self) -> Self:
        used = [*self.graphs.names]
        used += [part.file for part in (self.calibration, self.golden) if part is not None]
        missing = [name for name in used if name not in self.files]
        if missing:
            raise ValueError(f"no checksum for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _scores_keep_their_precision(self) -> Self:
        if self.calibration is not None and self.runtime is not None and self.runtime.cuda_tf32:
            raise ValueError("cuda_tf32 would take the scores out of their calibration")
        return self
