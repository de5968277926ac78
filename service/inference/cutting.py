"""Parts of an ONNX graph: what some outputs need, and nothing else."""

from collections.abc import Sequence

import onnx
from onnx import ModelProto

from service.inference.dataflow import needs


def extract(model: ModelProto, source: str, outputs: Sequence[str]) -> bytes:
    """Keep what *outputs* need; ONNX Runtime would compute the rest, asked for or not.

    ``onnx.utils.Extractor`` does not see what the bodies of nodes read from around them.
    """
    graph = model.graph
    needed = needs(graph, outputs, stop=source)
    ends = {value.name: value for value in [*graph.input, *graph.output]}
    made = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part = made.graph  # filled in place: each way around it would copy the weights once more
    part.name = graph.name
    part.node.extend(node for node in graph.node if not needed.isdisjoint(node.output))
    part.input.append(ends[source])
    part.output.extend(ends[name] for name in outputs)
    part.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    part.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in needed)
    data: bytes = made.SerializeToString()
    return data


def extract_from(data: bytes, source: str, outputs: Sequence[str]) -> bytes:
    """Do the same with a serialised model, the form in which one is kept with the least memory."""
    return extract(onnx.load_model_from_string(data), source, outputs)
