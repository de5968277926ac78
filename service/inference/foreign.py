"""Reading an ONNX file that somebody else made: its facts, and its graph in one plain form."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from service.errors import HourglassError, PackageError
from service.inference.dataflow import all_nodes, needs
from service.inference.external import MAX_BYTES, Beside, fold_in, shown
from service.inference.graphs import MIN_OPSET
from service.specs import TensorSpec

Axes: TypeAlias = tuple[int | str | None, ...]
"""What a file says of a shape, the batch axis included: lengths, and names of free axes."""

BATCH: Final = "batch"

# what MIN_OPSET came with
_PLAIN_IR: Final = 8

_RANDOM: Final = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
_OF_ATTRIBUTES: Final = {
    "value_int": "int64",
    "value_ints": "int64",
    "value_float": "float32",
    "value_floats": "float32",
}
_PLAIN_DOMAINS: Final = {"", "ai.onnx"}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or an output as the file declares it; ``None`` for a shape that it leaves out."""

    name: str
    dtype: str
    axes: Axes | None

    def __str__(self) -> str:
        axes = "?" if self.axes is None else ", ".join(str(a) if a else "?" for a in self.axes)
        return f"{self.name}  {self.dtype}  [{axes}]"


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a graph comes from.

    Attributes:
        beside: Files that held its weights.
    """

    file: str
    sha256: str
    bytes: int
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True)
class Foreign:
    """A graph from outside.

    Attributes:
        original: The graph as it came, with the weights from other files in it.
        notes: What was changed in it, in words.
    """

    facts: Facts
    original: ModelProto
    model: ModelProto
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[Value]:
        """What must be fed; weights that are listed as inputs too are none."""
        return [_value(value) for value in self.model.graph.input]

    @property
    def outputs(self) -> list[Value]:
        return [_value(value) for value in self.model.graph.output]

    def changed(self, model: ModelProto, *notes: str) -> "Foreign":
        """Give the same with another graph, and say what was done."""
        return replace(self, model=model, notes=(*self.notes, *notes))


@contextmanager
def refusing_damage(what: str) -> Iterator[None]:
    """Blame the file for whatever ``onnx`` and the runtime raise at a graph that is not valid."""
    try:
        yield
    except HourglassError:
        raise
    except Exception as error:
        raise PackageError(f"{what} is damaged, or not valid ONNX") from error


def read_foreign(path: Path) -> Foreign:
    """Read a file, take in the weights beside it, and bring it to one plain form.

    Functions of the file's own are inlined, constants are no inputs any more, and the opset is at
    least the one that the surgery of ``service.inference.graphs`` wants.

    Raises:
        PackageError: It cannot be read, is not a valid graph, or cannot be converted.
    """
    data = _bytes(path)
    with refusing_damage(path.name):
        model = _parse(data, path.name)
        beside = fold_in(model, path.parent)
        # a file of before IR 4 must list its weights as inputs; some do not, and nobody minds
        newer = _copy(model)
        newer.ir_version = max(model.ir_version, _PLAIN_IR)
        found = Foreign(_facts(path.name, data, model, beside), model, newer)
        if beside:
            names = ", ".join(each.file for each in beside)
            found = found.changed(newer, f"weights were taken in from {names}")
        _check(newer, path.name)
        return _plain(found)


def keep_outputs(foreign: Foreign, names: Sequence[str]) -> Foreign:
    """Keep what *names* need, inner tensors among them; other outputs and their nodes go."""
    graph = foreign.model.graph
    wanted = needs(graph, names, stop="")
    model = _copy(foreign.model)
    ends = {value.name: value for value in graph.output}
    notes = [f"the inner tensor {name} is the output" for name in names if name not in ends]
    _set(model.graph.output, [ends.get(name) or ValueInfoProto(name=name) for name in names])
    _set(model.graph.node, [n for n in graph.node if not wanted.isdisjoint(n.output)])
    _set(model.graph.initializer, [t for t in graph.initializer if t.name in wanted])
    _set(model.graph.input, [value for value in graph.input if value.name in wanted])
    left = [value.name for value in graph.output if value.name not in names]
    unused = [value.name for value in graph.input if value.name not in wanted]
    notes += [f"outputs left out: {', '.join(left)}"] if left else []
    notes += [f"inputs that nothing needs left out: {', '.join(unused)}"] if unused else []
    return foreign.changed(model, *notes)


def first_half(foreign: Foreign, length: int) -> Foreign:
    """Keep the first *length* entries of the output's second axis.

    Where a variational encoder gives mean and logarithm of the variance as one tensor, as the
    exports of diffusion models do, that is the mean.
    """
    model = _copy(foreign.model)
    whole = model.graph.output[0].name
    name = f"{whole}/mean"
    for end, value in (("from", 0), ("to", length), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), f"{name}/{end}"))
    inputs = [whole, f"{name}/from", f"{name}/to", f"{name}/axis"]
    model.graph.node.append(helper.make_node("Slice", inputs, [name]))
    model.graph.output[0].CopyFrom(ValueInfoProto(name=name))
    note = f"{whole} is twice what the decoder takes: its first half, the mean, is the code"
    return foreign.changed(model, note)


def declare(foreign: Foreign, specs: Mapping[str, TensorSpec]) -> Foreign:
    """Write down what tensors look like, whether they are ends or inner ones.

    Files leave shapes out, and shape inference does not know every operator.
    """
    model = _copy(foreign.model)
    ends = [*model.graph.input, *model.graph.output]
    known = {value.name: value for value in ends}
    for name, spec in specs.items():
        axes = [length or f"axis_{at}" for at, length in enumerate(spec.shape, 1)]
        dtype = helper.np_dtype_to_tensor_dtype(spec.numpy_dtype)
        value = helper.make_tensor_value_info(name, dtype, [BATCH, *axes])
        if name in known:
            known[name].CopyFrom(value)
        else:
            model.graph.value_info.append(value)
    return replace(foreign, model=model)


def random_operators(foreign: Foreign) -> list[str]:
    """Name the nodes whose answers are drawn anew in every run."""
    constants = {tensor.name: tensor for tensor in foreign.model.graph.initializer}
    found = set()
    for node in all_nodes(foreign.model.graph):
        is_plain = node.domain in _PLAIN_DOMAINS
        if is_plain and (node.op_type in _RANDOM or _drops(node, constants)):
            found.add(node.op_type)
        if any(a.name == "training_mode" and a.i for a in node.attribute):
            found.add(f"{node.op_type} in training mode")
    return sorted(found)


def _drops(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether a node is a Dropout that leaves values out, as it does in training alone."""
    _, _, mode = (*node.input, "", "", "")[:3]
    if node.op_type != "Dropout" or not mode:
        return False
    return mode not in constants or bool(numpy_helper.to_array(constants[mode]))


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PackageError(f"{path.name} is larger than 2 GiB")
        if not path.is_file():
            raise PackageError(f"{path} is not a file")
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error


