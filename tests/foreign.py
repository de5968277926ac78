"""Autoencoders as exporters write them, small: what ``hourglass import`` has to make sense of.

Weights are random with a fixed seed. Where a graph has a code it is the tensor called ``code``.
"""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import DTYPES

BATCH = "batch"


class Net:
    """A graph that is written down line by line; every method gives the name of a tensor."""

    def __init__(self, *shape: Any, dtype: str = "float32", batch: Any = BATCH) -> None:
        self.batch = batch
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.functions: list[Any] = []
        self.input = helper.make_tensor_value_info("x", DTYPES[dtype], [batch, *shape])
        self._random = np.random.default_rng(4)
        self._count = 0

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.several(operator, *inputs, names=[name or self._name()], **attributes)[0]

    def several(
        self, operator: str, *inputs: str, names: list[str], **attributes: Any
    ) -> list[str]:
        self.nodes.append(helper.make_node(operator, [*inputs], names, **attributes))
        return names

    def constant(self, value: Any, name: str = "") -> str:
        name = name or self._name()
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(self, *shape: int) -> str:
        spread = 1 / np.sqrt(shape[0])
        return self.constant((self._random.normal(size=shape) * spread).astype(self.dtype))

    def dense(self, x: str, given: int, gives: int, name: str = "") -> str:
        """A matrix and an offset, in two nodes as a linear layer of three axes has them."""
        return self(
            "Add", self("MatMul", x, self.random(given, gives)), self.random(gives), name=name
        )

    def conv(self, x: str, given: int, gives: int, *, stride: int = 1, name: str = "") -> str:
        weights = self.random(gives, given, 3, 3)
        ends = {"pads": [1, 1, 1, 1], "strides": [stride, stride]}
        return self("Conv", x, weights, name=name, **ends)

    def reshape(self, x: str, *shape: int, name: str = "") -> str:
        return self("Reshape", x, self.constant(np.array(shape, np.int64)), name=name)

    def larger(self, x: str) -> str:
        """Twice as high and wide."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self("Resize", x, "", scales, mode="nearest")

    def model(
        self, *outputs: tuple[str, list[Any]], opset: int = 18, ir_version: int = 10, **more: Any
    ) -> bytes:
        """Serialise it; an output is its name and the shape of a row."""
        ends = [
            helper.make_tensor_value_info(name, DTYPES[self.dtype], [self.batch, *shape])
            for name, shape in outputs
        ]
        graph = helper.make_graph(self.nodes, "foreign", [self.input], ends, self.weights)
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in {f.domain for f in self.functions}]
        more |= {"producer_name": "hand", "producer_version": "1.0"}
        made = helper.make_model(
            graph, opset_imports=opsets, functions=self.functions, ir_version=ir_version, **more
        )
        data: bytes = made.SerializeToString()
        return data

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"


def dense(batch: Any = BATCH, dtype: str = "float32", **more: Any) -> bytes:
    net = Net(12, batch=batch, dtype=dtype)
    hidden = net("Tanh", net.dense("x", 12, 8))
    code = net.dense(hidden, 8, 3, name="code")
    net.dense(net("Tanh", net.dense(code, 3, 8)), 8, 12, name="y")
    return net.model(("y", [12]), **more)


def dense_with_activation() -> bytes:
    net = Net(12)
    code = net("Relu", net.dense("x", 12, 3), name="code")
    net("Sigmoid", net.dense(code, 3, 12), name="y")
    return net.model(("y", [12]))


def with_silu() -> bytes:
    """The code's activation is made of two nodes that both read what is in front of it."""
    net = Net(12)
    narrow = net.dense("x", 12, 3)
    code = net("Mul", narrow, net("Sigmoid", narrow), name="code")
    net.dense(code, 3, 12, name="y")
    return net.model(("y", [12]))


