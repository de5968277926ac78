"""Where the rows of a recipe come from, and what a card says of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from training.data import mnist
from training.recipe import HoldOut, Recipe
from training.rows import RowSets, gather


@dataclass(frozen=True, slots=True)
class Facts:
    """Words about the rows, for the card.

    Attributes:
        data: The data set and who made it.
        address: Where it is downloaded from.
        licence: Of the data.
        model_licence: Of a model with rows of it in its folder.
        preprocessing: What a row has to be like.
        calibration: Which rows calibrate.
        test: Which rows the figures come from.
        unit: What one value is that errors are a mean over.
    """

    data: str
    address: str
    licence: str
    model_licence: str
    preprocessing: str
    calibration: str
    test: str
    unit: str


class Source(Protocol):
    """A data set and the use that a recipe makes of it."""

    @property
    def facts(self) -> Facts: ...

    @property
    def folder(self) -> Path:
        """Where its files are if nobody says otherwise."""
        ...

    def gather(
        self,
        hold_out: HoldOut,
        folder: Path,
        *,
        train_rows: int | None = None,
        address: str | None = None,
        photographs: Path | None = None,
    ) -> RowSets:
        """Read the rows, and sort them by what they may be used for.

        Args:
            hold_out: Which rows are not trained on.
            folder: Of the data set's files; those that it lacks are downloaded.
            train_rows: So many of the other rows instead of all.
            address: Where missing files come from, if not from the usual place.
            photographs: A folder of pictures of anything, to try out strange rows with.
        """
        ...


MNIST_FACTS = Facts(
    data=f"{mnist.NAME} ({mnist.AUTHORS})",
    address=mnist.SOURCE,
    licence=mnist.LICENCE,
    model_licence=(
        f"Apache-2.0; the digits in golden.npz and in the pictures are MNIST's, {mnist.LICENCE}"
    ),
    preprocessing="None in the graph: it takes pixels divided by 255, light ink on black.",
    calibration=(
        "MNIST training images that were neither trained on nor used to choose the weights,"
        " in stretches of neighbours, so that most of their writers are strangers to the model"
    ),
    test=f"{mnist.NAME}, official test images",
    unit="pixel",
)


@dataclass(frozen=True, slots=True)
class AllDigits:
    """MNIST as it is."""

    facts: ClassVar[Facts] = MNIST_FACTS
    folder: ClassVar[Path] = Path("data/mnist")

    def gather(
        self,
        hold_out: HoldOut,
        folder: Path,
        *,
        train_rows: int | None = None,
        address: str | None = None,
        photographs: Path | None = None,
    ) -> RowSets:
        return gather(
            hold_out,
            folder,
            train_rows=train_rows,
            source=address or mnist.SOURCE,
            photographs=photographs,
        )


ALL_DIGITS = AllDigits()


def source_of(recipe: Recipe) -> Source:
    """Give where the rows of a recipe come from."""
    return recipe.source or ALL_DIGITS
