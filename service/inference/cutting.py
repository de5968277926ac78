"""Parts of an ONNX graph: what some outputs need, and nothing else."""

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, helper


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, in the bodies of nodes too."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Graphs that a node holds: of If, Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def extract(model: ModelProto, source: str, outputs: list[str]) -> bytes:
    """Keep what *outputs* need; ONNX Runtime would compute the rest, asked for or not.

    ``onnx.utils.Extractor`` does not see what the bodies of nodes read from around them.
    """
    graph = model.graph
    needed = needs(graph, outputs, stop=source)
    ends = {value.name: value for value in [*graph.input, *graph.output]}
    part = helper.make_graph(
        [node for node in graph.node if not needed.isdisjoint(node.output)],
        graph.name,
        [ends[source]],
        [ends[name] for name in outputs],
        [tensor for tensor in graph.initializer if tensor.name in needed],
        sparse_initializer=[t for t in graph.sparse_initializer if t.values.name in needed],
    )
    made = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    data: bytes = made.SerializeToString()
    return data


def needs(graph: GraphProto, targets: list[str], *, stop: str) -> set[str]:
    """Names that *targets* depend on, themselves included, not looking behind *stop*."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    pending = [*targets]
    while pending:
        name = pending.pop()
        if name and name not in found and name != stop:  # an optional tensor has no name
            found.add(name)
            pending.extend(_reads(makers[name]) if name in makers else ())
    return found


def _reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for body in bodies(node):
        for inner in all_nodes(body):
            yield from inner.input
