"""Running the graphs that came, to see what their tensors really are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np

from service.errors import ConfigurationError, InferenceError, PackageError, QuestionError
from service.importing.wishes import LENGTHS, Wishes, trial_rows
from service.inference.dataflow import makers
from service.inference.foreign import Foreign
from service.inference.freeing import Settled, settle_batch
from service.inference.probing import Outputs, Probe
from service.inference.scaling import Scaling
from service.specs import DType, Rows, TensorSpec

# enough for every batch size that a freed graph is tried with
_ROWS: Final = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """A graph that runs, and rows that it runs with.

    Attributes:
        source: The graph as it came, with the output that counts alone.
        settled: The same, its batch axis declared free.
        rows: What it was tried with, as it takes them.
        others: The same rows with free axes of another length, where some are free.
    """

    source: Foreign
    settled: Settled
    rows: Rows
    others: Rows | None = None

    @property
    def foreign(self) -> Foreign:
        return self.settled.foreign

    @property
    def run_rows(self) -> int:
        """Rows of a run: the only number that works, or some."""
        fixed = self.settled.rows
        return fixed if self.settled.batch == "fixed" and fixed is not None else 3

    def see(self, names: Iterable[str], rows: Rows | None = None) -> Outputs:
        """Give tensors, for one run of the rows."""
        given = self.rows if rows is None else rows
        return Probe(self.foreign.model, names).run(given[: self.run_rows])

    def all(self, name: str) -> Rows:
        """Give a tensor for every row, or for as many as make whole runs."""
        size = self.run_rows if self.settled.batch == "fixed" else len(self.rows)
        whole = self.rows[: len(self.rows) // size * size]
        return Probe(self.foreign.model, [name]).by(size, whole)[name]

    def as_it_came(self, names: Iterable[str], rows: Rows) -> Outputs:
        """Run the graph of the file: one row at a time, or as many as it is fixed to."""
        return self._original(names).by(self.settled.rows or 1, rows)

    def _original(self, names: Iterable[str]) -> Probe:
        """Open it with everything that was left out since, where the runtime still takes that."""
        source, original = self.source, self.source.original
        weights = {tensor.name for tensor in original.graph.initializer}
        inputs = [value.name for value in original.graph.input if value.name not in weights]
        try:
            return Probe(original if inputs == [source.inputs[0].name] else source.model, names)
        except PackageError:  # an opset of a time before this runtime, say
            return Probe(source.model, names)

    def spec(self, name: str) -> TensorSpec:
        """Describe a row of a tensor as it was seen; axes that follow free ones are free.

        Raises:
            ConfigurationError: It is not one entry a row, or of a type that cannot be served.
        """
        seen = self.see([name])[name]
        if seen.shape[:1] != (self.run_rows,):
            raise ConfigurationError(
                f"{name} is {list(seen.shape)} for {self.run_rows} rows: its first axis is not"
                f" the batch{self._way_out(name)}"
            )
        if str(seen.dtype) not in get_args(DType):
            raise ConfigurationError(f"{name} is {seen.dtype}, which cannot be served")
        shape: tuple[int | None, ...] = seen.shape[1:]
        if self.others is not None:
            other = self.see([name], self.others)[name].shape[1:]
            pairs = zip(shape, other, strict=True)
            shape = tuple(axis if axis == again else None for axis, again in pairs)
        return TensorSpec(str(seen.dtype), shape)  # type: ignore[arg-type]

    def _way_out(self, name: str) -> str:
        """Name the tensor in front of a reshape that hides the batch, if it has one."""
        maker = makers(self.foreign.model.graph).get(name)
        if maker is None or maker.op_type != "Reshape":
            return ""
        before = maker.input[0]
        if self.see([before])[before].shape[:1] != (self.run_rows,):
            return ""
        return f". That of {before}, from which it is reshaped, is: --output {before}"


def try_out(
    foreign: Foreign, spec: TensorSpec, wishes: Wishes, scaling: Scaling | None
) -> tuple[Trial, Rows]:
    """Find rows that the graph runs with, and settle its batch axis.

    Returns:
        The trial, and its rows as a client sends them.

    Raises:
        PackageError: It runs with no rows.
    """
    count = _count(foreign)
    is_open = not spec.is_fixed and wishes.rows is None
    faults: list[PackageError] = []
    for length in LENGTHS if is_open else LENGTHS[:1]:
        rows = trial_rows(spec, wishes, count, length)
        given = rows if scaling is None else scaling.scaled(rows)
        try:
            trial = Trial(foreign, settle_batch(foreign, given), given)
        except PackageError as error:
            faults.append(error)
        else:
            return _with_others(trial, spec), rows
    raise faults[0]


def try_with(foreign: Foreign, rows: Sequence[Rows]) -> Trial:
    """The same for a graph whose rows another one gives: with some, and of other lengths."""
    first, *others = rows
    return Trial(foreign, settle_batch(foreign, first), first, *others)


def _count(foreign: Foreign) -> int:
    axes = foreign.inputs[0].axes
    batch = axes[0] if axes and isinstance(axes[0], int) else 1
    return -(-_ROWS // batch) * batch


def _with_others(trial: Trial, spec: TensorSpec) -> Trial:
    """Look for another length of the free axes that the graph runs with.

    Raises:
        QuestionError: There is none, so they are hardly free.
    """
    if spec.is_fixed:
        return trial
    outputs = [value.name for value in trial.foreign.outputs]
    for others in (_halved(trial.rows, spec), _doubled(trial.rows, spec)):
        try:
            trial.see(outputs, others)
        except InferenceError:
            continue
        return replace(trial, others=others)
    raise QuestionError(
        f"{trial.foreign.facts.file} declares free axes and runs with rows of"
        f" {list(trial.rows.shape[1:])} alone; say with --shape what a row is like"
    )


def _halved(rows: Rows, spec: TensorSpec) -> Rows:
    cuts = [slice(None if axis else max(1, n // 2)) for n, axis in _axes(rows, spec)]
    return np.ascontiguousarray(rows[(slice(None), *cuts)])


def _doubled(rows: Rows, spec: TensorSpec) -> Rows:
    return np.tile(rows, (1, *(1 if axis else 2 for _, axis in _axes(rows, spec))))


def _axes(rows: Rows, spec: TensorSpec) -> list[tuple[int, int | None]]:
    return list(zip(rows.shape[1:], spec.shape, strict=True))
