"""Whether a row's answer depends on the batch that it shares: measured, for no runtime promises it.

Kernels choose their order of summation by the shape of the batch, and some graphs compute over
its rows. What is found here when a package is written stands in its manifest and on its card.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from time import thread_time
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.errors import InferenceError, PackageError
from service.inference.batching import pad
from service.specs import Rows

Run: TypeAlias = Callable[[Rows], tuple[Rows, ...]]
Dependence: TypeAlias = Literal["size", "position", "neighbours"]

DEPENDENCES: Final[tuple[Dependence, ...]] = ("size", "position", "neighbours")

# every size is tried up to this one, the server's own limit; beyond it powers of two and the last
EVERY_SIZE_TO: Final = 64

# rows of the run whose time says what a row costs in a batch
FEW_ROWS: Final = 16
# a run that takes longer is timed once
SLOW_RUN_S: Final = 0.05

_Places: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Trial:
    """A batch with some of the rows under test in it.

    Attributes:
        which: Which rows these are.
        places: Where in the batch they stand.
        is_hostile: Whether the model may refuse it because of what stands in between.
    """

    batch: Rows
    which: _Places
    places: _Places
    is_hostile: bool


def find_dependences(run: Run, sample: Rows, *, largest: int = EVERY_SIZE_TO) -> list[Dependence]:
    """Find what the bits of a row's answers depend on beside the row; nothing when all is well.

    The answers of a row in a batch of its own are compared with those at every batch size and
    place among other rows, and, around the powers of two, at every place among zeros, extreme
    values, infinities and NaN. That is about 400 runs with 8,000 rows for batches of 64.

    Args:
        run: Makes a run of some rows and gives the outputs, as a session does.
        sample: Rows that the model takes; more are made of their values.
        largest: Rows of the largest batch.

    Raises:
        InferenceError: The model fails on rows such as *sample*.
        PackageError: It does not give a row for a row.
    """
    examination = _Examination(run, _varied(sample, _rows_needed(largest)))
    for trial in examination.trials(largest):
        examination.look_at(trial)
        if len(examination.found) == len(DEPENDENCES):
            break
    return [each for each in DEPENDENCES if each in examination.found]


def affordable_batch(
    run: Run,
    sample: Rows,
    *,
    largest: int,
    budget_s: float,
    clock: Callable[[], float] = thread_time,
) -> int:
    """Choose how large batches can be for *find_dependences* to end within *budget_s*, about.

    What a run costs by its rows is taken from a run of one row and one of a few, in the time that
    this thread computes: what else the machine does must not decide how much is tried.

    Returns:
        *largest*, or a power of two below it; 1 where nothing else can be afforded.
    """
    alone_s = _seconds(run, sample[:1], clock)
    row_s = alone_s
    few = min(largest, FEW_ROWS)
    if few > 1 and alone_s * few < budget_s:
        row_s = _seconds(run, _varied(sample, few), clock) / few
    sizes = [largest, *(1 << power for power in reversed(range((largest - 1).bit_length())))]
    return next((size for size in sizes if _cost_s(size, alone_s, row_s) <= budget_s), 1)


def _seconds(run: Run, rows: Rows, clock: Callable[[], float]) -> float:
    """Time a run: the best of a few, for others use the machine too; a slow one once."""
    best_s = float("inf")
    for _ in range(4):
        started = clock()
        run(rows)
        best_s = min(best_s, clock() - started)
        if best_s > SLOW_RUN_S:
            break
    return best_s


def _cost_s(largest: int, alone_s: float, row_s: float) -> float:
    """How long *find_dependences* takes: with rows alone, among others, among hostile ones."""
    sizes = _sizes(largest)
    hostile = [size for size in sizes if size > 1 and (size == largest or _is_near_a_power(size))]
    # six hostile values, at three places each
    runs, rows = len(sizes) + 18 * len(hostile), sum(sizes) + 18 * sum(hostile)
    return (_rows_needed(largest) + runs) * alone_s + rows * row_s


def _rows_needed(largest: int) -> int:
    """How many rows differ: enough that one stands at several places of the largest batch."""
    return min(EVERY_SIZE_TO, 4 * largest)


def in_short_batches(run: Run, most: int) -> Run:
    """Cut every run into some of at most *most* rows, as a batcher does."""

    def run_short(rows: Rows) -> tuple[Rows, ...]:
        if len(rows) <= most:
            return run(rows)
        batches = [run(rows[at : at + most]) for at in range(0, len(rows), most)]
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))

    return run_short


def in_fixed_batches(run: Run, size: int) -> Run:
    """Make every run one of exactly *size* rows: longer ones are cut, shorter ones filled up.

    What a batcher with a single bucket does for its requests, for who runs a session directly.
    """

    def run_fixed(rows: Rows) -> tuple[Rows, ...]:
        batches = [run(pad(rows[at : at + size], size)) for at in range(0, len(rows), size)]
        return tuple(np.concatenate(parts)[: len(rows)] for parts in zip(*batches, strict=True))

    return run_fixed


def runtime_version() -> str:
    """Name the ONNX Runtime that a finding holds for."""
    return str(ort.__version__)


class _Examination:
    """Rows with the answers that they have alone, and what was found to change these."""

    def __init__(self, run: Run, rows: Rows) -> None:
        self._run = run
        self.found: set[Dependence] = set()
        # a row made of several may be nonsense to the model, which then says nothing of batches
        answered = [(row, outputs) for row in rows if (outputs := self._alone(row)) is not None]
        if not answered:
            raise InferenceError("the model fails on every row that it is tried with")
        self._rows = np.stack([row for row, _ in answered])
        by_output = zip(*(outputs for _, outputs in answered), strict=True)
        self._answers = [np.concatenate(parts) for parts in by_output]

    def trials(self, largest: int) -> Iterator[_Trial]:
        sizes = _sizes(largest)
        yield from _among_others(self._rows, sizes)
        telling = [size for size in sizes if size == largest or _is_near_a_power(size)]
        yield from _among_hostile(self._rows, [size for size in telling if size > 1])

    def look_at(self, trial: _Trial) -> None:
        """Compare a batch's answers with those of its rows alone, and ask for the reason."""
        try:
            outputs = self._whole(trial.batch)
        except InferenceError:
            if not trial.is_hostile:
                raise
            return  # a batcher isolates such a row; what its neighbours get, they get without it
        differs = np.zeros(len(trial.places), bool)
        for output, alone in zip(outputs, self._answers, strict=True):
            differs |= _differs(output[trial.places], alone[trial.which])
        # one reason may hide another, but hardly at both ends
        for at in np.flatnonzero(differs)[[0, -1]] if differs.any() else ():
            self._explain(int(trial.which[at]), int(trial.places[at]), outputs)

    def _explain(self, row: int, place: int, outputs: Sequence[Rows]) -> None:
        """Tell the reasons apart by a batch of the same size that holds *row* alone, repeated."""
        copies = self._whole(np.repeat(self._rows[row : row + 1], len(outputs[0]), axis=0))
        for output, copy, alone in zip(outputs, copies, self._answers, strict=True):
            if _differs(copy[:1], alone[row : row + 1]).any():
                self.found.add("size")
            if _differs(copy[place : place + 1], copy[:1]).any():
                self.found.add("position")
            if _differs(output[place : place + 1], copy[place : place + 1]).any():
                self.found.add("neighbours")

    def _alone(self, row: Rows) -> tuple[Rows, ...] | None:
        try:
            return self._whole(row[None])
        except InferenceError:
            return None

    def _whole(self, batch: Rows) -> tuple[Rows, ...]:
        outputs = self._run(batch)
        if any(len(output) != len(batch) for output in outputs):
            raise PackageError(f"a graph does not give {len(batch)} rows for {len(batch)} rows")
        return outputs


