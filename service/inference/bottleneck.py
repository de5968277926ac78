"""Finding the code of an autoencoder that came as one file.

The code is the narrowest tensor that every way of the data from the input to the output passes:
a cut of one vertex. Neighbours of one width that only activations, offsets and changes of shape
set apart are one stage, and its last tensor is the code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, get_args

from onnx import ModelProto, NodeProto

from service.inference.dataflow import carried_from, data_reads, makers
from service.inference.probing import Outputs
from service.specs import DType

_VIEWS: Final = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout"}

# what gives each value from the value at its place, and constants; normalisations too
_ELEMENTWISE: Final = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip", "Gelu"),
    *("Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Erf"),
    *("Min", "Max", "Round", "Floor", "Ceil", "Sin", "Cos", "Sign", "Cast", "CastLike", "Where"),
    *("BatchNormalization", "LayerNormalization", "LpNormalization", "Softmax"),
    *("DequantizeLinear", "QuantizeLinear"),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor that could be the code.

    Attributes:
        place: Where it stands in the order of the graph.
        operator: What makes it.
        joins: Whether only elementwise operators and views lie between it and the last cut.
        shape: Of a row, as seen when the graph ran.
        values: Elements of a row.
        is_rows: Whether it has one entry a row, of a type that a code may have.
    """

    tensor: str
    operator: str
    place: int
    joins: bool
    dtype: str = ""
    shape: tuple[int, ...] = ()
    is_rows: bool = True

    @property
    def values(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: the code, or ``None``, why, and what could be it."""

    code: str | None
    reason: str
    candidates: tuple[Candidate, ...]


def cuts(model: ModelProto) -> list[Candidate]:
    """List the tensors that every way from the input to the output passes, in their order.

    Edges into ``Shape`` and the like carry no data.
    """
    graph = model.graph
    source, target = graph.input[0].name, graph.output[0].name
    carried = carried_from(graph, source) & (_needs_data(graph.node, target) | {source})
    order = [source]
    order += [name for node in graph.node for name in node.output if name in carried]
    place = {name: at for at, name in enumerate(order)}
    reach = [0] * len(order)  # the place of the last reader of what stands before
    for node in graph.node:
        for name in node.output:
            for given in data_reads(node) if name in place else ():
                if given in place:
                    reach[place[given]] = max(reach[place[given]], place[name])
    made_by = makers(graph)
    found, furthest, last = [], 0, 0
    for at, name in enumerate(order[:-1]):
        if at and furthest <= at:
            between = [made_by[each] for each in order[last + 1 : at + 1]]
            found.append(Candidate(name, _operator(made_by[name]), at, _is_plain(between)))
            last = at
        furthest = max(furthest, reach[at])
    return found


def measured(candidates: Sequence[Candidate], seen: Outputs, rows: int) -> list[Candidate]:
    """Put in what the tensors were when the graph ran with so many rows."""
    found = []
    for each in candidates:
        tensor = seen[each.tensor]
        is_rows = tensor.shape[:1] == (rows,) and str(tensor.dtype) in _DTYPES
        shape = tensor.shape[1:] if is_rows else ()
        found.append(replace(each, dtype=str(tensor.dtype), shape=shape, is_rows=is_rows))
    return found


def find_code(model: ModelProto, candidates: Sequence[Candidate], width: int) -> Finding:
    """Choose the code among *candidates*, or say why that is not possible.

    Args:
        model: Where they are from.
        candidates: As *measured* gives them, in their order.
        width: Values of a row of the input.
    """
    given = tuple(each for each in candidates if each.is_rows)
    narrow = [each.values for each in given if 0 < each.values < width]
    if not narrow:
        return Finding(None, _no_narrow(given, width), given)
    least = min(narrow)
    stages = _stages(candidates, least)
    if len(stages) > 1:
        text = f"{len(stages)} places of the graph are equally narrow, with {least} values a row"
        return Finding(None, text, given)
    made_by = makers(model.graph)
    made = [each for each in stages[0] if made_by[each.tensor].op_type not in _VIEWS]
    code = (made or stages[0])[-1]
    reason = f"the narrowest tensor that all data passes, with {least} values a row"
    return Finding(code.tensor, reason, given)


def reaches_around(model: ModelProto, code: str) -> bool:
    """Whether data of the input comes to the output without going through *code*."""
    graph = model.graph
    source, target = graph.input[0].name, graph.output[0].name
    carried = carried_from(graph, source)
    pending, found = [target], {code}
    made_by = makers(graph)
    while pending:
        name = pending.pop()
        if name == source:
            return True
        if name not in found and name in carried:
            found.add(name)
            pending.extend(data_reads(made_by[name]))
    return False


_DTYPES: Final = frozenset(get_args(DType))


def _needs_data(nodes: Sequence[NodeProto], target: str) -> set[str]:
    found = {target}
    for node in reversed(nodes):
        if not found.isdisjoint(node.output):
            found.update(data_reads(node))
    return found


def _operator(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _is_plain(nodes: Sequence[NodeProto]) -> bool:
    return all(node.op_type in _ELEMENTWISE | _VIEWS for node in nodes)


def _stages(candidates: Sequence[Candidate], values: int) -> list[list[Candidate]]:
    """Group the candidates of this width: a tensor joins the one before it, or begins anew."""
    stages: list[list[Candidate]] = []
    goes_on = False
    for each in candidates:
        goes_on = goes_on and each.joins
        if not each.is_rows:
            continue  # turned around, say; what is behind it may still be of the same stage
        if each.values != values:
            goes_on = False
        elif goes_on:
            stages[-1].append(each)
        else:
            stages.append([each])
            goes_on = True
    return stages


def _no_narrow(candidates: Sequence[Candidate], width: int) -> str:
    if not candidates:
        return "data goes around every tensor (skip connections), so that none holds all of it"
    return (
        f"no tensor that all data passes is narrower than the input, which has {width} values; so"
        " it is with skip connections, and with a code that is wider than its input"
    )


def compared(findings: Mapping[int, Finding]) -> Finding:
    """Join what was found for rows of several sizes, where axes of the input are free."""
    first, *others = findings.values()
    if all(other.code == first.code for other in others):
        return first
    sizes = ", ".join(str(size) for size in findings)
    reason = f"which tensor is the narrowest depends on the length of the free axes ({sizes})"
    return Finding(None, reason, first.candidates)
