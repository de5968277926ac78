"""Tiny ONNX models whose answers can be computed by hand, and packages made of them."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from service.calibrating import Choice
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles, InnerTensor
from service.repository.packages import Location
from service.specs import ImageSpec, TensorSpec

DTYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


def graph(
    nodes: list[Any],
    given: tuple[str, str, list[Any]],
    gives: list[tuple[str, str, list[Any]]],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 18,
    ir_version: int = 10,
) -> bytes:
    """Serialise a graph; an end is (name, dtype, shape without the batch axis)."""
    ends = [
        helper.make_tensor_value_info(name, DTYPES[dtype], ["batch", *shape])
        for name, dtype, shape in [given, *gives]
    ]
    made = helper.make_graph(
        nodes,
        "tiny",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=ir_version)
    data: bytes = model.SerializeToString()
    return data


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, outputs, **attributes)


def linear(source: str, target: str, weights: np.ndarray, *, opset: int = 18) -> bytes:
    """``target = source @ weights``."""
    rows, columns = weights.shape
    return graph(
        [node("MatMul", [source, "w"], [target])],
        (source, "float32", [rows]),
        [(target, "float32", [columns])],
        {"w": weights.astype(np.float32)},
        opset=opset,
    )


def keeping(features: int, kept: int) -> tuple[bytes, bytes]:
    """An encoder that keeps the first features and a decoder that puts zeros for the others.

    So the score of a row is the sum of the squares of what was dropped, by *features*.
    """
    keep = np.eye(features, kept)
    return linear("x", "z", keep), linear("z", "y", keep.T)


def mixing(features: int, kept: int, seed: int = 0) -> tuple[bytes, bytes]:
    """Random weights, so that mixed-up answers cannot be right by chance."""
    rng = np.random.default_rng(seed)
    encoder = rng.normal(size=(features, kept)) / features
    return linear("x", "z", encoder), linear("z", "y", rng.normal(size=(kept, features)))


def halving_pictures(channels: int = 1) -> tuple[bytes, bytes]:
    """A code of half the input and a reconstruction of the code itself, for pictures of any size.

    So a reconstruction is half as bright as its input, and the error a quarter of its square.
    """
    return halving([channels, "h", "w"])


def halving(shape: list[Any]) -> tuple[bytes, bytes]:
    """The same for rows of any shape."""
    half = {"half": np.array(0.5, np.float32)}
    encoder = graph(
        [node("Mul", ["x", "half"], ["z"])],
        ("x", "float32", shape),
        [("z", "float32", shape)],
        half,
    )
    decoder = graph(
        [node("Neg", ["z"], ["n"]), node("Neg", ["n"], ["y"])],
        ("z", "float32", shape),
        [("y", "float32", shape)],
    )
    return encoder, decoder


def poison(features: int = 4) -> tuple[bytes, bytes]:
    """An encoder that raises for the whole run when a row's first value is 9 or more."""
    table = np.arange(9, dtype=np.float32)
    encoder = graph(
        [
            node("Slice", ["x", "zero", "one", "one"], ["first"]),
            node("Cast", ["first"], ["index"], to=TensorProto.INT64),
            node("Gather", ["table", "index"], ["z"]),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [1])],
        {"table": table, "zero": np.array([0]), "one": np.array([1])},
    )
    return encoder, linear("z", "y", np.ones((1, features)))


def swelling(features: int = 4, columns: int = 1 << 20) -> tuple[bytes, bytes]:
    """An encoder that needs *columns* more columns for a batch whose sum is positive.

    Its code is the sum of the columns, so a batch of zeros gives zeros and needs next to nothing.
    """
    encoder = graph(
        [
            node("ReduceSum", ["x", "features"], ["sum"], keepdims=1),
            node("ReduceMax", ["x"], ["largest"], keepdims=0),
            node("Greater", ["largest", "nothing"], ["is_large"]),
            node("Where", ["is_large", "columns", "one"], ["width"]),
            node("Expand", ["sum", "width"], ["wide"]),
            node("ReduceMean", ["wide", "features"], ["z"], keepdims=1),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [1])],
        {
            "features": np.array([1]),
            "nothing": np.array(0, np.float32),
            "columns": np.array([1, columns]),
            "one": np.array([1, 1]),
        },
    )
    return encoder, linear("z", "y", np.ones((1, features)))


def hungry(features: int = 4, columns: int = 1 << 40) -> tuple[bytes, bytes]:
    """An encoder that needs *columns* more columns for every batch."""
    encoder = graph(
        [
            node("ReduceSum", ["x", "features"], ["sum"], keepdims=1),
            node("Expand", ["sum", "columns"], ["wide"]),
            node("ReduceMean", ["wide", "features"], ["z"], keepdims=1),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [1])],
        {"features": np.array([1]), "columns": np.array([1, columns])},
    )
    return encoder, linear("z", "y", np.ones((1, features)))


