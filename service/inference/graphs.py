"""ONNX surgery: cut at the code, join encoder and decoder, add the score; bytes in, bytes out.

Whatever the files call their tensors, the graphs made here call them ``input``, ``code``,
``reconstruction`` and ``score``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import onnx
import onnx.compose
import onnx.external_data_helper
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import (
    ModelProto,
    TensorProto,
    helper,
    numpy_helper,
)

from service.errors import PackageError
from service.inference.cutting import extract, extract_from
from service.inference.dataflow import all_nodes, bodies, needs, tensors
from service.inference.failures import unknown_operator
from service.inference.inner import (
    FURTHER,
    LAYER,
    Inner,
    expose,
    expose_code,
    keep_one_output,
)
from service.inference.promises import expect
from service.specs import TensorSpec, Width

INPUT: Final = "input"
CODE: Final = "code"
RECONSTRUCTION: Final = "reconstruction"
SCORE: Final = "score"

# ReduceMean takes its axes as an input from here on, and every graph is brought up to it
MIN_OPSET: Final = 18

ALIGNED: Final = 16  # float32 values of the widest vectors


@dataclass(frozen=True, slots=True)
class Graphs:
    """The graphs of one model, serialised; ``None`` where the model cannot have one.

    Attributes:
        encode: ``input`` -> ``code`` and the further outputs, in the order of the manifest.
        decode: ``code`` -> ``reconstruction``.
        reconstruct: ``input`` -> ``reconstruction``.
        score: ``input`` -> ``score``, so that one float a row leaves the device.
        cut_everything: Makes *everything*.
        cut_layers: Makes the graph ``input`` -> layers, of their names. Neither is made before
            somebody asks: each holds the weights again, and few are ever asked for.
        encoder_layers: The layers of the encoder's side.
    """

    encode: bytes | None = None
    decode: bytes | None = None
    reconstruct: bytes | None = None
    score: bytes | None = None
    cut_everything: Callable[[], bytes] | None = None
    cut_layers: Callable[[Sequence[str]], bytes] | None = None
    encoder_layers: tuple[str, ...] = ()

    @property
    def everything(self) -> bytes | None:
        """The graph ``input`` -> all of ``code``, ``reconstruction`` and ``score`` that exist."""
        return None if self.cut_everything is None else self.cut_everything()


@dataclass(frozen=True, slots=True)
class Signature:
    """What the manifest promises of the tensors, and whether the output is the input again.

    Attributes:
        layers: Inner tensors that are given alone, by their names.
        further: Inner tensors that are given beside the code, by their names.
    """

    input: TensorSpec
    code: TensorSpec | None
    output: TensorSpec | None
    reconstructs: bool = True
    layers: Mapping[str, Inner] = field(default_factory=dict)
    further: Mapping[str, Inner] = field(default_factory=dict)

    @property
    def inner(self) -> dict[str, Inner]:
        """All of them, by the names of the outputs that they become."""
        named = [(LAYER, self.layers), (FURTHER, self.further)]
        return {kind + name: each for kind, some in named for name, each in some.items()}


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """Blame the package for whatever ``onnx`` raises at a graph that is not valid."""
    try:
        yield
    except PackageError:
        raise
    except Exception as error:
        fault = unknown_operator(error) or "a graph is damaged, or not valid ONNX"
        raise PackageError(fault) from error


@_refusing_damage()
def from_pair(
    encoder: bytes,
    decoder: bytes | None,
    signature: Signature,
    *,
    code_output: str | None = None,
    output: str | None = None,
) -> Graphs:
    """Make the graphs of a model that comes as an encoder and perhaps a decoder.

    Args:
        encoder: The file.
        decoder: The file, where there is one.
        signature: What the manifest promises.
        code_output: Which output of the encoder is the code, where it has several.
        output: Which output of the decoder is the reconstruction, where it has several.

    Raises:
        PackageError: A file is not a usable graph, or does not do what *signature* says.
    """
    encode = _load(encoder, "encoder")
    _name_ends(encode, "encoder", (INPUT, CODE), signature, chosen=code_output)
    if decoder is None:
        return _cut(encode, signature)
    decode = _load(decoder, "decoder")
    _name_ends(decode, "decoder", (CODE, RECONSTRUCTION), signature, chosen=output)
    _expect(encode, CODE, signature.code)
    _expect(decode, CODE, signature.code)
    return _cut(_join(encode, decode), signature)


@_refusing_damage()
def from_whole(
    autoencoder: bytes,
    code_tensor: str | None,
    signature: Signature,
    *,
    output: str | None = None,
) -> Graphs:
    """Make the graphs of a model that comes as one file, cut at *code_tensor* where it has one.

    With skip connections around the code there is no decoder to cut out: ``decode`` is ``None``.

    Args:
        autoencoder: The file.
        code_tensor: The code's name in it; it may be an output of the file.
        signature: What the manifest promises.
        output: Which output is the reconstruction, where there are several.

    Raises:
        PackageError: The file is not a usable graph, or does not do what *signature* says.
    """
    model = _load(autoencoder, "autoencoder")
    ends = (INPUT, RECONSTRUCTION)
    _name_ends(model, "autoencoder", ends, signature, chosen=output, code=code_tensor)
    return _cut(model, signature)


def has_control_flow(graph: bytes) -> bool:
    """Whether a node holds a graph of its own (If, Loop, Scan), so that its time may vary."""
    model = onnx.load_model_from_string(graph)
    return any(True for node in model.graph.node for _ in bodies(node))


def _load(data: bytes, part: str) -> ModelProto:
    """Read one file, bring it up to the common opset and set its names apart with a prefix."""
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise PackageError(f"the {part} is not an ONNX file") from error
    # functions of two files cannot share a graph, and the opset converter forgets them
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if any(onnx.external_data_helper.uses_external_data(t) for t in tensors(model.graph)):
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


def _name_ends(
    model: ModelProto,
    part: str,
    ends: tuple[str, str],
    signature: Signature,
    *,
    chosen: str | None = None,
    code: str | None = None,
) -> None:
    """Give input, output and the code inside their public names, and make outputs of the rest."""
    inner = {each.name for each in signature.inner.values()}
    taken = inner if code is None else {*inner, f"{part}/{code}"}
    keep_one_output(model.graph, None if chosen is None else f"{part}/{chosen}", taken)
    names = {model.graph.input[0].name: ends[0], model.graph.output[0].name: ends[1]}
    if len(names) == 1:
        raise PackageError("a graph gives its input back without a node")
    if code is not None:
        names |= expose_code(model, f"{part}/{code}", CODE)
    expose(model, part, signature.inner)
    _rename(model, names)


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    """Rename tensors wherever they stand; prefixes have made every name unique."""
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)
    for node in all_nodes(graph):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _join(encode: ModelProto, decode: ModelProto) -> ModelProto:
    """Put the decoder behind the encoder; the code stays an output of the whole."""
    opset = max(_opset(encode), _opset(decode))
    first, second = _upgrade(encode, opset), _upgrade(decode, opset)
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    try:
        return onnx.compose.merge_models(
            first,
            second,
            io_map=[(CODE, CODE)],
            outputs=[value.name for model in (first, second) for value in model.graph.output],
        )
    except ValueError as error:
        raise PackageError("encoder and decoder cannot be joined at the code") from error


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
    has_decoder = CODE in outputs and INPUT not in needs(whole.graph, [RECONSTRUCTION], stop=CODE)
    has_score = signature.reconstructs and RECONSTRUCTION in outputs
    if has_score:
        spec = signature.input
        _add_score(whole, spec.width, spec.size if spec.is_fixed else None)
    kept = whole.SerializeToString()
    graphs = _with_layers(whole, kept, signature) if signature.layers else Graphs()
    if CODE in outputs:
        further = [FURTHER + name for name in signature.further]
        graphs = replace(graphs, encode=extract(whole, INPUT, [CODE, *further]))
    if RECONSTRUCTION not in outputs:
        return graphs
    return replace(
        graphs,
        decode=extract(whole, CODE, [RECONSTRUCTION]) if has_decoder else None,
        reconstruct=extract(whole, INPUT, [RECONSTRUCTION]),
        score=extract(whole, INPUT, [SCORE]) if has_score else None,
        cut_everything=partial(extract_from, kept, INPUT, _outputs(whole)),
    )


def _with_layers(whole: ModelProto, kept: bytes, signature: Signature) -> Graphs:
    encoding = needs(whole.graph, [CODE], stop=INPUT)

    def leads_to_code(layer: str) -> bool:
        return needs(whole.graph, [layer], stop=INPUT) - {layer} <= encoding

    encoder_side = [
        name
        for name, inner in signature.layers.items()
        if inner.part == "encoder" or leads_to_code(LAYER + name)
    ]
    return Graphs(cut_layers=partial(_cut_layers, kept), encoder_layers=tuple(encoder_side))


def _cut_layers(kept: bytes, names: Sequence[str]) -> bytes:
    return extract_from(kept, INPUT, [LAYER + name for name in names])


def _outputs(model: ModelProto) -> list[str]:
    found = {value.name for value in model.graph.output}
    return [name for name in (CODE, RECONSTRUCTION, SCORE) if name in found]


def _add_score(model: ModelProto, width: Width, features: int | None) -> None:
    """Append the mean squared error of every row, as ``service.scoring.measures`` defines it."""
    graph = model.graph
    constants = {
        "width": np.asarray(width, np.float32),
        "flat": np.array([0, -1]),
        "axes": np.array([1]),
    }
    if features is not None and features % ALIGNED:
        constants["padding"] = np.array([0, 0, 0, -features % ALIGNED])
        constants["count"] = np.array(features, np.float32)
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
        *_mean_of_rows(features),
    ]
    for operator, inputs, output, attributes in steps:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
    graph.output.append(helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["batch"]))


def _mean_of_rows(features: int | None) -> list[tuple[str, list[str], str, dict[str, Any]]]:
    """Give the nodes that make a mean of every row, with the same bits wherever the row lies.

    ONNX Runtime adds up from one boundary of vectors in memory to the next, so that the order of
    a sum follows from where its row begins. Zeros fill rows up until all begin at a boundary.
    """
    if features is None or not features % ALIGNED:
        return [("ReduceMean", ["score/features", "score/axes"], SCORE, {"keepdims": 0})]
    return [
        ("Pad", ["score/features", "score/padding"], "score/padded", {}),
        ("ReduceSum", ["score/padded", "score/axes"], "score/sum", {"keepdims": 0}),
        ("Div", ["score/sum", "score/count"], SCORE, {}),
    ]


def _expect(model: ModelProto, name: str, spec: TensorSpec | None) -> None:
    """See that a public tensor is what the manifest says."""
    values = [*model.graph.input, *model.graph.output]
    expect(next(value for value in values if value.name == name), name, spec)
