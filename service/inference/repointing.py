"""Cutting the last thread between a decoder and the input: its shape.

Exported decoders often ask the input how many rows there are. The codes are as many.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from service.inference.dataflow import carried_from, copied, makers, reads, rename_reads
from service.inference.foreign import Foreign
from service.specs import Rows, Shape

_ROWS: Final = "of_code/rows"
_COPY: Final = "/of_code"


def sizes_asked(model: ModelProto, code: str) -> list[str]:
    """List the tensors in front of the code whose shape, and nothing else, is needed behind it."""
    return sorted({node.input[0] for node in _threads(model, code) if node.op_type == "Shape"})


def repoint(foreign: Foreign, code: str, seen: Mapping[str, Rows], row: Shape) -> Foreign:
    """Let what comes behind the code take the number of rows from it instead of the input.

    Args:
        foreign: A graph in which no data goes around *code*.
        code: Its name.
        seen: The tensors of *sizes_asked* and the code, from one run.
        row: A row of the input. Where axes of it are free, only the number of rows can be had.

    Returns:
        The graph, unchanged where its decoder asks for more than can be known from a code.
    """
    model = ModelProto()
    model.CopyFrom(foreign.model)
    threads = _threads(model, code)
    asked = [node for node in threads if node.op_type == "Shape"]
    if not asked or not all(_can_be_said(model, node, seen, code, None in row) for node in asked):
        return foreign
    _insert(model, code, threads, seen)
    note = "the decoder takes the number of rows from the code, not from the input"
    return foreign.changed(model, note)


def _threads(model: ModelProto, code: str) -> list[NodeProto]:
    """Nodes that hang on the input's shape, and on no data of it, and that the decoder needs."""
    graph = model.graph
    source, target = graph.input[0].name, graph.output[0].name
    data, behind = carried_from(graph, source), _hanging_on(graph.node, code, stop=None)
    hanging = _hanging_on(graph.node, source, stop=code) - behind
    made_by = makers(graph)
    pending, seen = [target], {code, source}
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name not in made_by:
            continue
        seen.add(name)
        if name in hanging:
            found.add(name)
        if name in behind or made_by[name].op_type != "Shape":
            pending.extend(reads(made_by[name]))
    if any(name in data for name in found):
        return []
    return [node for node in graph.node if not found.isdisjoint(node.output)]


def _hanging_on(nodes: Iterable[NodeProto], source: str, *, stop: str | None) -> set[str]:
    """Names that are worked out from *source*, not looking behind *stop*."""
    found = {source}
    for node in nodes:
        if stop not in node.output and not found.isdisjoint(reads(node)):
            found.update(name for name in node.output if name)
    return found - {source}


def _can_be_said(
    model: ModelProto, node: NodeProto, seen: Mapping[str, Rows], code: str, is_free: bool
) -> bool:
    asked = seen[node.input[0]]
    if not asked.ndim or len(asked) != len(seen[code]):
        return False
    start, end = _span(node, asked.ndim)
    return not is_free or (start, end) == (0, 1) or _first_alone(model, node.output[0])


def _first_alone(model: ModelProto, shape: str) -> bool:
    """Whether nothing but the first entry of a shape is used."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    readers = [node for node in model.graph.node if shape in reads(node)]
    for node in readers:
        given = [constants.get(name) for name in node.input[1:3]]
        values = [int(np.ravel(each)[0]) for each in given if each is not None and each.size == 1]
        if (node.op_type, values) not in (("Gather", [0]), ("Slice", [0, 1])):
            return False
    return True


def _insert(
    model: ModelProto, code: str, threads: list[NodeProto], seen: Mapping[str, Rows]
) -> None:
    """Put copies of *threads* behind the code, and let its decoder read them."""
    graph = model.graph
    names = {name: name + _COPY for node in threads for name in node.output if name}
    behind = _hanging_on(graph.node, code, stop=None)
    before: list[NodeProto] = []
    made: list[NodeProto] = []
    is_behind = False
    for node in graph.node:
        made.append(copied(node))
        if not behind.isdisjoint(node.output):
            rename_reads(made[-1:], names)
        if any(name in names for name in node.output):
            copy = _of_code(model, node, seen, names)
            (made if is_behind else before).append(copy)
        if code in node.output:
            is_behind = True
            made += [helper.make_node("Shape", [code], [_ROWS], start=0, end=1), *before]
    del graph.node[:]
    graph.node.extend(made)


def _of_code(
    model: ModelProto, node: NodeProto, seen: Mapping[str, Rows], names: Mapping[str, str]
) -> NodeProto:
    """The copy of a thread's node; a shape is put together from the rows of the code."""
    if node.op_type != "Shape":
        copy = copied(node)
        copy.name = ""
        copy.output[:] = [names.get(name, name) for name in node.output]
        rename_reads([copy], names)
        return copy
    shape = seen[node.input[0]].shape
    start, end = _span(node, len(shape))
    output = names[node.output[0]]
    parts = [_ROWS] if start == 0 < end else []
    rest = np.array(shape[max(start, 1) : end], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(rest, f"{output}/axes"))
    return helper.make_node("Concat", [*parts, f"{output}/axes"], [output], axis=0)


def _span(node: NodeProto, rank: int) -> tuple[int, int]:
    """Which entries of a shape a node gives."""
    given = {attribute.name: attribute.i for attribute in node.attribute}
    return slice(given.get("start"), given.get("end")).indices(rank)[:2]
