"""A model that is slow on any machine: one row alone takes more than 20 ms.

Its time is in proportion to the rows, so a batch of any size takes at least as long and batches
gain nothing: rows/s then say only what admission, deadlines and refusals leave of them. A graph
with a large constant part would show how full its batches are instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cases import FEATURES
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.specs import TensorSpec

SLOW: Final = "slow-conv"
# well above 20 ms: a processor that is given more speed while it serves stays above
WANTED_MS: Final = 30.0
SIDE: Final = 28
CHANNELS: Final = 64
CODE: Final = 32
TRIED_LAYERS: Final = 4
REPEATS: Final = 5
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class SlowModel:
    """A package, and what one row costs without the service."""

    name: str
    repository: Path
    layers: int
    run_ms: float


def write_slow(repository: Path, wanted_ms: float = WANTED_MS) -> SlowModel:
    """Write an autoencoder with as many convolutions as it takes on this machine."""
    layer_ms = run_ms(_encoder(TRIED_LAYERS)) / TRIED_LAYERS
    layers = max(1, ceil(wanted_ms / layer_ms))
    encoder = _encoder(layers)
    spec = TensorSpec("float32", (1, SIDE, SIDE), (0.0, 1.0))
    rows = np.random.default_rng(SEED).random((2, 1, SIDE, SIDE), np.float32)
    write_package(
        repository,
        Description(
            name=SLOW,
            version=1,
            graphs=GraphFiles(encoder="encoder.onnx", decoder="decoder.onnx"),
            input=spec,
            code=TensorSpec("float32", (CODE,)),
            output=spec,
        ),
        {"encoder.onnx": encoder, "decoder.onnx": _decoder()},
        golden_rows=rows,
        measure_invariance=False,  # hundreds of runs, which no benchmark asks for
    )
    return SlowModel(SLOW, repository, layers, run_ms(encoder))


def run_ms(graph: bytes) -> float:
    """Time one row in one thread: the shortest of some, for a disturbance only ever adds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    row = np.zeros((1, 1, SIDE, SIDE), np.float32)

    def run() -> None:
        session.run(None, {session.get_inputs()[0].name: row})

    run()
    return min(_seconds(run) for _ in range(REPEATS)) * 1e3


def _seconds(call: Callable[[], None]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _encoder(layers: int) -> bytes:
    """Serialise *layers* convolutions of 64 channels over the whole picture, then a code."""
    rng = np.random.default_rng(SEED)
    weights = {"first": _weights(rng, CHANNELS, 1, 3, 3), "last": _weights(rng, 1, CHANNELS, 1, 1)}
    weights |= {f"w{n}": _weights(rng, CHANNELS, CHANNELS, 3, 3) for n in range(layers)}
    weights["dense"] = _weights(rng, FEATURES, CODE, given=FEATURES)
    nodes = _convolution("rows", "first", "a0")
    for n in range(layers):
        nodes += _convolution(f"a{n}", f"w{n}", f"a{n + 1}")
    nodes += [
        helper.make_node("Conv", [f"a{layers}", "last"], ["picture"]),
        helper.make_node("Flatten", ["picture"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["code"]),
    ]
    return _graph(nodes, ("rows", (1, SIDE, SIDE)), ("code", (CODE,)), weights)


def _decoder() -> bytes:
    weights = {
        "dense": _weights(np.random.default_rng(SEED), CODE, FEATURES, given=CODE),
        "shape": np.array([-1, 1, SIDE, SIDE]),
    }
    nodes = [
        helper.make_node("MatMul", ["code", "dense"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["bright"]),
        helper.make_node("Reshape", ["bright", "shape"], ["out"]),
    ]
    return _graph(nodes, ("code", (CODE,)), ("out", (1, SIDE, SIDE)), weights)


def _convolution(source: str, weights: str, target: str) -> list[Any]:
    before = f"{target}-sum"
    return [
        helper.make_node("Conv", [source, weights], [before], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [before], [target]),
    ]


def _weights(rng: np.random.Generator, *shape: int, given: int | None = None) -> Any:  # noqa: ANN401 - arrays of either type
    # the variance that keeps activations of their size (He et al., 2015)
    fan_in = given or int(np.prod(shape[1:]))
    return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)


def _graph(
    nodes: list[Any],
    source: tuple[str, tuple[int, ...]],
    target: tuple[str, tuple[int, ...]],
    weights: dict[str, Any],
) -> bytes:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (source, target)
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, target[0], ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data
