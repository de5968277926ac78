"""Measure whether explanations name what is wrong with a row, over HTTP.

python -m benchmarks.explanations --digits data/mnist --tables data/adbench

Rows that the model was not trained on, with one thing done to each: a column moved by six of its
deviations, or a square of five by five pixels inverted. Found is what the first explained feature
lies in.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import machine
from benchmarks.markdown import table
from service.repository.packages import Location, read_manifest, scan
from training.data import mnist
from training.recipes import mnist_anomaly
from training.recipes.shuttle import RECIPE as SHUTTLE
from training.rows import Rows
from training.served import Numbers, Served, service

RESULTS: Final = Path("benchmarks/results")
MODELS: Final = Path("models")
ROWS: Final = 1000
DEVIATIONS: Final = 6
SIDE: Final = 5
WANTED: Final = 0.95


@dataclass(frozen=True, slots=True)
class Finding:
    """How often the first explained feature is what was changed."""

    model: str
    rows: str
    change: str
    found: float


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    test = mnist.load(options.digits)["test"]
    digits = mnist.as_rows(test.images)
    theirs = mnist_anomaly.DIGIT
    findings = []
    with service(MODELS) as address:
        for location in scan(MODELS):
            model = Served(address, location.name, location.version)
            if location.name == SHUTTLE.name:
                findings.append(_on_table(model, location, options.tables))
            elif location.name == mnist_anomaly.RECIPE.name:
                rows = digits[test.labels == theirs]
                findings.append(_on_pictures(model, location, rows, f"test digits, only {theirs}"))
            else:
                findings.append(_on_pictures(model, location, digits, "test digits"))
    path = options.out / f"{datetime.now(UTC):%Y-%m-%d}-explanations.md"
    path.write_text(render(findings), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def _on_table(model: Served, location: Location, folder: Path) -> Finding:
    sets = SHUTTLE.source.gather(SHUTTLE.hold_out, folder)
    assert sets.labels is not None  # noqa: S101 - for the type checker
    normal = sets.test[sets.labels == 0]
    scale = read_manifest(location).input.scale
    rows, columns = corrupted(normal, np.array(scale, np.float32))
    share = float((model.first_features(rows)[:, 0] == columns).mean())
    change = f"one column moved by {DEVIATIONS} deviations"
    return Finding(str(location), "normal test rows", change, share)


def _on_pictures(model: Served, location: Location, pictures: Rows, what: str) -> Finding:
    rows, corners = inverted(pictures)
    first = model.first_features(rows)[:, -2:]
    share = float(((corners <= first) & (first < corners + SIDE)).all(axis=1).mean())
    return Finding(str(location), what, f"{SIDE}x{SIDE} pixels inverted", share)


def corrupted(rows: Rows, deviations: Rows) -> tuple[Rows, Numbers]:
    """Move one column of each of 1,000 rows by six deviations, up or down; and say which."""
    random = np.random.default_rng(0)
    made = rows[random.choice(len(rows), ROWS)].copy()
    columns = random.integers(0, rows.shape[1], ROWS)
    signs = random.choice([-1, 1], ROWS)
    made[np.arange(ROWS), columns] += (DEVIATIONS * signs * deviations[columns]).astype(np.float32)
    return made, columns


def inverted(pictures: Rows) -> tuple[Rows, Numbers]:
    """Invert a square of each of 1,000 pictures; and give line and column of its first corner."""
    random = np.random.default_rng(0)
    made = pictures[random.choice(len(pictures), ROWS)].copy()
    height, width = pictures.shape[-2:]
    corners = random.integers(0, [height - SIDE + 1, width - SIDE + 1], (ROWS, 2))
    for picture, (top, left) in zip(made, corners, strict=True):
        square = picture[..., top : top + SIDE, left : left + SIDE]
        square[...] = 1 - square
    return made, corners


def render(findings: Sequence[Finding]) -> str:
    """Write the report."""
    facts = [
        f"* Machine: {machine.describe()}",
        "* Command: `python -m benchmarks.explanations --digits data/mnist --tables data/adbench`",
        f"* {ROWS} rows each; found where the first feature of `explain=1` is what was changed",
        f"* Target: {WANTED:.0%}, for a table and for pictures",
    ]
    lines = [
        [one.model, one.rows, one.change, f"{one.found:.1%}", "met" if one.found >= WANTED else ""]
        for one in findings
    ]
    head = ["model", "rows", "what was done to each", "found", ""]
    return "\n\n".join(["# Explanations", "\n".join(facts), table(head, lines)]) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Whether explanations name what is wrong.")
    parser.add_argument("--digits", type=Path, required=True, help="folder with MNIST")
    parser.add_argument("--tables", type=Path, required=True, help="folder with ADBench's tables")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser


if __name__ == "__main__":
    main()
