"""Recompute every figure of every card through a running service, and compare.

    python -m training.evaluate --data data/mnist

Starts ``hourglass serve`` on the bundled models, asks it over HTTP for codes, reconstructions and
scores of the test rows, and prints for each figure what the card says beside what came out.
Exit status 1 if one is off. Needs no PyTorch. What a service cannot tell (training time, the
number of weights, how far the export is from PyTorch, what the rivals of a recipe reached) is
named, and not compared.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from service.repository.manifest import Description
from service.repository.packages import scan
from training.answers import Answers
from training.figures import TOLERANCES, Examined, figures
from training.recipes.digits import HOLD_OUT
from training.rows import RowSets, gather
from training.served import Served, described, service


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of a card, and what the running service gives."""

    model: str
    figure: str
    card: float | None
    measured: float

    @property
    def holds(self) -> bool:
        if self.card is None:
            return False
        return math.isclose(self.card, self.measured, rel_tol=0, abs_tol=TOLERANCES[self.figure])

    def __str__(self) -> str:
        said = "not on it" if self.card is None else f"{self.card:.7g}"
        verdict = "ok" if self.holds else "OFF"
        return (
            f"{self.model:18} {self.figure:45} {said:>12} {self.measured:>12.7g}"
            f" {TOLERANCES[self.figure]:>8g}  {verdict}"
        )


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    found: list[Comparison] = []
    print(f"{'model':18} {'figure':45} {'card':>12} {'measured':>12} {'within':>8}")
    with service(options.models) as address:
        for location in scan(options.models):
            if options.model in (None, location.name):
                card = described(location.folder)
                rows = gather(HOLD_OUT, options.data, train_rows=_trained_on(card))
                found += compare(card, Served(address, card.name, card.version), rows)
    off = sum(not comparison.holds for comparison in found)
    print(
        f"{len(found)} figures, {off} of them off; a service cannot tell, and so nobody compared:"
    )
    print(
        "training time, number of weights, distance of the export from PyTorch, errors of rivals,"
        " photographs"
    )
    return 1 if off or not found else 0


def compare(card: Description, answers: Answers, rows: RowSets) -> list[Comparison]:
    """Print and give every figure of *card* beside the one that *answers* lead to."""
    said, measured = on_the_card(card), figures(examined(card, answers, rows))
    # what the card claims and nobody measures any more is off as well
    missing = {name: math.nan for name in said if name in TOLERANCES and name not in measured}
    comparisons = [
        Comparison(f"{card.name}/{card.version}", name, said.get(name), value)
        for name, value in (measured | missing).items()
    ]
    for comparison in comparisons:
        print(comparison, flush=True)
    return comparisons


def examined(card: Description, answers: Answers, rows: RowSets) -> Examined:
    """Put a card, who answers for it, and rows together."""
    if card.architecture is None:
        raise ValueError(f"the card of {card.name} says nothing of its architecture")
    return Examined(card.architecture, answers, rows.train, rows.test, rows.labels)


def _trained_on(card: Description) -> int | None:
    """How many rows a card says that its model was trained on."""
    return card.training.data[0].split.get("train") if card.training else None


def on_the_card(card: Description) -> dict[str, float]:
    """Give the figures that a card makes a claim about, by name."""
    if card.quality is None:
        return {}
    found = {"mse": card.quality.mse}
    if card.quality.pca is not None:
        found["pca_mse"] = card.quality.pca.mse
    numbers = {k: v for k, v in card.quality.figures.items() if isinstance(v, int | float)}
    return found | {name: float(number) for name, number in numbers.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("data/mnist"), help="folder of the data set's files")
    add("--models", type=Path, default=Path("models"), help="model repository to serve")
    add("--model", help="only this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
