"""What a manifest promises of a tensor, held against the graph that it is in."""

from onnx import ValueInfoProto, helper

from service.errors import PackageError
from service.specs import Shape, TensorSpec, shape_text


def expect(value: ValueInfoProto, name: str, spec: TensorSpec | None) -> None:
    """See that a tensor has the manifest's dtype and shape and a free batch axis.

    Raises:
        PackageError: It has not; calls the tensor *name*.
    """
    tensor = value.type.tensor_type
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
