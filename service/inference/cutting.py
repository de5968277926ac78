"""Parts of an ONNX graph: what some outputs need, and nothing else."""

from onnx import ModelProto, helper

from service.inference.dataflow import needs


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