def _sizes(largest: int) -> list[int]:
    beyond = {1 << power for power in range(largest.bit_length())} | {largest}
    every = range(1, min(largest, EVERY_SIZE_TO) + 1)
    return [*every, *sorted(size for size in beyond if size > EVERY_SIZE_TO)]


def _is_near_a_power(size: int) -> bool:
    """Whether *size* is a power of two, where kernels end a block of rows, or next to one."""
    return any(near & (near - 1) == 0 for near in (size - 1, size, size + 1))


def _among_others(rows: Rows, sizes: Sequence[int]) -> Iterator[_Trial]:
    for size in sizes:
        places = np.arange(size)
        which = (places + size) % len(rows)  # no row always stands at the same place
        yield _Trial(rows[which], which, places, is_hostile=False)


def _among_hostile(rows: Rows, sizes: Sequence[int]) -> Iterator[_Trial]:
    for size, value in product(sizes, _hostile(rows.dtype)):
        everywhere = np.arange(size)
        # at every place between two others, and one alone behind all others
        for places in (everywhere[::2], everywhere[1::2], everywhere[-1:]):
            batch = np.full((size, *rows.shape[1:]), value, rows.dtype)
            which = (places + size) % len(rows)
            batch[places] = rows[which]
            yield _Trial(batch, which, places, is_hostile=True)


def _hostile(dtype: np.dtype[Any]) -> tuple[float, ...]:
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return 0, limits.min, limits.max
    finite = np.finfo(dtype)
    return 0.0, float("nan"), float("inf"), float("-inf"), float(finite.max), float(finite.min)


def _varied(sample: Rows, count: int) -> Rows:
    """Give *count* rows: those of *sample*, and others made of their values."""
    random = np.random.default_rng(0)  # equal packages get equal findings
    made = [_blend(sample, random) for _ in range(count - len(sample))]
    return np.stack([*sample[:count], *made])


def _blend(sample: Rows, random: np.random.Generator) -> Rows:
    """Take every value from any row of *sample*; smaller where numbers are not counts or names."""
    donors = random.integers(len(sample), size=(1, *sample.shape[1:]))
    row: Rows = np.take_along_axis(sample, donors, axis=0)[0]
    if row.dtype.kind != "f":
        return row
    return (row * random.uniform(0.5, 1, row.shape)).astype(row.dtype)


def _differs(got: Rows, expected: Rows) -> npt.NDArray[np.bool_]:
    """Tell for each row whether it has other bits; so NaN is equal to itself and -0 is not 0."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return np.ones(len(got), bool)
    differs: npt.NDArray[np.bool_] = np.any(_bits(got) != _bits(expected), axis=1)
    return differs


def _bits(rows: Rows) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
