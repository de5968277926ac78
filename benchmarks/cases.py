"""What is asked, at which concurrency, on which cores: the grid of the closed-loop load."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

JSON: Final = "application/json"
RAW: Final = "application/octet-stream"

CONV: Final = "mnist-conv"
DENSE: Final = "dense-784-128-32"
MODELS: Final = (CONV, DENSE)

CONCURRENCIES: Final = (1, 8, 32, 128)
FEATURES: Final = 784


@dataclass(frozen=True, slots=True)
class Kind:
    """A request's body; the answer comes in the same format."""

    name: str
    media: str
    rows: int


RAW_1: Final = Kind("raw-1", RAW, 1)
JSON_1: Final = Kind("json-1", JSON, 1)
RAW_64: Final = Kind("raw-64", RAW, 64)
KINDS: Final = (RAW_1, JSON_1, RAW_64)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cores the server and the load generator may use."""

    name: str
    server: frozenset[int]
    generator: frozenset[int]


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the grid."""

    layout: str
    model: str
    kind: Kind
    concurrency: int

    @property
    def name(self) -> str:
        return f"{self.layout}/{self.model}/{self.kind.name}/{self.concurrency}"


def layouts() -> tuple[Layout, Layout]:
    """Give the two layouts of this machine: apart on one core each, and wherever they like.

    Raises:
        SystemExit: There is one core only, so nothing can be kept apart.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        raise SystemExit("the benchmark needs two cores: one for the server, one for the load")
    everywhere = frozenset(cores)
    return (
        Layout("pinned", frozenset(cores[:1]), frozenset(cores[-1:])),
        Layout("unpinned", everywhere, everywhere),
    )


def grid(layout: str, concurrencies: Sequence[int], patterns: Sequence[str]) -> Iterator[Case]:
    """List the cells of a layout whose name fits one of *patterns*, models side by side."""
    for kind in KINDS:
        for concurrency in concurrencies:
            for model in MODELS:
                case = Case(layout, model, kind, concurrency)
                if is_wanted(case.name, patterns):
                    yield case


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether *name* fits a shell pattern, or there is none to fit."""
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)