def _parse(data: bytes, name: str) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise PackageError(f"{name} is not an ONNX file, or is cut short") from error
    if not model.graph.node or not model.opset_import:
        raise PackageError(f"{name} is not an ONNX file: it has no nodes or no opset")
    return model


def _facts(name: str, data: bytes, model: ModelProto, beside: Sequence[Beside]) -> Facts:
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return Facts(
        file=name,
        sha256=sha256(data).hexdigest(),
        bytes=len(data),
        producer=shown(producer)[1:-1],
        ir_version=model.ir_version,
        opsets={o.domain or "ai.onnx": o.version for o in model.opset_import},
        beside=tuple(beside),
    )


def _check(model: ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().split("\n")[0]
        raise PackageError(f"{name} is not valid ONNX: {shown(reason)[1:-1]}") from error


def _plain(foreign: Foreign) -> Foreign:
    model = foreign.model
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        foreign = foreign.changed(model, "functions of the file's own were inlined")
    opset = max((o.version for o in model.opset_import if o.domain in _PLAIN_DOMAINS), default=0)
    if 0 < opset < MIN_OPSET:
        foreign = foreign.changed(
            _upgraded(model, foreign.facts.file), f"opset {opset} was brought up to {MIN_OPSET}"
        )
    model = _copy(foreign.model)
    del model.training_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}
    _set(model.graph.input, [v for v in model.graph.input if v.name not in weights])
    _lift_constants(model)
    return replace(foreign, model=model)


def _upgraded(model: ModelProto, name: str) -> ModelProto:
    try:
        return onnx.version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # the converter raises whatever comes
        raise PackageError(
            f"{name} has an old opset and cannot be brought up to {MIN_OPSET}: export it with"
            f" opset {MIN_OPSET} or newer"
        ) from error


def _lift_constants(model: ModelProto) -> None:
    """Turn Constant nodes into initializers, so that every constant is found at one place."""
    kept = []
    for node in model.graph.node:
        tensor = _constant(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
    _set(model.graph.node, kept)
    given = {value.name for value in model.graph.output}
    for value in [t.name for t in model.graph.initializer if t.name in given]:
        raise PackageError(f"the output {shown(value)} is a constant")


def _constant(node: NodeProto) -> TensorProto | None:
    if len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        copy = TensorProto()
        copy.CopyFrom(attribute.t)
        return copy
    dtype = _OF_ATTRIBUTES.get(attribute.name)
    if dtype is None:
        return None  # strings and sparse tensors stay where they are
    return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), dtype))


def _value(value: ValueInfoProto) -> Value:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Value(value.name, "no tensor", None)
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError):
        dtype = "unknown"
    axes = tuple(_axis(axis) for axis in kind.shape.dim) if kind.HasField("shape") else None
    return Value(value.name, dtype, axes)


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if axis.HasField("dim_value"):
        return int(axis.dim_value) if axis.dim_value > 0 else None  # -1 means free to some
    return str(axis.dim_param) or None


def _copy(model: ModelProto) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(model)
    return made


def _set(field: object, values: list[object]) -> None:
    """Put other *values* into a repeated field; they may be those that are in it."""
    made = list(values)
    del field[:]  # type: ignore[attr-defined]
    field.extend(made)  # type: ignore[attr-defined]
