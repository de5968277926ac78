"""What a recipe says: all the choices behind one bundled model, and nothing that runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.specs import TensorSpec

if TYPE_CHECKING:  # a recipe can be read without torch
    from training.networks import Autoencoder


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    batch_rows: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Training rows that are not trained on; see ``training.splits``."""

    validation: int
    calibration: int
    stretches: int


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
        schedule: Epochs, batch size, learning rate.
        hold_out: Rows for choosing the weights and for calibration.
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
    schedule: Schedule
    hold_out: HoldOut
