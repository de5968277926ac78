"""ONNX surgery: cut at the code, join encoder and decoder, add the score; bytes in, bytes out.

Whatever the files call their tensors, the graphs made here call them ``input``, ``code``,
``reconstruction`` and ``score``.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnx.compose
import onnx.external_data_helper
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from service.errors import PackageError
from service.specs import Shape, TensorSpec, Width, shape_text

INPUT: Final = "input"
CODE: Final = "code"
RECONSTRUCTION: Final = "reconstruction"
SCORE: Final = "score"

# ReduceMean takes its axes as an input from here on, and every graph is brought up to it
MIN_OPSET: Final = 18


@dataclass(frozen=True, slots=True)
class Graphs:
    """The graphs of one model, serialised; ``None`` where the model cannot have one.

    Attributes:
        encode: ``input`` -> ``code``.
        decode: ``code`` -> ``reconstruction``.
        reconstruct: ``input`` -> ``reconstruction``.
        score: ``input`` -> ``score``, so that one float a row leaves the device.
        everything: ``input`` -> all of ``code``, ``reconstruction`` and ``score`` that exist.
    """

    encode: bytes | None = None
    decode: bytes | None = None
    reconstruct: bytes | None = None
    score: bytes | None = None
    everything: bytes | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What the manifest promises of the tensors, and whether the output is the input again."""

    input: TensorSpec
    code: TensorSpec | None
    output: TensorSpec | None
    reconstructs: bool = True


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """Blame the package for whatever ``onnx`` raises at a graph that is not valid."""
    try:
        yield
    except PackageError:
        raise
    except Exception as error:
        raise PackageError("a graph is damaged, or not valid ONNX") from error


@_refusing_damage()
def from_pair(encoder: bytes, decoder: bytes | None, signature: Signature) -> Graphs:
    """Make the graphs of a model that comes as an encoder and perhaps a decoder.

    Raises:
        PackageError: A file is not a usable graph, or does not do what *signature* says.
    """
    encode = _load(encoder, "encoder")
    _rename(encode, _ends(encode, INPUT, CODE))
    if decoder is None:
        return _cut(encode, signature)
    decode = _load(decoder, "decoder")
    _rename(decode, _ends(decode, CODE, RECONSTRUCTION))
    _expect(encode, CODE, signature.code)
    _expect(decode, CODE, signature.code)
    return _cut(_join(encode, decode), signature)


@_refusing_damage()
def from_whole(autoencoder: bytes, code_tensor: str | None, signature: Signature) -> Graphs:
    """Make the graphs of a model that comes as one file, cut at *code_tensor* where it has one.

    With skip connections around the code there is no decoder to cut out: ``decode`` is ``None``.

    Raises:
        PackageError: The file is not a usable graph, or does not do what *signature* says.
    """
    model = _load(autoencoder, "autoencoder")
    names = _ends(model, INPUT, RECONSTRUCTION)
    if code_tensor is not None:
        inner = f"autoencoder/{code_tensor}"
        _expose(model, inner)
        names[inner] = CODE
    _rename(model, names)
    return _cut(model, signature)


def has_control_flow(graph: bytes) -> bool:
    """Whether a node holds a graph of its own (If, Loop, Scan), so that its time may vary."""
    model = onnx.load_model_from_string(graph)
    return any(True for node in model.graph.node for _ in _bodies(node))


def _load(data: bytes, part: str) -> ModelProto:
    """Read one file, bring it up to the common opset and set its names apart with a prefix."""
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise PackageError(f"the {part} is not an ONNX file") from error
    # functions of two files cannot share a graph, and the opset converter forgets them
    model = onnx.inliner.inline_local_functions(model)
    if any(onnx.external_data_helper.uses_external_data(t) for t in _tensors(model.graph)):
        raise PackageError(f"the {part} keeps its weights in another file; fold them in")
    model = _upgrade(model, max(_opset(model), MIN_OPSET))
    # a weight that is listed as an input too (IR 3) could be fed by a client; here it is a weight
    weights = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(given)
    return onnx.compose.add_prefix(model, prefix=f"{part}/")


def _upgrade(model: ModelProto, opset: int) -> ModelProto:
    if _opset(model) == opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError) as error:
        raise PackageError(
            f"a graph has opset {_opset(model)} and cannot be brought up to {opset}"
        ) from error


def _opset(model: ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)


def _ends(model: ModelProto, source: str, target: str) -> dict[str, str]:
    """Map the names of the one input and the one output to their public names."""
    inputs, outputs = model.graph.input, model.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise PackageError(
            f"a graph has {len(inputs)} inputs and {len(outputs)} outputs instead of one each"
        )
    if inputs[0].name == outputs[0].name:
        raise PackageError("a graph gives its input back without a node")
    return {inputs[0].name: source, outputs[0].name: target}


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    """Rename tensors wherever they stand; prefixes have made every name unique."""
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)
    for node in _all_nodes(graph):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _all_nodes(body)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every constant, in the bodies of nodes too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
        for body in _bodies(node):
            yield from _tensors(body)


