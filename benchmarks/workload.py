"""Models and bodies: a repository with the two models, their graphs as files, fixed requests."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cases import CONV, DENSE, FEATURES, JSON, KINDS, Kind
from service.blueprint import make_graphs
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.repository.packages import Location, read_package, scan
from service.specs import TensorSpec

BUNDLED: Final = Path(__file__).parents[1] / "models"
HIDDEN: Final = 128
CODE: Final = 32
SEED: Final = 0
# as many as the bundled model has, so that p-values cost the same search
CALIBRATION_ROWS: Final = 5000


@dataclass(frozen=True, slots=True)
class Workload:
    """Files below one temporary folder.

    Attributes:
        repository: A model repository, for the service.
        autoencoders: By model a graph from rows to reconstructions, for the usual service.
        scorers: By model a graph from rows to scores, for ONNX Runtime alone.
        bodies: By the name of a kind.
    """

    repository: Path
    autoencoders: dict[str, Path]
    scorers: dict[str, Path]
    bodies: dict[str, Path]


def make_workload(folder: Path) -> Workload:
    """Write everything that the contenders need into *folder*."""
    repository = folder / "models"
    shutil.copytree(BUNDLED / CONV, repository / CONV)
    write_dense(repository)
    workload = Workload(repository, {}, {}, {})
    for location in scan(repository):
        _write_graphs(location, folder, workload)
    for kind in KINDS:
        path = folder / f"{kind.name}.body"
        path.write_bytes(make_body(kind))
        workload.bodies[kind.name] = path
    return workload


def make_body(kind: Kind) -> bytes:
    """Make a request's body of uniformly random values; as text they are long, unlike zeros."""
    rows = np.random.default_rng(SEED).random((kind.rows, FEATURES), np.float32)
    if kind.media != JSON:
        return rows.astype("<f4").tobytes()
    # through the shortest text of a float32, which is what a careful client sends
    return json.dumps({"inputs": [[float(str(value)) for value in row] for row in rows]}).encode()


def write_dense(repository: Path) -> Location:
    """Write a dense autoencoder of 784-128-32-128-784 with random weights, calibrated."""
    rng = np.random.default_rng(SEED)
    spec = TensorSpec("float32", (FEATURES,), (0.0, 1.0))
    return write_package(
        repository,
        Description(
            name=DENSE,
            version=1,
            graphs=GraphFiles(encoder="encoder.onnx", decoder="decoder.onnx"),
            input=spec,
            code=TensorSpec("float32", (CODE,)),
            output=spec,
        ),
        {
            "encoder.onnx": _two_layers(rng, "rows", "code", (FEATURES, HIDDEN, CODE), None),
            "decoder.onnx": _two_layers(rng, "code", "out", (CODE, HIDDEN, FEATURES), "Sigmoid"),
        },
        golden_rows=rng.random((8, FEATURES), np.float32),
        calibration_rows=rng.random((CALIBRATION_ROWS, FEATURES), np.float32),
        calibration_data="random rows of a fixed seed",
        measure_invariance=False,  # hundreds of runs, which no benchmark asks for
    )


def _write_graphs(location: Location, folder: Path, workload: Workload) -> None:
    graphs = make_graphs(read_package(location))
    for kind, graph, paths in (
        ("autoencoder", graphs.reconstruct, workload.autoencoders),
        ("scorer", graphs.score, workload.scorers),
    ):
        path = folder / f"{location.name}-{kind}.onnx"
        path.write_bytes(graph or b"")
        paths[location.name] = path


def _two_layers(
    rng: np.random.Generator,
    source: str,
    target: str,
    widths: tuple[int, int, int],
    last: str | None,
) -> bytes:
    """Serialise ``target = last(relu(source @ a) @ b)``, without biases."""
    first, middle, final = widths
    inner = "sum" if last else target
    nodes = [
        helper.make_node("MatMul", [source, "a"], ["before"]),
        helper.make_node("Relu", ["before"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "b"], [inner]),
    ]
    if last is not None:
        nodes.append(helper.make_node(last, [inner], [target]))
    weights = [_weights(rng, "a", first, middle), _weights(rng, "b", middle, final)]
    ends = [_end(source, first)], [_end(target, final)]
    graph = helper.make_graph(nodes, target, *ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def _weights(rng: np.random.Generator, name: str, given: int, gives: int) -> Any:  # noqa: ANN401 - untyped library
    # the variance that keeps activations of their size (He et al., 2015)
    array = rng.normal(0, np.sqrt(2 / given), (given, gives)).astype(np.float32)
    return numpy_helper.from_array(array, name)


def _end(name: str, width: int) -> Any:  # noqa: ANN401 - untyped library
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
