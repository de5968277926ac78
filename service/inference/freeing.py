"""Making a batch axis free that an exporter has fixed, and proving that the answers stay.

Constants in which the batch size stands are found by following the batch axis through the graph.
That is a guess, and so every freed graph is compared with the fixed one, row by row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, TypeAlias

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from service.errors import InferenceError, PackageError
from service.inference.dataflow import carried_from, copied, makers
from service.inference.foreign import BATCH, Foreign
from service.inference.probing import Probe, largest_difference
from service.specs import Rows

# |freed - fixed| <= this * (1 + |fixed|): other batch sizes sum in another order, and no more
TOLERANCE: Final = 1e-5
# of half precision, whose own rounding is 1e-3
HALF_TOLERANCE: Final = 1e-2

# batch sizes that a freed graph is tried with, in rows
TRIED: Final = (1, 2, 3, 7)

BatchAxis: TypeAlias = Literal["free", "freed", "fixed"]

_ROWS: Final = "freed/rows"


@dataclass(frozen=True, slots=True)
class Settled:
    """A graph whose batch axis is declared free.

    Attributes:
        batch: ``free``, ``freed`` by surgery, or ``fixed``: only runs of *rows* rows work.
        rows: The size that the exporter fixed, ``None`` where it left the axis free.
    """

    foreign: Foreign
    batch: BatchAxis
    rows: int | None


def settle_batch(foreign: Foreign, rows: Rows) -> Settled:
    """Find out whether the batch axis is free, and free it where it is not.

    Args:
        foreign: A graph with one input.
        rows: Rows to try it with; as many as the largest of *TRIED* and a fixed batch.

    Raises:
        PackageError: It runs on no batch.
    """
    value = foreign.inputs[0]
    declared = value.axes[0] if value.axes else None
    if not isinstance(declared, int):
        if _answers_rows(foreign.model, rows):
            return Settled(_declared_free(foreign), "free", None)
        declared = _size_that_runs(foreign.model, rows)
    outputs = [output.name for output in foreign.outputs]
    try:
        fixed = Probe(_unshaped(foreign.model), outputs)
        truth = fixed.by(declared, rows[: len(rows) // declared * declared])
    except InferenceError as error:
        raise PackageError(
            f"{foreign.facts.file} fails on rows like those that it is tried with; give it rows"
            " that it takes with --rows, or their limits with --range"
        ) from error
    freed = _freed(foreign, declared, rows[:declared])
    if freed is not None and _same(freed.model, truth, rows):
        note = f"the batch axis was fixed at {declared} and is free now; answers stay the same"
        return Settled(freed.changed(freed.model, note), "freed", declared)
    return Settled(_declared_free(foreign), "fixed", declared)


def _answers_rows(model: ModelProto, rows: Rows, sizes: Sequence[int] = TRIED[:3]) -> bool:
    """Whether the graph gives as many rows as it gets, for several batch sizes."""
    probe = Probe(model, [value.name for value in model.graph.output])
    for size in sizes:
        answers = probe.answers(rows[:size])
        if answers is None or any(each.shape[:1] != (size,) for each in answers.values()):
            return False
    return True


def _size_that_runs(model: ModelProto, rows: Rows) -> int:
    """The number of rows that a graph was traced with, whatever it declares."""
    sizes = range(1, len(rows) + 1)
    return next((size for size in sizes if _answers_rows(model, rows, [size])), 1)


def _same(freed: ModelProto, truth: Mapping[str, Rows], rows: Rows) -> bool:
    try:
        probe = Probe(freed, truth)
    except PackageError:
        return False
    for size in TRIED:
        answers = probe.answers(rows[:size])
        known = {name: expected[:size] for name, expected in truth.items()}
        if answers is None or not all(_near(answers[name], known[name]) for name in known):
            return False
    return True


def _near(got: Rows, expected: Rows) -> bool:
    if len(got) < len(expected):
        return False
    tolerance = HALF_TOLERANCE if expected.dtype == np.float16 else TOLERANCE
    return largest_difference(got[: len(expected)], expected) <= tolerance


def _unshaped(model: ModelProto) -> ModelProto:
    """Forget what the file says of the shapes of inner tensors; it may hold for one batch alone."""
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]
    return made


def _declared_free(foreign: Foreign) -> Foreign:
    model = _unshaped(foreign.model)
    for value in [*model.graph.input, *model.graph.output]:
        axes = value.type.tensor_type.shape.dim
        if axes:
            axes[0].Clear()
            axes[0].dim_param = BATCH
    return foreign.changed(model)


def _freed(foreign: Foreign, batch: int, rows: Rows) -> Foreign | None:
    source = foreign.inputs[0].name
    carried = carried_from(foreign.model.graph, source)
    wanted = [name for node in foreign.model.graph.node for name in node.output if name]
    try:
        seen = Probe(_unshaped(foreign.model), wanted).run(rows)
    except (PackageError, InferenceError):
        return None
    free = _declared_free(foreign)
    surgery = _Surgery(free.model, {**seen, source: rows}, carried, batch)
    try:
        surgery.run(source)
    except (KeyError, IndexError, ValueError):  # the batch axis was lost on the way
        return None
    return free


class _Surgery:
    """Follows the batch axis from the input on, and takes the batch size out of constants."""

    def __init__(
        self, model: ModelProto, seen: Mapping[str, Rows], carried: set[str], batch: int
    ) -> None:
        self._graph = model.graph
        self._seen = seen
        self._carried = carried
        self._batch = batch
        self._constants = {t.name: t for t in model.graph.initializer}
        self._makers = makers(model.graph)
        self._place: dict[str, int] = {}
        self._nodes: list[NodeProto] = []

    def run(self, source: str) -> None:
        self._place[source] = 0
        for node in self._graph.node:
            if self._carried.isdisjoint(node.output):
                self._nodes.append(node)
                continue
            self._mend(node)
            self._nodes.append(node)
            self._follow(node)
        size = helper.make_node("Shape", [source], [_ROWS], start=0, end=1)
        copies = [copied(node) for node in (size, *self._nodes)]  # before their home is emptied
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _mend(self, node: NodeProto) -> None:
        menders: dict[str, Callable[[NodeProto, int], None]] = {
            "Reshape": self._mend_reshape,
            "Expand": self._mend_expand,
            "Resize": self._mend_resize,
            "Concat": self._mend_concat,
            "LSTM": self._mend_recurrent,
            "GRU": self._mend_recurrent,
            "RNN": self._mend_recurrent,
        }
        if node.op_type in menders:
            menders[node.op_type](node, self._batch_axis(node))

    def _batch_axis(self, node: NodeProto) -> int:
        known = [self._place[name] for name in node.input if name in self._place]
        return known[0] if known else 0

    def _follow(self, node: NodeProto) -> None:
        at = self._batch_axis(node)
        for index, name in enumerate(node.output):
            if name in self._seen:
                self._place[name] = min(self._moved(node, at, index), _last_axis(self._seen[name]))

    def _moved(self, node: NodeProto, at: int, output: int) -> int:
        """Where the batch axis stands behind a node."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Transpose":
            backwards = range(self._seen[node.input[0]].ndim)[::-1]
            return list(attributes.get("perm") or backwards).index(at)
        if node.op_type in {"LSTM", "GRU", "RNN"} and not attributes.get("layout"):
            return 2 if output == 0 else 1
        if node.op_type == "Reshape":
            return self._reshaped(node, at)
        if node.op_type in {"Squeeze", "Unsqueeze", "Gather"}:
            return at + self._rank_before(node, at, attributes)
        return at

    def _rank_before(self, node: NodeProto, at: int, attributes: Mapping[str, object]) -> int:
        """How many axes in front of the batch a node adds or, below zero, takes away."""
        if node.input[0] not in self._seen:
            return 0  # a table that is looked up with the rows
        rank = max(self._seen[node.input[0]].ndim, self._seen[node.output[0]].ndim)
        if node.op_type == "Gather":
            axis = int(str(attributes.get("axis", 0))) % rank
            gone = self._seen[node.input[0]].ndim > self._seen[node.output[0]].ndim
            return -1 if gone and axis < at else 0
        axes = self._constant(node, 1)
        if axes is None:
            return 0
        before = sum(1 for axis in np.ravel(axes) if int(axis) % rank <= at)
        if node.op_type == "Squeeze":
            return -sum(1 for axis in np.ravel(axes) if int(axis) % rank < at)
        return before

    def _reshaped(self, node: NodeProto, at: int) -> int:
        """The axis of a reshaped tensor before which as many elements lie as before the batch."""
        given, gives = self._seen[node.input[0]].shape, self._seen[node.output[0]].shape
        before = prod(given[:at])
        places = [q for q in range(len(gives)) if prod(gives[:q]) == before]
        return next((q for q in places if gives[q] % self._batch == 0), 0)

    def _mend_reshape(self, node: NodeProto, at: int) -> None:
        shape = self._constant(node, 1)
        if shape is None or node.input[0] not in self._seen:
            return
        gives = list(self._seen[node.output[0]].shape)
        gives[self._reshaped(node, at)] = -1
        node.input[1] = self._new_constant(node, np.array(gives, np.int64))

    def _mend_expand(self, node: NodeProto, at: int) -> None:
        shape = self._constant(node, 1)
        if shape is None or node.input[0] not in self._seen:
            return
        place = at + len(shape) - self._seen[node.input[0]].ndim
        if 0 <= place < len(shape):
            made = shape.copy()
            made[place] = 1  # an axis of 1 is the other side's
            node.input[1] = self._new_constant(node, made)

    def _mend_resize(self, node: NodeProto, at: int) -> None:
        sizes = self._constant(node, 3)
        if sizes is not None and len(sizes) > at:
            node.input[3] = self._sized(node, [int(size) for size in sizes], at)

    def _mend_concat(self, node: NodeProto, at: int) -> None:
        """Give a constant that stands beside each row as many rows as there are."""
        for index, name in enumerate(node.input):
            tensor = self._constants.get(name)
            if tensor is None:
                continue
            value = numpy_helper.to_array(tensor)
            if value.ndim > at and value.shape[at] == self._batch and _is_repeated(value, at):
                row = np.take(value, [0], axis=at)
                shape = self._sized(node, [1] * value.ndim, at, f"/{index}")
                made = f"{node.output[0]}/freed/{index}"
                constant = self._new_constant(node, row, f"/row/{index}")
                self._nodes.append(helper.make_node("Expand", [constant, shape], [made]))
                node.input[index] = made

    def _mend_recurrent(self, node: NodeProto, at: int) -> None:  # noqa: ARG002 - as the others
        """Leave first states of zeros out: they are the default, for any batch."""
        for index in (5, 6):
            name = node.input[index] if len(node.input) > index else ""
            if name and name not in self._carried and not np.any(self._value(name)):
                node.input[index] = ""

    def _value(self, name: str) -> Rows:
        tensor = self._constants.get(name)
        return self._seen[name] if tensor is None else numpy_helper.to_array(tensor)

    def _constant(self, node: NodeProto, index: int) -> Rows | None:
        """The value of an input that no row can change."""
        name = node.input[index] if len(node.input) > index else ""
        is_known = name in self._constants or name in self._seen
        if not name or not is_known or self._hangs_on_rows(name):
            return None
        return self._value(name)

    def _hangs_on_rows(self, name: str) -> bool:
        """Whether a tensor is worked out from the rows or their shape in the run itself."""
        pending, source = [name], self._graph.input[0].name
        while pending:
            one = pending.pop()
            if one == source:
                return True
            pending.extend(self._makers[one].input if one in self._makers else ())
        return False

    def _new_constant(self, node: NodeProto, value: Rows, suffix: str = "/shape") -> str:
        name = f"{node.output[0]}/freed{suffix}"
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _sized(self, node: NodeProto, sizes: list[int], at: int, suffix: str = "") -> str:
        """A shape whose axis *at* is as long as the batch of the run."""
        before = self._new_constant(node, np.array(sizes[:at], np.int64), f"/before{suffix}")
        after = self._new_constant(node, np.array(sizes[at + 1 :], np.int64), f"/after{suffix}")
        made = f"{node.output[0]}/freed/sizes{suffix}"
        self._nodes.append(helper.make_node("Concat", [before, _ROWS, after], [made], axis=0))
        return made


def _last_axis(tensor: Rows) -> int:
    return max(0, tensor.ndim - 1)


def _is_repeated(value: Rows, axis: int) -> bool:
    return bool((value == np.take(value, [0], axis=axis)).all())
