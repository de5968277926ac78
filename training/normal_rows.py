"""Sources of rows that are normal or not: normal ones to learn from, both to judge.

Needs no PyTorch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from training.data import mnist, shuttle
from training.recipe import HoldOut
from training.rows import Rows, RowSets, sort
from training.sources import MNIST_FACTS, Facts


@dataclass(frozen=True, slots=True)
class OneDigit:
    """One digit of MNIST as what is normal; every other digit is an anomaly.

    The labels of training images tell which of them are that digit. Some images of other digits
    lie beside the validation rows, to choose a measure with. Of the test images all are judged.

    Attributes:
        digit: The normal one.
        others: How many training images of other digits.
        seed: Which ones.
    """

    digit: int
    others: int = 2000
    seed: int = 0

    folder: ClassVar[Path] = Path("data/mnist")

    @property
    def facts(self) -> Facts:
        return replace(
            MNIST_FACTS,
            calibration=(
                f"MNIST training images of the digit {self.digit} that were neither trained on nor"
                " used to choose a measure, in stretches of neighbours, so that most of their"
                " writers are strangers to the model"
            ),
            test=(
                f"{MNIST_FACTS.test}: the {self.digit} is normal, the other nine are anomalies;"
                " the error is that of the normal ones"
            ),
        )

    def gather(
        self,
        hold_out: HoldOut,
        folder: Path,
        *,
        train_rows: int | None = None,
        address: str | None = None,
        photographs: Path | None = None,
    ) -> RowSets:
        _no_photographs(photographs)
        parts = mnist.load(folder, source=address or mnist.SOURCE)
        train, test = parts["train"], parts["test"]
        is_normal = train.labels == self.digit
        chosen = np.random.default_rng(self.seed).choice(
            np.flatnonzero(~is_normal), self.others, replace=False
        )
        return _split(
            mnist.as_rows(train.images[is_normal]),
            hold_out,
            train_rows,
            test=mnist.as_rows(test.images),
            labels=(test.labels != self.digit).astype(np.uint8),
            others=mnist.as_rows(train.images[chosen]),
        )


@dataclass(frozen=True, slots=True)
class Shuttle:
    """A random half of the normal rows to learn from; the other half and all anomalies to judge.

    The protocol of Livernoche et al., "On Diffusion Modeling for Anomaly Detection", ICLR 2024.

    Attributes:
        seed: Of the halves.
    """

    seed: int = 0

    folder: ClassVar[Path] = Path("data/adbench")
    facts: ClassVar[Facts] = Facts(
        data=f"{shuttle.NAME} ({shuttle.AUTHORS})",
        address=f"{shuttle.SOURCE}{shuttle.FILE}",
        licence=shuttle.LICENCE,
        model_licence=(
            "Apache-2.0; the rows in golden.npz are those of Statlog (Shuttle), CC BY 4.0"
        ),
        preprocessing=(
            "Part of the graph: it takes the numbers as they are in the data set, and divides"
            " each column by its deviation itself."
        ),
        calibration=(
            "normal rows of the half that is learned from, drawn at random and neither trained on"
            " nor looked at during training"
        ),
        test=(
            "the half of the normal rows that was kept apart, and all anomalies; the error is that"
            " of the normal ones"
        ),
        unit="column, in units of its deviation",
    )

    def gather(
        self,
        hold_out: HoldOut,
        folder: Path,
        *,
        train_rows: int | None = None,
        address: str | None = None,
        photographs: Path | None = None,
    ) -> RowSets:
        _no_photographs(photographs)
        rows, anomalies = shuttle.load(folder, source=address or shuttle.SOURCE)
        normal = np.random.default_rng(self.seed).permutation(np.flatnonzero(~anomalies))
        learned, others = np.split(normal, [len(normal) // 2])
        judged = np.concatenate([others, np.flatnonzero(anomalies)])
        return _split(
            rows[learned],
            hold_out,
            train_rows,
            test=rows[judged],
            labels=anomalies[judged].astype(np.uint8),
        )


def _no_photographs(folder: Path | None) -> None:
    if folder is not None:
        raise ValueError("photographs say nothing about a model of other rows than all digits")


def _split(
    normal: Rows,
    hold_out: HoldOut,
    train_rows: int | None,
    *,
    test: Rows,
    labels: npt.NDArray[np.uint8],
    others: Rows | None = None,
) -> RowSets:
    """Sort normal rows by their use; those for judging are sorted already."""
    split = sort(len(normal), hold_out, train_rows)
    return RowSets(
        train=normal[split.train],
        validation=normal[split.validation],
        calibration=normal[split.calibration],
        test=test,
        labels=labels,
        others=others,
    )
