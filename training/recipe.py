"""What a recipe says: all the choices behind one bundled model, and nothing that runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from service.specs import TensorSpec

if TYPE_CHECKING:  # a recipe can be read without torch
    from training.networks import Autoencoder
    from training.sources import Source


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: At most; the learning rate is spread over all of them.
        batch_rows: Rows of a step.
        learning_rate: Of the first step; it falls linearly to a thousandth.
        patience: Epochs without a better validation error after which training stops early.
        keep: Which epoch's weights are kept: the one with the lowest validation error, or the
            last one, where the error of the pixels is not what is trained for.
    """

    epochs: int
    batch_rows: int
    learning_rate: float
    patience: int = 10
    keep: Literal["best", "last"] = "best"


@dataclass(frozen=True, slots=True)
class Distortion:
    """Small random changes of a picture that leave it what it is."""

    degrees: float
    pixels: float
    zoom: float


@dataclass(frozen=True, slots=True)
class Blots:
    """A square of one random value over a random place of a picture, while it is learned from.

    What is wrong in one place does not bend the others then, and the error lies where the fault is.

    Attributes:
        largest: Side of the largest square; the smallest has two pixels.
        share: Of the pictures that have one.
    """

    largest: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised; every part that is left out weighs nothing.

    Attributes:
        pixels: Mean over all pixels of binary cross-entropy or of the squared error.
        noise: Standard deviation of Gaussian noise on the input; the target stays clean.
        sparsity: Weight of the mean magnitude of the code's values (an L1 penalty).
        channels: Channels of the code that are all to be used, see ``training.losses``.
        evenness: Weight of how far they are from that.
        activity: How much each is to be used, in (0, 1).
        clusters: How many clusters the code is drawn to, see ``training.clusters``.
        clustering: Weight of that pull.
        distortion: How the input is moved about before the network sees it.
        blots: What the input is covered with; the target is not.
    """

    pixels: Literal["bce", "mse"] = "bce"
    noise: float = 0.0
    sparsity: float = 0.0
    channels: int = 0
    evenness: float = 0.0
    activity: float = 0.0
    clusters: int = 0
    clustering: float = 0.0
    distortion: Distortion | None = None
    blots: Blots | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of training with one objective and one fall of the learning rate."""

    schedule: Schedule
    objective: Objective = Objective()


@dataclass(frozen=True, slots=True)
class TableRecipe:
    """Sizes and schedule of a dense denoising autoencoder, see ``training.tables``.

    Attributes:
        widths: Nodes of the layers between a row and its code.
        code: Values of the code; noise and not its size keeps the network from copying.
        noise: Deviation of the noise, where a column's own is 1.
        steps: Steps of learning.
        batch_rows: Rows a step, drawn anew each time.
        learning_rate: At the first step.
        scaled: Columns have units of their own, which the graph takes off and puts back.
        reach: Deviations beyond which the graph takes a value for one at that distance: what no
            row has shown cannot be copied, and stands out in the column that it lies in.
        blots: What each picture is covered with while it is learned from.
    """

    widths: tuple[int, ...] = (128, 64)
    code: int = 32
    noise: float = 1.0
    steps: int = 2000
    batch_rows: int = 256
    learning_rate: float = 2e-3
    scaled: bool = True
    reach: float | None = None
    blots: Blots | None = None


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Training rows that are not trained on; see ``training.splits``."""

    validation: int
    calibration: int
    stretches: int


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Layers that begin with the weights of a bundled model.

    Attributes:
        model: Its name.
        version: Its version.
        encoder: Which of the encoder's modules, by their number.
        decoder: Which of the decoder's.
        frozen: They stay as they came.
    """

    model: str
    version: int
    encoder: tuple[int, ...] = ()
    decoder: tuple[int, ...] = ()
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """One bundled model, from its name to its hyperparameters.

    Attributes:
        name: Folder in the model repository.
        version: Sub-folder; raise it when the weights change for those who call the model.
        kind: The word of the card for this sort of autoencoder.
        title: One line for people.
        description: What it does and how it was made.
        intended_use: What it may be relied on for.
        not_for: What it must not be used for.
        input: A row of the encoder's input and of the decoder's output.
        code_values: Length of the code.
        network: Makes the network with fresh weights.
        stages: What is trained, one after the other; mostly one.
        hold_out: Rows for choosing the weights and for calibration.
        train_rows: Trained on only so many rows, evenly spread over the others.
        inherits: Where some of the first weights come from.
        rivals: The same with one choice made differently, trained only to be compared.
        rival_seeds: Seeds that this recipe and its rivals are compared with, beside the first.
        output_kind: What the output is, as the manifest understands it.
        source: Where its rows come from; all digits of MNIST if it is left out.
        table: Trained by ``training.tables`` with these sizes and steps, instead of *stages*.
        default_measure: Which measure scores a row when nobody asks for another.
        tried: What was tried in vain, for the card of a model that misses its target.
    """

    name: str
    version: int
    kind: str
    title: str
    description: str
    intended_use: str
    not_for: tuple[str, ...]
    input: TensorSpec
    code_values: int
    network: Callable[[], "Autoencoder"]
    stages: tuple[Stage, ...]
    hold_out: HoldOut
    train_rows: int | None = None
    inherits: Inheritance | None = None
    rivals: "dict[str, Recipe] | None" = None
    rival_seeds: tuple[int, ...] = ()
    output_kind: str = "reconstruction"
    source: "Source | None" = None
    table: TableRecipe | None = None
    default_measure: str = "mse"
    tried: tuple[str, ...] = ()

    @property
    def objective(self) -> Objective:
        """What the weights were trained for in the end."""
        if self.table is not None:
            return Objective(pixels="mse", noise=self.table.noise, blots=self.table.blots)
        return self.stages[-1].objective
