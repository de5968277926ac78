"""What the scripts of all clients share; they run in environments with NumPy at most."""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

MODEL = "mnist-conv"
DECODER = f"{MODEL}.decoder"

_ROOT = Path(__file__).parents[2]
PICTURES = [_ROOT / "docs" / "pictures" / name for name in ("seven.png", "landscape.png")]


class NotSoError(Exception):
    """The server, or the client, did something else than what was expected."""


@dataclass(frozen=True)
class Task:
    """What the runner tells a client.

    Attributes:
        url: The server, without a slash at the end.
        folder: Where the client may write.
        wanted: ``rows`` of the input and ONNX Runtime's own ``code``, ``reconstruction`` and
            ``score`` for them; ``threshold`` and ``metric`` of the scores.
        variant: Which of its ways the client takes, where it has several.
    """

    url: str
    folder: Path
    wanted: dict[str, Any]
    variant: str

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


class Checks:
    """Does what it is told, says how each part ended, and counts what failed."""

    def __init__(self) -> None:
        self.failed = 0

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        try:
            yield
        # whatever a client raises is the result of this check, and the next one is still made
        except Exception as error:  # noqa: BLE001
            self.failed += 1
            self._say("FAILED", f"{what}: {type(error).__name__}: {error}"[:2000])
            if not isinstance(error, NotSoError):
                traceback.print_exc(limit=-4)
        else:
            self._say("ok", what)

    def skip(self, what: str, why: str) -> None:
        self._say("skipped", f"{what}: {why}")

    def _say(self, result: str, text: str) -> None:
        print(f"  {result:8}{text}", flush=True)


def main(client: Callable[[Checks, Task], None]) -> None:
    """Run the checks of a client; the exit status is 1 if any failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("wanted", type=Path)
    parser.add_argument("variant", nargs="?", default="")
    arguments = parser.parse_args()
    with np.load(arguments.wanted) as arrays:
        wanted = {name: array if array.ndim else array.item() for name, array in arrays.items()}
    checks = Checks()
    client(checks, Task(arguments.url, arguments.folder, wanted, arguments.variant))
    sys.exit(checks.failed > 0)


def must(is_so: object, otherwise: object) -> None:
    """Go on only if *is_so*."""
    if not is_so:
        raise NotSoError(otherwise)


def equal(got: object, wanted: object, what: str = "") -> None:
    must(got == wanted, f"{what} is {got!r}, and not {wanted!r}".strip())


def same_bits(got: Any, wanted: Any, what: str = "") -> None:
    """Compare arrays: element type, shape and every bit."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    equal((str(got.dtype), got.shape), (str(wanted.dtype), wanted.shape), f"{what} array")
    differing = int((got.view(np.uint8) != wanted.view(np.uint8)).sum()) if got.size else 0
    must(not differing, f"{what} {differing} of {got.nbytes} bytes differ")
