"""Running a foreign graph to see what its tensors really are: files leave shapes out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from onnx import ModelProto, ValueInfoProto

from service.errors import InferenceError, PackageError
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.specs import Rows

Outputs: TypeAlias = Mapping[str, Rows]

_MISSING_OPERATOR: Final = re.compile(r"([\w.:]+)\(-?\d+\) is not a registered function/op")


class Probe:
    """A graph that can be asked for any of its tensors.

    Args:
        model: A graph with one input.
        names: The tensors that runs give, outputs of the graph or not.

    Raises:
        PackageError: ONNX Runtime does not take the graph; names the operator that it lacks.
    """

    def __init__(self, model: ModelProto, names: Iterable[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._session = opened(_exposed(model, self._names))

    def run(self, rows: Rows) -> Outputs:
        """Give the tensors by name; raise *InferenceError* where the graph fails."""
        return dict(zip(self._names, self._session.run(rows), strict=True))

    def answers(self, rows: Rows) -> Outputs | None:
        """Give the tensors by name, ``None`` where the graph fails."""
        try:
            return self.run(rows)
        except InferenceError:
            return None

    def by(self, size: int, rows: Rows) -> Outputs:
        """Run *size* rows at a time, and put what they give together again."""
        return together([self.run(rows[at : at + size]) for at in range(0, len(rows), size)])


def opened(model: ModelProto) -> OrtSession:
    """Open a session on the CPU."""
    try:
        return OrtSession(model.SerializeToString(), Device())
    except PackageError as error:
        missing = _MISSING_OPERATOR.search(str(error.__cause__))
        if missing is None:
            raise
        raise PackageError(f"ONNX Runtime has no operator {missing[1]}") from error


def together(parts: Sequence[Outputs]) -> Outputs:
    """Put the outputs of several runs behind each other."""
    names = parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def largest_difference(got: Rows, expected: Rows) -> float:
    """Give the largest |got - expected| / (1 + |expected|); infinite where shapes differ."""
    if got.shape != expected.shape:
        return float("inf")
    wide, truth = got.astype(np.float64), expected.astype(np.float64)
    differences = np.abs(wide - truth) / (1 + np.abs(truth))
    both = np.isnan(wide) & np.isnan(truth)
    worst = np.where(both, 0.0, differences).max(initial=0.0)
    return float("inf") if np.isnan(worst) else float(worst)


def _exposed(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """The same graph with *names* as its outputs; the runtime finds their types itself."""
    made = ModelProto()
    made.CopyFrom(model)
    declared = {value.name: value for value in model.graph.output}
    del made.graph.output[:]
    made.graph.output.extend(declared.get(name) or ValueInfoProto(name=name) for name in names)
    return made
