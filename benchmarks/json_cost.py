"""JSON alone: what a row costs to read and to write, beside the usual ways.

    python -m benchmarks.json_cost            a table, half a minute

Reading is from bytes to a float32 array that has the model's shape; ours refuses in the same time
what is no number, not finite or out of range, which of the others only pydantic does, and in part.
Writing is from a float32 array to bytes; ours writes the shortest text of a float32, the others
first make lists of Python's floats, whose text is twice as long.
"""

import argparse
import json as plain_json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel

from benchmarks.cases import FEATURES, JSON, Kind, Layout, is_wanted, layouts
from benchmarks.markdown import table
from benchmarks.proc import on_cores
from benchmarks.servers import HOURGLASS
from benchmarks.stats import divide
from benchmarks.workload import SEED, make_body
from service.bodies import json
from service.specs import TensorSpec

SECTION: Final = "json"
ROWS: Final = (1, 32, 512)
PARSE: Final = "parse"
RENDER: Final = "render"

# of every contender in one round: some milliseconds for the quickest, 100 for the slowest
ROWS_A_ROUND: Final = 512
ROUNDS: Final = 25

FIELD: Final = "reconstructions"

Floats: TypeAlias = npt.NDArray[np.float32]


class Inputs(BaseModel):
    """Rows as most services declare them."""

    inputs: list[list[float]]


class Answer(BaseModel):
    """An answer as most services declare it."""

    reconstructions: list[list[float]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows of one body that are read, or written."""

    step: str
    rows: int

    @property
    def name(self) -> str:
        return f"{SECTION}/{self.step}/{self.rows}"


Costs: TypeAlias = Mapping[Trial, Mapping[str, Sequence[float]]]
"""CPU time in microseconds a row, of every contender in every round."""

SPEC: Final = TensorSpec("float32", (FEATURES,), (0.0, 1.0))

PARSERS: Final[Mapping[str, Callable[[bytes], Floats]]] = {
    HOURGLASS: lambda body: json.parse(body, SPEC)[0],
    "orjson": lambda body: np.array(orjson.loads(body)["inputs"], np.float32),
    "json": lambda body: np.array(plain_json.loads(body)["inputs"], np.float32),
    "pydantic": lambda body: np.array(Inputs.model_validate_json(body).inputs, np.float32),
}

RENDERERS: Final[Mapping[str, Callable[[Floats], bytes]]] = {
    HOURGLASS: lambda rows: json.render({FIELD: rows}),
    "orjson": lambda rows: orjson.dumps({FIELD: rows.tolist()}),
    "json": lambda rows: plain_json.dumps({FIELD: rows.tolist()}).encode(),
    "pydantic": lambda rows: Answer(reconstructions=rows.tolist()).model_dump_json().encode(),
}


def trials(patterns: Sequence[str]) -> list[Trial]:
    """List what fits one of *patterns*."""
    found = [Trial(step, rows) for step in (PARSE, RENDER) for rows in ROWS]
    return [trial for trial in found if is_wanted(trial.name, patterns)]


def measure(
    layout: Layout, *, rounds: int, patterns: Sequence[str], say: Callable[[str], None]
) -> dict[Trial, dict[str, list[float]]]:
    """Measure on one of the server's cores, the contenders one after the other in each round."""
    wanted = trials(patterns)
    if not wanted:
        return {}
    say(SECTION)
    with on_cores(layout.server):
        return {trial: _measure(trial, rounds) for trial in wanted}


def render(costs: Costs) -> str:
    """Write the table."""
    head = ["step", "rows", *(f"{name} us a row" for name in PARSERS)]
    head += [f"{name}, times ours" for name in PARSERS if name != HOURGLASS]
    return table(head, [_row(trial, taken) for trial, taken in costs.items()])


def _row(trial: Trial, taken: Mapping[str, Sequence[float]]) -> list[str]:
    figures = [f"{median(taken[name]):.1f}" for name in PARSERS]
    times = []
    for name in PARSERS:
        if name != HOURGLASS:  # round by round, for neighbours in time share the machine's mood
            found = divide(taken[name], taken[HOURGLASS])
            times.append(f"{found.middle:.1f} ({found.low:.1f} to {found.high:.1f})")
    return [trial.step, str(trial.rows), *figures, *times]


def _measure(trial: Trial, rounds: int) -> dict[str, list[float]]:
    works = _works(trial)
    turns = max(1, ROWS_A_ROUND // trial.rows)
    for work in works.values():  # caches and allocators have seen everything once
        _cost(work, turns)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(_cost(work, turns) / trial.rows)
    return taken


def _works(trial: Trial) -> dict[str, Callable[[], object]]:
    """Give what every contender does, after a look that it does the same."""
    body = make_body(Kind(trial.name, JSON, trial.rows))
    rows = np.random.default_rng(SEED).random((trial.rows, FEATURES), np.float32)
    if trial.step == PARSE:
        _check({name: parse(body) for name, parse in PARSERS.items()}, rows)
        return {name: _bound(parse, body) for name, parse in PARSERS.items()}
    _check({name: _read(write(rows)) for name, write in RENDERERS.items()}, rows)
    return {name: _bound(write, rows) for name, write in RENDERERS.items()}


def _bound(function: Callable[..., object], argument: object) -> Callable[[], object]:
    return lambda: function(argument)


def _read(text: bytes) -> Floats:
    return np.array(plain_json.loads(text)[FIELD], np.float32)


def _check(found: Mapping[str, Floats], rows: Floats) -> None:
    for name, array in found.items():
        if array.dtype != rows.dtype or not np.array_equal(array, rows):
            raise RuntimeError(f"{name} does not give the same numbers")


def _cost(work: Callable[[], object], turns: int) -> float:
    """Give the CPU time of a turn in microseconds."""
    before = time.process_time()
    for _ in range(turns):
        work()
    return (time.process_time() - before) / turns * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.json_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="(default %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    options = parser.parse_args(arguments)
    layout = layouts()[0]
    os.sched_setaffinity(0, layout.server)
    print(render(measure(layout, rounds=options.rounds, patterns=options.only, say=_silent)))


def _silent(_: str) -> None:
    """Say nothing: the table follows at once."""


if __name__ == "__main__":
    main()