def conv_flat(batch: Any = BATCH) -> bytes:
    """Convolutions, a flat code, and shapes with the batch size where the exporter fixed it."""
    lead = -1 if batch == BATCH else batch
    net = Net(1, 8, 8, batch=batch)
    small = net("Relu", net.conv("x", 1, 4, stride=2))
    flat = net.reshape(small, lead, 64)
    code = net.dense(flat, 64, 5, name="code")
    grown = net.reshape(net.dense(code, 5, 64), lead, 4, 4, 4)
    net("Sigmoid", net.conv(net.larger(grown), 4, 1), name="y")
    return net.model(("y", [1, 8, 8]))


def conv_latent(height: Any = 8, width: Any = 8) -> bytes:
    """The code is a small picture with two channels, and its size may be free."""
    net = Net(1, height, width)
    first = net("Relu", net.conv("x", 1, 8, stride=2))
    code = net("Tanh", net.conv(first, 8, 2, stride=2), name="code")
    net.conv(net.larger(net("Relu", net.conv(net.larger(code), 2, 8))), 8, 1, name="y")
    return net.model(("y", [1, height, width]))


def channels_last() -> bytes:
    """As Keras exports it: transposed in front of the first convolution and behind the last."""
    net = Net(8, 8, 3)
    first = net("Transpose", "x", perm=[0, 3, 1, 2])
    small = net("Relu", net.conv(first, 3, 4, stride=2))
    flat = net.reshape(net("Transpose", small, perm=[0, 2, 3, 1]), -1, 64)
    code = net("Relu", net.dense(flat, 64, 6), name="code")
    grown = net("Transpose", net.reshape(net.dense(code, 6, 64), -1, 4, 4, 4), perm=[0, 3, 1, 2])
    net("Transpose", net.conv(net.larger(grown), 4, 3), perm=[0, 2, 3, 1], name="y")
    return net.model(("y", [8, 8, 3]))


def variational(*, draws: bool = False) -> bytes:
    """Mean, logarithm of the variance and reconstruction as outputs; the mean is decoded."""
    net = Net(12)
    hidden = net("Relu", net.dense("x", 12, 8))
    mean = net.dense(hidden, 8, 2, name="code")
    spread = net.dense(hidden, 8, 2, name="log_variance")
    if draws:
        deviation = net("Exp", net("Mul", spread, net.constant(np.float32(0.5))))
        mean = net("Add", mean, net("Mul", net("RandomNormalLike", mean), deviation))
    net.dense(net("Relu", net.dense(mean, 2, 8)), 8, 12, name="y")
    return net.model(("y", [12]), ("code", [2]), ("log_variance", [2]))


def variational_encoder() -> bytes:
    net = Net(12)
    hidden = net("Relu", net.dense("x", 12, 8))
    net.dense(hidden, 8, 2, name="mean")
    net.dense(hidden, 8, 2, name="log_variance")
    return net.model(("mean", [2]), ("log_variance", [2]))


def tied() -> bytes:
    """Encoder and decoder share a matrix, which the decoder transposes."""
    net = Net(12)
    weights = net.random(12, 3)
    code = net("Tanh", net("MatMul", "x", weights), name="code")
    net("MatMul", code, net("Transpose", weights, perm=[1, 0]), name="y")
    return net.model(("y", [12]))


def residual() -> bytes:
    """Blocks with a way around them, in the encoder and in the decoder."""
    net = Net(12)

    def block(x: str) -> str:
        return net("Add", x, net("Relu", net.dense(net("Relu", net.dense(x, 12, 6)), 6, 12)))

    code = net.dense(block(block("x")), 12, 4, name="code")
    net("Identity", block(net.dense(code, 4, 12)), name="y")
    return net.model(("y", [12]))


def skipping() -> bytes:
    """A U-Net: what the encoder sees goes around the narrow tensor too."""
    net = Net(1, 8, 8)
    first = net("Relu", net.conv("x", 1, 4))
    narrow = net("Relu", net.conv(first, 4, 2, stride=2), name="code")
    both = net("Concat", first, net.larger(narrow), axis=1)
    net.conv(both, 6, 1, name="y")
    return net.model(("y", [1, 8, 8]))


def overcomplete() -> bytes:
    net = Net(4)
    net.dense(net("Relu", net.dense("x", 4, 16), name="code"), 16, 4, name="y")
    return net.model(("y", [4]))


