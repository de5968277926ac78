"""What all harnesses share: which errors may come out, and what one input may cost."""

import importlib
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from service.errors import RequestError

T = TypeVar("T")

Check: TypeAlias = Callable[[bytes], None]
"""Takes one input; raises when it finds anything wrong."""

CORPUS: Final = Path(__file__).parent / "corpus"

PARSERS: Final = (
    "json",
    "npy",
    "raw",
    "picture",
    "multipart",
    "compression",
    "negotiation",
    "options",
    "open_inference",
    "express",
)

# of a few kilobytes; generous, for the machine may be busy and the code is instrumented
MAX_CPU_S: Final = 2.0
MAX_GROWTH_BYTES: Final = 16 * 2**20
MAX_TEXT: Final = 300


@dataclass(frozen=True)
class Harness:
    """How one parser is fuzzed.

    Attributes:
        checker: Opens what the check needs, and gives the check.
        tokens: What mutations may put in.
        max_bytes: Length of an input.
    """

    checker: Callable[[], AbstractContextManager[Check]]
    tokens: tuple[bytes, ...]
    max_bytes: int = 4096


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a parser gave; one of the two is there."""

    value: T | None
    error: RequestError | None


def harness_of(parser: str) -> Harness:
    harness: Harness = importlib.import_module(f"tests.fuzz.parsers.{parser}").HARNESS
    return harness


def corpus_of(parser: str) -> list[Path]:
    return sorted((CORPUS / parser).iterdir())


def always(check: Check) -> Callable[[], AbstractContextManager[Check]]:
    """Make the checker of a check that needs nothing."""

    @contextmanager
    def checker() -> Iterator[Check]:
        yield check

    return checker


def call(parse: Callable[..., T], *args: Any, **kwargs: Any) -> Outcome[T]:
    """Call a parser: it may refuse in the words of the contract, and may not cost much."""
    memory, started = _peak_bytes(), time.thread_time()
    outcome = _outcome(parse, *args, **kwargs)
    taken_s, growth = time.thread_time() - started, _peak_bytes() - memory

    assert taken_s < MAX_CPU_S, f"took {taken_s:.1f} s"
    assert growth < MAX_GROWTH_BYTES, f"memory grew by {growth / 2**20:.0f} MiB"
    return outcome


def _outcome(parse: Callable[..., T], *args: Any, **kwargs: Any) -> Outcome[T]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about the input
        try:
            return Outcome(parse(*args, **kwargs), None)
        except RequestError as error:
            _check_error(error)
            return Outcome(None, error)


def _check_error(error: RequestError) -> None:
    texts = [error.detail, error.expected or "", error.received or ""]
    assert error.detail
    assert all(text.isprintable() and len(text) <= MAX_TEXT for text in texts), texts
    assert error.row is None or error.row >= 0


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
