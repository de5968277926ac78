"""Recompute every figure of every card through a running service, and compare.

    python -m training.evaluate --data data/mnist --tables data/adbench

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
from training.figures import RELATIVE_TOLERANCES, TOLERANCES, Examined, figures
from training.recipe import Recipe
from training.recipes import mnist_anomaly, shuttle
from training.recipes.digits import HOLD_OUT
from training.rows import RowSets
from training.served import Served, described, service
from training.sources import ALL_DIGITS

# the others have rows alike, and their recipes cannot be read without PyTorch
DETECTORS = {recipe.name: recipe for recipe in [shuttle.RECIPE, mnist_anomaly.RECIPE]}


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
        relative = RELATIVE_TOLERANCES.get(self.figure, 0.0)
        within = TOLERANCES[self.figure]
        return math.isclose(self.card, self.measured, rel_tol=relative, abs_tol=within)

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
                rows = _rows(card, options)
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


def _rows(card: Description, options: argparse.Namespace) -> RowSets:
    recipe: Recipe | None = DETECTORS.get(card.name)
    if recipe is None or recipe.source is None:
        return ALL_DIGITS.gather(HOLD_OUT, options.data, train_rows=_trained_on(card))
    folder = options.tables if recipe is shuttle.RECIPE else options.data
    return recipe.source.gather(recipe.hold_out, folder)


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
    return Examined(
        card.architecture,
        answers,
        rows.train,
        rows.test,
        rows.labels,
        validation=rows.validation,
        others=rows.others,
    )


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
    add("--data", type=Path, default=ALL_DIGITS.folder, help="folder of MNIST's files")
    add("--tables", type=Path, default=Path("data/adbench"), help="folder of the shuttle's file")
    add("--models", type=Path, default=Path("models"), help="model repository to serve")
    add("--model", help="only this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