def slow(features: int = 4, turns: int = 200_000) -> tuple[bytes, bytes]:
    """An encoder that turns in a loop for a while before it gives its input back."""
    encoder = graph(
        [node("Loop", ["turns", "yes", "x"], ["z"], body=_turn())],
        ("x", "float32", [features]),
        [("z", "float32", [features])],
        {"turns": np.array(turns), "yes": np.array(True)},
    )
    return encoder, linear("z", "y", np.eye(features))


def touchy(features: int = 4) -> tuple[bytes, None]:
    """An encoder that doubles its rows, and raises like *poison*.

    No two rows have the same code, so answers that are mixed up cannot be right by chance.
    """
    encoder = graph(
        [
            node("Slice", ["x", "zero", "one", "one"], ["first"]),
            node("Cast", ["first"], ["index"], to=TensorProto.INT64),
            node("Gather", ["nothings", "index"], ["nothing"]),
            node("Add", ["x", "x"], ["twice"]),
            node("Add", ["twice", "nothing"], ["z"]),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [features])],
        {"nothings": np.zeros(9, np.float32), "zero": np.array([0]), "one": np.array([1])},
    )
    return encoder, None


def dawdling(features: int = 4) -> tuple[bytes, None]:
    """An encoder that turns in a loop as often as the largest first value of its rows says.

    It gives its input back, so the client chooses how long a run takes, and loading is quick.
    """
    encoder = graph(
        [
            node("Slice", ["x", "zero", "one", "one"], ["first"]),
            node("ReduceMax", ["first"], ["most"], keepdims=0),
            node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
            node("Loop", ["turns", "yes", "x"], ["z"], body=_turn()),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [features])],
        {"zero": np.array([0]), "one": np.array([1]), "yes": np.array(True)},
    )
    return encoder, None


