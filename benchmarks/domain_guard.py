"""Measure which rows the domain guard of ``mnist-conv`` lets pass, and write the report.

python -m benchmarks.domain_guard --digits data/mnist --photographs data/bsds500

It is fitted on the model's calibration rows alone; everything here is foreign to it but the digits.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import machine
from benchmarks.markdown import table
from service.inference.graphs import CODE, SCORE
from service.packaging import answers
from service.repository.packages import Location, read_package
from service.scoring.domain import DEFAULT_RATE, DomainGuard
from training.data import mnist
from training.data.photographs import cut_outs
from training.recipes.mnist_conv import RECIPE
from training.rows import Rows, gather

RESULTS: Final = Path("benchmarks/results")
MODEL: Final = Location("mnist-conv", 1, Path("models/mnist-conv/1"))
FOREIGN_ROWS: Final = 2000
MOST_DIGITS_OUT: Final = 0.02
FEWEST_FOREIGN_OUT: Final = 0.99


@dataclass(frozen=True, slots=True)
class Finding:
    """How many rows of one kind were called foreign."""

    kind: str
    rows: int
    out: float
    is_digit: bool

    @property
    def is_met(self) -> bool:
        return self.out <= MOST_DIGITS_OUT if self.is_digit else self.out >= FEWEST_FOREIGN_OUT


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    package = read_package(MODEL)
    rows = gather(RECIPE.hold_out, options.digits)
    known = answers(package, rows.calibration)
    guard = DomainGuard.fit(package.manifest.input, rows.calibration, known[SCORE], known[CODE])
    findings, spent_s = [], 0.0
    for kind, asked, is_digit in kinds(rows.test, options.photographs):
        given = answers(package, asked)
        started = time.process_time()
        p_values = guard.p_values(asked, given[SCORE], given[CODE])
        spent_s += time.process_time() - started
        out = float((p_values <= guard.default_rate).mean())
        findings.append(Finding(kind, len(asked), out, is_digit))
    cost_us = spent_s / sum(finding.rows for finding in findings) * 1e6
    path = options.out / f"{datetime.now(UTC):%Y-%m-%d}-domain-guard.md"
    path.write_text(render(findings, len(rows.calibration), cost_us), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def kinds(digits: Rows, photographs: Path) -> Iterator[tuple[str, Rows, bool]]:
    """Give rows of every kind: what they are, and whether the model should know them."""
    random = np.random.default_rng(0)
    some, shape = digits[:FOREIGN_ROWS], (FOREIGN_ROWS, *digits.shape[1:])
    yield "test digits", digits, True
    for half in ("train", "val"):
        squares = cut_outs(photographs / half, rows=5000, side=digits.shape[-1], seed=0)
        yield f"cut-outs of photographs, {half}", mnist.as_rows(squares), False
    for grey in (0.0, 0.5, 1.0):
        yield f"one grey of {grey:g}", np.full((1, *shape[1:]), grey, np.float32), False
    yield "inverted digits", 1 - some, False
    yield "uniform noise", random.random(shape, np.float32), False
    normal = random.normal(0.5, 0.25, shape).clip(0, 1)
    yield "Gaussian noise around grey", normal.astype(np.float32), False
    yield "black and white noise, as much ink as a digit", _ink(random, shape, some.mean()), False
    shuffled = random.permuted(some.reshape(FOREIGN_ROWS, -1), axis=1).reshape(shape)
    yield "digits with their pixels shuffled", shuffled, False


def _ink(random: np.random.Generator, shape: tuple[int, ...], share: float) -> Rows:
    return (random.random(shape) < share).astype(np.float32)


def render(findings: Sequence[Finding], calibration_rows: int, cost_us: float) -> str:
    """Write the report."""
    facts = [
        f"* Machine: {machine.describe()}",
        "* Command: `python -m benchmarks.domain_guard --digits data/mnist --photographs"
        " data/bsds500`",
        f"* Fitted on the {calibration_rows} calibration rows of {MODEL}; a row is out when its"
        f" p-value is at most {DEFAULT_RATE:g}",
        f"* Targets: at most {MOST_DIGITS_OUT:.0%} of digits out, at least {FEWEST_FOREIGN_OUT:.0%}"
        " of everything else",
        f"* {cost_us:.0f} us of CPU a row, beside the model's own run",
    ]
    lines = [
        [one.kind, str(one.rows), f"{one.out:.2%}", "met" if one.is_met else "missed"]
        for one in findings
    ]
    parts = ["# Domain guard", "\n".join(facts), table(["rows", "how many", "out", ""], lines)]
    return "\n\n".join(parts) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Which rows the domain guard lets pass.")
    parser.add_argument("--digits", type=Path, required=True, help="folder with MNIST")
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder with BSDS500's train and val"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser


if __name__ == "__main__":
    main()