def two_stages() -> bytes:
    """Two layers of three values behind each other: either could be meant."""
    net = Net(12)
    first = net("Relu", net.dense("x", 12, 3), name="first")
    second = net("Relu", net.dense(first, 3, 3), name="second")
    net.dense(second, 3, 12, name="y")
    return net.model(("y", [12]))


def quantised_codes(batch: Any = BATCH) -> bytes:
    """A code of four numbers of entries in a codebook, as int64."""
    lead = -1 if batch == BATCH else batch
    net = Net(12, batch=batch)
    words = net.reshape(net.dense("x", 12, 8), lead, 4, 1, 2)
    book = net.random(6, 2)
    distances = net("ReduceSumSquare", net("Sub", words, book), net.constant([3]), keepdims=0)
    code = net("ArgMin", distances, axis=2, keepdims=0, name="code")
    found = net.reshape(net("Gather", book, code), lead, 8)
    net.dense(found, 8, 12, name="y")
    return net.model(("y", [12]))


def convolved_series(length: Any = 16) -> bytes:
    """Convolutions along time; the code has as many steps as a quarter of the series."""
    net = Net(2, length)
    down: dict[str, Any] = {"strides": [2], "pads": [1, 1]}
    first = net("Relu", net("Conv", "x", net.random(4, 2, 3), **down))
    code = net("Conv", first, net.random(1, 4, 3), name="code", **down)
    up: dict[str, Any] = {"strides": [2], "pads": [1, 1]}
    wide = net("Relu", net("ConvTranspose", code, net.random(1, 4, 4), **up))
    net("ConvTranspose", wide, net.random(4, 2, 4), name="y", **up)
    return net.model(("y", [2, length]))


def recurrent(batch: Any = BATCH) -> bytes:
    """An LSTM whose last state is the code, which is repeated for the LSTM of the decoder."""
    net = Net(5, 6, batch=batch)
    states = [net.constant(np.zeros((1, batch, 4), np.float32)) if batch != BATCH else ""] * 2
    steps = net("Transpose", "x", perm=[1, 0, 2])
    weights = [net.random(1, 16, 6), net.random(1, 16, 4), net.random(1, 32), "", *states]
    _, last, _ = net.several("LSTM", steps, *weights, names=["a", "last", "c"], hidden_size=4)
    code = net("Squeeze", last, net.constant([0]), name="code")
    again = net("Unsqueeze", code, net.constant([0]))
    repeated = net("Concat", *[again] * 5, axis=0)
    weights = [net.random(1, 16, 4), net.random(1, 16, 4), net.random(1, 32)]
    every, *_ = net.several("LSTM", repeated, *weights, names=["h", "b", "d"], hidden_size=4)
    flat = net("Squeeze", every, net.constant([1]))
    net("Transpose", net.dense(flat, 4, 6), perm=[1, 0, 2], name="y")
    return net.model(("y", [5, 6]))


def with_branch() -> bytes:
    """The decoder ends in an If of which both branches read from around them."""
    net = Net(12)
    code = net.dense("x", 12, 3, name="code")
    net.dense(code, 3, 12, name="wide")
    yes = net("Greater", net("ReduceMax", "wide", keepdims=0), net.constant(np.float32(-1e9)))

    def body(name: str, operator: str) -> Any:
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node(operator, ["wide"], [f"{name}_out"])], name, [], [out]
        )

    net("If", yes, name="y", then_branch=body("a", "Tanh"), else_branch=body("b", "Neg"))
    return net.model(("y", [12]))


def with_functions() -> bytes:
    """Encoder and decoder are functions of the file's own, as newer exporters write them."""
    net = Net(12)
    for name in ("Encode", "Decode"):
        body = [
            helper.make_node("MatMul", ["a", "w"], ["h"]),
            helper.make_node("Tanh", ["h"], ["b"]),
        ]
        opsets = [helper.make_opsetid("", 18)]
        net.functions.append(helper.make_function("own", name, ["a", "w"], ["b"], body, opsets))
    code = net("Encode", "x", net.random(12, 3), name="code", domain="own")
    net("Decode", code, net.random(3, 12), name="y", domain="own")
    return net.model(("y", [12]))