def _join(encode: ModelProto, decode: ModelProto) -> ModelProto:
    """Put the decoder behind the encoder; the code stays an output of the whole."""
    opset = max(_opset(encode), _opset(decode))
    first, second = _upgrade(encode, opset), _upgrade(decode, opset)
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    try:
        return onnx.compose.merge_models(
            first, second, io_map=[(CODE, CODE)], outputs=[CODE, RECONSTRUCTION]
        )
    except ValueError as error:
        raise PackageError("encoder and decoder cannot be joined at the code") from error


def _expose(model: ModelProto, tensor: str) -> None:
    """Make an inner tensor an output, with the type that shape inference finds for it."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value for value in graph.value_info}
    if tensor not in known:
        raise PackageError("the graph has no inner tensor of the name given as code_tensor")
    model.graph.output.append(known[tensor])


def _cut(whole: ModelProto, signature: Signature) -> Graphs:
    """Give every graph that the outputs of *whole* allow, each with nothing it does not need."""
    outputs = _outputs(whole)
    for name, spec in [
        (INPUT, signature.input),
        (CODE, signature.code),
        (RECONSTRUCTION, signature.output),
    ]:
        if name == INPUT or name in outputs:
            _expect(whole, name, spec)
    encode = _extract(whole, INPUT, [CODE]) if CODE in outputs else None
    if RECONSTRUCTION not in outputs:
        return Graphs(encode=encode)
    has_decoder = CODE in outputs and INPUT not in _needs(whole.graph, [RECONSTRUCTION], stop=CODE)
    scored = _with_score(whole, signature.input.width) if signature.reconstructs else whole
    return Graphs(
        encode=encode,
        decode=_extract(whole, CODE, [RECONSTRUCTION]) if has_decoder else None,
        reconstruct=_extract(whole, INPUT, [RECONSTRUCTION]),
        score=_extract(scored, INPUT, [SCORE]) if signature.reconstructs else None,
        everything=_extract(scored, INPUT, _outputs(scored)),
    )


def _outputs(model: ModelProto) -> list[str]:
    found = {value.name for value in model.graph.output}
    return [name for name in (CODE, RECONSTRUCTION, SCORE) if name in found]


def _extract(model: ModelProto, source: str, outputs: list[str]) -> bytes:
    """Keep what *outputs* need; ONNX Runtime would compute the rest, asked for or not.

    ``onnx.utils.Extractor`` does not see what the bodies of nodes read from around them.
    """
    graph = model.graph
    needed = _needs(graph, outputs, stop=source)
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


def _needs(graph: GraphProto, targets: list[str], *, stop: str) -> set[str]:
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
    for body in _bodies(node):
        for inner in _all_nodes(body):
            yield from inner.input


def _with_score(model: ModelProto, width: Width) -> ModelProto:
    """Append the mean squared error of every row, as ``service.scoring.measures`` defines it."""
    scored = ModelProto()
    scored.CopyFrom(model)
    graph = scored.graph
    constants = {
        "width": np.asarray(width, np.float32),
        "flat": np.array([0, -1]),
        "axes": np.array([1]),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"{SCORE}/{name}")
        for name, value in constants.items()
    )
    # cast: integers cannot be subtracted from floats, and half precision loses small errors
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", [INPUT], "score/x", {"to": TensorProto.FLOAT}),
        ("Cast", [RECONSTRUCTION], "score/y", {"to": TensorProto.FLOAT}),
        ("Sub", ["score/x", "score/y"], "score/difference", {}),
        ("Div", ["score/difference", "score/width"], "score/relative", {}),
        ("Mul", ["score/relative", "score/relative"], "score/squared", {}),
        ("Reshape", ["score/squared", "score/flat"], "score/features", {}),
        ("ReduceMean", ["score/features", "score/axes"], SCORE, {"keepdims": 0}),
    ]
    for operator, inputs, output, attributes in steps:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
    graph.output.append(helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["batch"]))
    return scored


def _expect(model: ModelProto, name: str, spec: TensorSpec | None) -> None:
    """See that a public tensor has the manifest's dtype and shape and a free batch axis."""
    values: Iterable[ValueInfoProto] = [*model.graph.input, *model.graph.output]
    tensor = next(value for value in values if value.name == name).type.tensor_type
    if spec is None:
        raise PackageError(f"the manifest does not describe the {name}")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if dtype != spec.numpy_dtype:
        raise PackageError(f"the {name} is {dtype} in the graph, {spec.dtype} in the manifest")
    if not tensor.shape.dim:
        raise PackageError(f"the {name} has no batch axis in the graph, or no shape at all")
    batch, *axes = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    if batch is not None:
        raise PackageError(f"the {name} has a batch axis fixed at {batch}")
    if not _compatible(tuple(axes), spec.shape):
        raise PackageError(
            f"a row of {name} is {shape_text(tuple(axes))} in the graph,"
            f" {shape_text(spec.shape)} in the manifest"
        )


def _compatible(graph: Shape, manifest: Shape) -> bool:
    """A graph may leave an axis open that the manifest knows, never the other way round."""
    return len(graph) == len(manifest) and all(
        found in {None, promised} for found, promised in zip(graph, manifest, strict=True)
    )