def _turn() -> Any:
    """One turn of a loop that changes nothing."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["value", "nothing"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(0.0, np.float32), "nothing")],
    )


def write(
    models: Path,
    pair: tuple[bytes, bytes | None],
    golden: np.ndarray,
    *,
    name: str = "tiny",
    version: int = 1,
    calibration: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    image: ImageSpec | None = None,
    shape: tuple[int | None, ...] | None = None,
    code_shape: tuple[int | None, ...] = (2,),
    features: tuple[str, ...] | None = None,
    default_measure: str = "mse",
    measure_invariance: bool = False,
    **description: Any,
) -> Location:
    """Write a package of an encoder and a decoder over float32 rows."""
    row = shape or golden.shape[1:]
    spec = TensorSpec("float32", row, value_range, image, features)
    encoder, decoder = pair
    files = {"encoder.onnx": encoder} | ({} if decoder is None else {"decoder.onnx": decoder})
    return write_package(
        models,
        Description(
            name=name,
            version=version,
            graphs=GraphFiles(encoder="encoder.onnx", decoder=decoder and "decoder.onnx"),
            input=spec,
            code=TensorSpec("float32", code_shape),
            output=None if decoder is None else spec,
            **description,
        ),
        files,
        golden_rows=golden,
        calibration_rows=calibration,
        calibration_data="rows of a fixed seed",
        calibration_choice=Choice(default=default_measure),
        measure_invariance=measure_invariance,  # hundreds of runs, which few tests ask for
    )


def write_tabular(models: Path, *, name: str = "tabular", version: int = 1) -> Location:
    """A calibrated model of 4 features and a code of 2; see *keeping*."""
    rng = np.random.default_rng(1)
    return write(
        models,
        keeping(4, 2),
        rng.random((4, 4), np.float32),
        name=name,
        version=version,
        calibration=rng.random((999, 4), np.float32),
        value_range=(0, 1),
    )


def write_picture(models: Path, *, name: str = "picture", version: int = 1) -> Location:
    """A calibrated model of grey 4x4 pictures; see *halving_pictures*."""
    rng = np.random.default_rng(2)
    return write(
        models,
        halving_pictures(),
        rng.random((4, 1, 4, 4), np.float32),
        name=name,
        version=version,
        calibration=rng.random((999, 1, 4, 4), np.float32),
        value_range=(0, 1),
        image=ImageSpec(),
        code_shape=(1, 4, 4),
    )


def whole(features: int = 4, kept: int = 2, seed: int = 0) -> bytes:
    """An encoder and a decoder of random weights in one file, with the code ``z`` inside."""
    rng = np.random.default_rng(seed)
    return graph(
        [node("MatMul", ["x", "down"], ["z"]), node("MatMul", ["z", "up"], ["y"])],
        ("x", "float32", [features]),
        [("y", "float32", [features])],
        {
            "down": rng.normal(size=(features, kept)).astype(np.float32),
            "up": rng.normal(size=(kept, features)).astype(np.float32),
        },
    )


def skipping(features: int = 4) -> bytes:
    """One file whose output is the code ``z``, twice the input, plus the input itself."""
    return graph(
        [node("Add", ["x", "x"], ["z"]), node("Add", ["z", "x"], ["y"])],
        ("x", "float32", [features]),
        [("y", "float32", [features])],
    )


def branching(source: str, target: str, features: int = 4, *, opset: int = 18) -> bytes:
    """``target`` is twice *source* when the sum of the batch is positive, else *source*."""

    def body(name: str, nodes: list[Any]) -> Any:
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out])

    return graph(
        [
            node("ReduceSum", [source], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["is_positive"]),
            node(
                "If",
                ["is_positive"],
                [target],
                then_branch=body("double", [node("Add", [source, source], ["double_out"])]),
                else_branch=body("keep", [node("Identity", [source], ["keep_out"])]),
            ),
        ],
        (source, "float32", [features]),
        [(target, "float32", [features])],
        {"zero": np.array(0, np.float32)},
        opset=opset,
    )


def with_function(source: str, target: str, weights: np.ndarray, *, opset: int = 18) -> bytes:
    """``target = 2 * source @ weights``, the doubling in a function of the file's own."""
    doubling = helper.make_function(
        "local", "Double", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", opset)],
    )  # fmt: skip
    rows, columns = weights.shape
    made = helper.make_graph(
        [node("Double", [source], ["d"], domain="local"), node("MatMul", ["d", "w"], [target])],
        "tiny",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(made, opset_imports=opsets, functions=[doubling], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def casting(source: str, target: str, given: str, gives: str, features: int = 4) -> bytes:
    """*source* in another element type, and nothing else."""
    return graph(
        [node("Cast", [source], [target], to=DTYPES[gives])],
        (source, given, [features]),
        [(target, gives, [features])],
    )


def _shifted(amount: list[Any], features: int) -> bytes:
    """``z = x + shift``, where the nodes of *amount* make ``shift`` of ``count``, the batch size.

    The size is a float; constants at hand are ``zero``, ``one``, ``column`` and ``small``.
    """
    return graph(
        [
            node("Shape", ["x"], ["rows"], start=0, end=1),
            node("Squeeze", ["rows"], ["number"]),
            node("Cast", ["number"], ["count"], to=TensorProto.FLOAT),
            *amount,
            node("Add", ["x", "shift"], ["z"]),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [features])],
        {
            "zero": np.array(0, np.float32),
            "one": np.array(1, np.float32),
            "column": np.array([1]),
            "small": np.array(2**-10, np.float32),
        },
    )


def counting(features: int = 4) -> tuple[bytes, bytes]:
    """A code that is the row plus 2**-10 for every row in the batch, decoded as it is.

    So a row's answers depend on the size of its batch, and on nothing else of it.
    """
    encoder = _shifted([node("Mul", ["count", "small"], ["shift"])], features)
    return encoder, linear("z", "y", np.eye(features))


def numbering(features: int = 4) -> tuple[bytes, bytes]:
    """A code that is the row plus 2**-10 for every row before it in the batch."""
    encoder = _shifted(
        [
            node("Range", ["zero", "count", "one"], ["before"]),
            node("Unsqueeze", ["before", "column"], ["place"]),
            node("Mul", ["place", "small"], ["shift"]),
        ],
        features,
    )
    return encoder, linear("z", "y", np.eye(features))


def quantising(features: int = 4) -> tuple[bytes, bytes]:
    """A code of 8 bits on a scale made of the whole batch, as dynamic quantisation does it."""
    encoder = graph(
        [
            node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero"]),
            node("DequantizeLinear", ["bytes", "scale", "zero"], ["z"]),
        ],
        ("x", "float32", [features]),
        [("z", "float32", [features])],
    )
    return encoder, linear("z", "y", np.eye(features))


def repeating(dtype: str, features: int = 4) -> tuple[bytes, bytes]:
    """A code of the first half of a row and a reconstruction of that half twice, in any dtype."""
    half = features // 2
    ends = {"zero": np.array([0]), "half": np.array([half]), "one": np.array([1])}
    encoder = graph(
        [node("Slice", ["x", "zero", "half", "one"], ["z"])],
        ("x", dtype, [features]),
        [("z", dtype, [half])],
        ends,
    )
    decoder = graph(
        [node("Concat", ["z", "z"], ["y"], axis=1)],
        ("z", dtype, [half]),
        [("y", dtype, [2 * half])],
    )
    return encoder, decoder


def levelling(features: int = 4, levels: int = 8) -> tuple[bytes, bytes]:
    """A code of the number of the level that a value from 0 to 1 reaches, as int64.

    A reconstruction is the middle of the level, so it is not the input.
    """
    encoder = graph(
        [
            node("Mul", ["x", "levels"], ["scaled"]),
            node("Cast", ["scaled"], ["number"], to=TensorProto.INT64),
            node("Min", ["number", "last"], ["z"]),
        ],
        ("x", "float32", [features]),
        [("z", "int64", [features])],
        {"levels": np.array(levels, np.float32), "last": np.array(levels - 1)},
    )
    middles = ((np.arange(levels) + 0.5) / levels).astype(np.float32)
    decoder = graph(
        [node("Gather", ["middles", "z"], ["y"])],
        ("z", "int64", [features]),
        [("y", "float32", [features])],
        {"middles": middles},
    )
    return encoder, decoder


def turning(dtype: str, shape: list[Any], axis: int) -> tuple[bytes, bytes]:
    """A code that is the row and a reconstruction with one axis from its end, in any dtype."""
    encoder = graph([node("Identity", ["x"], ["z"])], ("x", dtype, shape), [("z", dtype, shape)])
    decoder = graph(
        [node("Slice", ["z", "last", "before_first", "axis", "back"], ["y"])],
        ("z", dtype, shape),
        [("y", dtype, shape)],
        {
            "last": np.array([-1]),
            "before_first": np.array([-(2**31)]),
            "axis": np.array([axis]),
            "back": np.array([-1]),
        },
    )
    return encoder, decoder


def write_typed(
    models: Path,
    pair: tuple[bytes, bytes],
    golden: np.ndarray,
    *,
    name: str,
    rows: TensorSpec,
    code: TensorSpec,
    calibration: np.ndarray | None = None,
) -> Location:
    """Write a package whose rows and codes are of any dtype."""
    return write_package(
        models,
        Description(
            name=name,
            version=1,
            graphs=GraphFiles(encoder="encoder.onnx", decoder="decoder.onnx"),
            input=rows,
            code=code,
            output=rows,
        ),
        dict(zip(("encoder.onnx", "decoder.onnx"), pair, strict=True)),
        golden_rows=golden,
        calibration_rows=calibration,
        calibration_data="rows of a fixed seed",
        measure_invariance=False,
    )


def layered(seed: int = 0) -> tuple[bytes, bytes]:
    """A pair of random weights: ``x -> h -> r -> z`` of 4, 6, 6 and 2, ``z -> g -> y`` of 2, 6, 4.

    The encoder file has three outputs: ``total``, the sum of the row, the code ``z``, and
    ``cluster``, the place of the largest of ``r``.
    """
    rng = np.random.default_rng(seed)

    def weights(rows: int, columns: int) -> np.ndarray:
        return rng.normal(size=(rows, columns)).astype(np.float32)

    encoder = graph(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "v"], ["z"]),
            node("ArgMax", ["r"], ["cluster"], axis=1, keepdims=0),
            node("ReduceSum", ["x", "axis"], ["total"], keepdims=0),
        ],
        ("x", "float32", [4]),
        [("total", "float32", []), ("z", "float32", [2]), ("cluster", "int64", [])],
        {"w": weights(4, 6), "v": weights(6, 2), "axis": np.array([1])},
    )
    decoder = graph(
        [node("MatMul", ["z", "w"], ["g"]), node("MatMul", ["g", "v"], ["y"])],
        ("z", "float32", [2]),
        [("y", "float32", [4])],
        {"w": weights(2, 6), "v": weights(6, 4)},
    )
    return encoder, decoder


def inner(file: Any, tensor: str, *shape: int | None, dtype: Any = "float32") -> InnerTensor:
    return InnerTensor(file=file, tensor=tensor, dtype=dtype, shape=shape)


def write_layered(models: Path, *, name: str = "layered", **more: Any) -> Location:
    """A model with layers in both files and two further outputs; see *layered*."""
    description = {
        "layers": {
            "before": inner("encoder", "h", 6),
            "hidden": inner("encoder", "r", 6),
            "behind": inner("decoder", "g", 6),
        },
        "further_outputs": {
            "cluster": inner("encoder", "cluster", dtype="int64"),
            "total": inner("encoder", "total"),
        },
    }
    rows = np.random.default_rng(4).random((4, 4), np.float32)
    return write(models, layered(), rows, name=name, **(description | more))