def normalised() -> bytes:
    """Batch normalisation behind every layer, the code's included."""
    net = Net(12)

    def normal(x: str, width: int, name: str = "") -> str:
        given = [net.random(width) for _ in range(3)]
        spread = net.constant(np.linspace(1, 2, width, dtype=np.float32))
        return net("BatchNormalization", x, *given, spread, name=name)

    hidden = net("Relu", normal(net.dense("x", 12, 8), 8))
    code = normal(net.dense(hidden, 8, 3), 3, name="code")
    net.dense(net("Relu", normal(net.dense(code, 3, 8), 8)), 8, 12, name="y")
    return net.model(("y", [12]))


def attending() -> bytes:
    """A block of attention and normalisation around a code of two values a step."""
    net = Net(5, 6)

    def block(x: str) -> str:
        query, key, value = (net.dense(x, 6, 6) for _ in range(3))
        near = net("Softmax", net("MatMul", query, net("Transpose", key, perm=[0, 2, 1])), axis=-1)
        both = net("Add", x, net("MatMul", near, value))
        one = net.constant(np.ones(6, np.float32))
        return net("LayerNormalization", both, one, axis=-1)

    code = net.dense(block("x"), 6, 2, name="code")
    net("Identity", block(net.dense(code, 2, 6)), name="y")
    return net.model(("y", [5, 6]))


def asking_sizes() -> bytes:
    """Reshapes take the number of rows from the input, in the decoder too."""
    net = Net(1, 4, 4)
    count = net("Gather", net("Shape", "x"), net.constant([0]))

    def sized(x: str, *rest: int) -> str:
        return net("Reshape", x, net("Concat", count, net.constant([*rest]), axis=0))

    code = net("Relu", net.dense(sized("x", 16), 16, 3), name="code")
    net("Identity", sized(net.dense(code, 3, 16), 1, 4, 4), name="y")
    return net.model(("y", [1, 4, 4]))


def asking_all_sizes() -> bytes:
    """The decoder makes its picture as large as the input, whose size is free."""
    net = Net(1, "h", "w")
    code = net("Relu", net.conv("x", 1, 1, stride=2), name="code")
    net("Resize", code, "", "", net("Shape", "x"), mode="nearest", name="y")
    return net.model(("y", [1, "h", "w"]))


def stubborn(batch: int = 1) -> bytes:
    """The batch size is a bare number in the middle of a shape, where nobody can tell."""
    net = Net(12, batch=batch)
    mixed = net.reshape("x", 3, batch, 4)
    back = net.reshape(net("Tanh", mixed), batch, 12)
    code = net.dense(back, 12, 3, name="code")
    table = net.constant(np.arange(batch, dtype=np.int64))
    picked = net("Gather", net.dense(code, 3, 12), table, axis=0)
    net("ScatterND", picked, net.constant([[0]]), net.reshape(
        net("Slice", picked, net.constant([0]), net.constant([1]), net.constant([0])), 1, 12
    ), name="y")  # fmt: skip
    return net.model(("y", [12]))


def dynamically_quantised() -> bytes:
    """One scale for the whole batch, made of its largest value."""
    net = Net(12)
    net.several("DynamicQuantizeLinear", "x", names=["bytes", "scale", "zero"])
    code = net.dense(net("DequantizeLinear", "bytes", "scale", "zero"), 12, 3, name="code")
    net.dense(code, 3, 12, name="y")
    return net.model(("y", [12]))


def halves(batch: Any = BATCH) -> tuple[bytes, bytes]:
    """An encoder and a decoder of their own."""
    encoder = Net(12, batch=batch)
    encoder("Tanh", encoder.dense("x", 12, 3), name="z")
    decoder = Net(3, batch=batch)
    decoder.dense("x", 3, 12, name="y")
    return encoder.model(("z", [3])), decoder.model(("y", [12]))
