"""Which tensors of a file are outputs: one of its own, its code, its layers, further outputs."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto, helper

from service.errors import PackageError
from service.inference.promises import expect
from service.specs import TensorSpec

# no tensor of a file can have these names: there they begin with the name of the file's part
LAYER: Final = "layer/"
FURTHER: Final = "further/"

# no shape, axes or sizes that a node is given as a constant have more elements
_SHAPE_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Inner:
    """A tensor inside a file, and what the manifest promises of it.

    Attributes:
        part: ``encoder``, ``decoder`` or ``autoencoder``.
        tensor: Its name there; within a function of the file's own, as inlining writes it.
    """

    part: str
    tensor: str
    spec: TensorSpec

    @property
    def name(self) -> str:
        """Its name once the names of the file are set apart with a prefix."""
        return f"{self.part}/{self.tensor}"


def tensor_types(model: ModelProto) -> dict[str, ValueInfoProto]:
    """Give the types of all tensors that nodes make, outputs too, by shape inference.

    What the file itself says comes last: inference does not know every operator.
    """
    graph = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
    values = [*graph.value_info, *graph.output, *model.graph.value_info]
    return {value.name: value for value in values}


def _without_weights(model: ModelProto) -> ModelProto:
    """Give what shape inference looks at: of a large constant that is its type alone."""
    made = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = made.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _SHAPE_MAX:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return made


def expose(model: ModelProto, part: str, wanted: Mapping[str, Inner]) -> None:
    """Make the tensors of *part* among *wanted* outputs of *model*, by the names in *wanted*.

    Each comes through a node of its own, which ONNX Runtime takes out again: so one tensor may
    have several names, and may be the code as well.

    Raises:
        PackageError: One does not exist, or is not what the manifest promises.
    """
    here = {name: inner for name, inner in wanted.items() if inner.part == part}
    types = tensor_types(model) if here else {}
    for name, inner in here.items():
        value = types.get(inner.name)
        title = name.replace("/", " output '" if name.startswith(FURTHER) else " '", 1) + "'"
        if value is None:
            raise PackageError(f"the {part} has no tensor for the {title}{_hint(inner, types)}")
        expect(value, title, inner.spec)
        output = ValueInfoProto()
        output.CopyFrom(value)
        output.name = name
        model.graph.node.append(helper.make_node("Identity", [inner.name], [name]))
        model.graph.output.append(output)


def _hint(inner: Inner, types: Mapping[str, ValueInfoProto]) -> str:
    """Name what inlining has made of the tensor, one for every call of its function."""
    copies = re.compile(re.escape(inner.name) + r"__\d+")
    found = [name.partition("/")[2] for name in types if copies.fullmatch(name)]
    return f"; in functions there is {' and '.join(found)}" if found else ""


def expose_code(model: ModelProto, tensor: str, public: str) -> dict[str, str]:
    """Make the code inside a whole file an output, and map its name to the *public* one.

    Raises:
        PackageError: No node makes it, or it is the reconstruction.
    """
    value = tensor_types(model).get(tensor)
    if value is None or tensor == model.graph.output[0].name:
        raise PackageError("the graph has no inner tensor of the name given as code_tensor")
    model.graph.output.append(value)
    return {tensor: public}


def keep_one_output(graph: GraphProto, chosen: str | None, taken: Collection[str]) -> None:
    """Keep the output that is *chosen*, or the only one, or the only one not *taken* otherwise.

    The types of the others stay known, for one of them may be a layer.

    Raises:
        PackageError: There is none, or more than one.
    """
    outputs = list(graph.output)
    kept = outputs
    if chosen is not None:
        kept = [value for value in outputs if value.name == chosen]
        if not kept:
            part, _, name = chosen.partition("/")
            raise PackageError(f"the {part} has no output '{name}', which the manifest names")
    elif len(outputs) > 1:
        kept = [value for value in outputs if value.name not in taken]
    if len(graph.input) != 1 or len(kept) != 1:
        raise PackageError(
            f"a graph has {len(graph.input)} inputs and {len(outputs)} outputs instead of one each;"
            " of several outputs the manifest must name one, or all others"
        )
    graph.value_info.extend(value for value in outputs if value.name != kept[0].name)
    del graph.output[:]
    graph.output.extend(kept)
