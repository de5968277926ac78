"""Measure which rows the domain guards of the bundled models of digits let pass, over HTTP.

python -m benchmarks.domain_guard --digits data/mnist --photographs data/bsds500

Each was fitted on the model's calibration rows alone; everything here is foreign to it but the
test digits.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import machine
from benchmarks.markdown import table
from service.repository.packages import scan
from training.data import mnist
from training.data.photographs import cut_outs
from training.rows import Rows
from training.served import Served, service

RESULTS: Final = Path("benchmarks/results")
MODELS: Final = Path("models")
FOREIGN_ROWS: Final = 2000
MOST_DIGITS_OUT: Final = 0.02
FEWEST_FOREIGN_OUT: Final = 0.99

# knows one digit, and the others are foreign to it
_DETECTOR: Final = "mnist-anomaly"


@dataclass(frozen=True, slots=True)
class Finding:
    """How many rows of one kind each model called foreign.

    Attributes:
        kind: What they are.
        rows: How many.
        out: Share that was out, by model.
        is_digit: Whether they are of the models' kind.
    """

    kind: str
    rows: int
    out: dict[str, float]
    is_digit: bool

    @property
    def is_met(self) -> bool:
        if self.is_digit:
            return max(self.out.values()) <= MOST_DIGITS_OUT
        return min(self.out.values()) >= FEWEST_FOREIGN_OUT


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    test = mnist.as_rows(mnist.load(options.digits)["test"].images)
    with service(MODELS) as address:
        models = _guarded(address)
        findings = [
            Finding(kind, len(rows), {name: _out(model, rows) for name, model in models}, is_digit)
            for kind, rows, is_digit in kinds(test, options.photographs)
        ]
    path = options.out / f"{datetime.now(UTC):%Y-%m-%d}-domain-guard.md"
    path.write_text(render(findings), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def _guarded(address: str) -> list[tuple[str, Served]]:
    """Give the models of digits that know their domain."""
    found = []
    for location in scan(MODELS):
        model = Served(address, location.name, location.version)
        is_of_digits = location.name.startswith("mnist-") and location.name != _DETECTOR
        if is_of_digits and model.card["calibration"]["knows_domain"]:
            found.append((str(location), model))
    return found


def _out(model: Served, rows: Rows) -> float:
    return float((model.domains(rows) == "out").mean())


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


def render(findings: Sequence[Finding]) -> str:
    """Write the report."""
    models = list(findings[0].out)
    facts = [
        f"* Machine: {machine.describe()}",
        "* Command: `python -m benchmarks.domain_guard --digits data/mnist --photographs"
        " data/bsds500`",
        "* Share of rows that are `out`, by `include=domain` over HTTP",
        f"* Targets: at most {MOST_DIGITS_OUT:.0%} of digits out, at least {FEWEST_FOREIGN_OUT:.0%}"
        " of everything else",
    ]
    lines = [
        [
            one.kind,
            str(one.rows),
            *(f"{one.out[model]:.2%}" for model in models),
            "met" if one.is_met else "missed",
        ]
        for one in findings
    ]
    head = ["rows", "how many", *models, ""]
    return "\n\n".join(["# Domain guard", "\n".join(facts), table(head, lines)]) + "\n"


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
