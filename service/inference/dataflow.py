"""Who reads what in a graph: the walks that every surgery needs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from onnx import GraphProto, NodeProto, SparseTensorProto, TensorProto

_OF_SHAPES: Final = {"Shape", "Size", "ConstantOfShape"}
_PLAIN_DOMAINS: Final = {"", "ai.onnx"}


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those in the bodies of others too."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Graphs that a node holds: the branches of an If, the body of a Loop or Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every constant, in the bodies of nodes too."""
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)
    yield from node_tensors(graph.node)


def node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    """Every constant that stands in an attribute."""
    for node in nodes:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            yield from _parts([attribute.sparse_tensor, *attribute.sparse_tensors])
        for body in bodies(node):
            yield from tensors(body)


def _parts(sparse: Iterable[SparseTensorProto]) -> Iterator[TensorProto]:
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those from around the graphs that it holds included."""
    yield from node.input
    for body in bodies(node):
        for inner in all_nodes(body):
            yield from inner.input


def needs(graph: GraphProto, targets: Iterable[str], *, stop: str) -> set[str]:
    """Names that *targets* depend on, themselves included, not looking behind *stop*."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    pending = [*targets]
    while pending:
        name = pending.pop()
        if name and name not in found and name != stop:  # an optional tensor has no name
            found.add(name)
            pending.extend(reads(makers[name]) if name in makers else ())
    return found


def rename_reads(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    """Let nodes, and those in their bodies, read other tensors."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in bodies(node):
            rename_reads(body.node, names)


def carried_from(graph: GraphProto, source: str) -> set[str]:
    """Tensors that hold data of *source*; its shape alone is no data."""
    found = {source}
    for node in graph.node:
        if not found.isdisjoint(data_reads(node)):
            found.update(name for name in node.output if name)
    return found


def data_reads(node: NodeProto) -> list[str]:
    """Names whose values, not only whose shapes, go into a node."""
    if node.op_type in _OF_SHAPES and node.domain in _PLAIN_DOMAINS:
        return []
    return [name for name in reads(node) if name]


def makers(graph: GraphProto) -> dict[str, NodeProto]:
    """Which node makes a tensor."""
    return {name: node for node in graph.node for name in node.output if name}


def copied(node: NodeProto) -> NodeProto:
    """Give a node of its own, for a list that its home is emptied for."""
    made = NodeProto()
    made.CopyFrom(node)
    return made
