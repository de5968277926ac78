"""Packages that nobody should trust, one for each way of being bad, and the reason to be told."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from service.archives import ALWAYS_BYTES
from service.repository.golden import read_golden_rows
from service.repository.packages import MANIFEST_MAX_BYTES, Location
from tests import tiny

ENCODER: Final = "encoder.onnx"
GOLDEN: Final = "golden.npz"
CALIBRATION: Final = "calibration.npz"
ROWS = np.random.default_rng(3).random((2, 4), np.float32)
MANY = np.random.default_rng(4).random((50, 4), np.float32)

Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """A way of being bad.

    Attributes:
        reason: What is said of it, as a regular expression.
        spoil: Turns the good package in a folder into a bad one.
    """

    reason: str
    spoil: Spoil


def write_all(models: Path, ways: dict[str, Bad]) -> list[Location]:
    """Write a bad package of each way, by its name."""
    made = []
    for name, way in ways.items():
        location = tiny.write_tabular(models, name=name)
        way.spoil(location.folder)
        made.append(location)
    return made


@contextmanager
def manifest_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Edit a manifest; whoever means harm leaves the seal away."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    content.pop("seal", None)
    yield content
    path.write_text(json.dumps(content))


def put(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in the place of a file, with a manifest that vouches for them."""
    (folder / name).write_bytes(data)
    with manifest_of(folder) as content:
        content["files"][name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}


def edited(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        with manifest_of(folder) as content:
            content.update(changes)

    return spoil


def with_file(name: str, make: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: put(folder, name, make((folder / name).read_bytes()))


def in_place(name: str, make: Callable[[Path], object]) -> Spoil:
    """Something else in the place of a file."""

    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / "kept").write_bytes(data)
        make(folder / name)

    return spoil


def with_files(names: dict[str, Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        with manifest_of(folder) as content:
            content["files"] |= names

    return spoil


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def on_disk(name: str, make: Callable[[bytes], bytes]) -> Spoil:
    """Other bytes in a file, of which the manifest knows nothing."""
    return lambda folder: (folder / name).write_bytes(make((folder / name).read_bytes()))


def wrong_hash(folder: Path) -> None:
    with manifest_of(folder) as content:
        content["files"][ENCODER]["sha256"] = "0" * 64


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def graph_of(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """Another graph, made of the good one."""

    def make(data: bytes) -> bytes:
        model = onnx.load_model_from_string(data)
        change(model)
        changed: bytes = model.SerializeToString()
        return changed

    return make


def first_node(operator: str, domain: str = "") -> Callable[[Any], object]:
    def change(model: Any) -> None:
        model.graph.node[0].op_type = operator
        model.graph.node[0].domain = domain
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def fix_batch(model: Any) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1


def keep_outside(model: Any) -> None:
    weights = model.graph.initializer[0]
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.append(
        onnx.StringStringEntryProto(key="location", value="../../../secret")
    )
    weights.ClearField("raw_data")


def keep_sparse_outside(model: Any) -> None:
    """The same where few look: the weights as a sparse tensor whose values are elsewhere."""
    weights = model.graph.initializer[0]
    values = helper.make_tensor(weights.name, TensorProto.FLOAT, [1], [1.0])
    values.data_location = TensorProto.EXTERNAL
    values.external_data.append(onnx.StringStringEntryProto(key="location", value="/etc/passwd"))
    values.ClearField("float_data")
    indices = helper.make_tensor("places", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, indices, list(weights.dims))
    )
    del model.graph.initializer[:]


def with_weights(value: float) -> Callable[[Any], object]:
    """A graph whose weights are all of one value."""

    def change(model: Any) -> None:
        weights = model.graph.initializer[0]
        numbers = np.full(tuple(weights.dims), value, np.float32)
        weights.raw_data = numbers.tobytes()

    return change


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def golden_with(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """The good golden rows with other codes."""

    def make(data: bytes) -> bytes:
        golden = read_golden_rows(data)
        answers = dict(golden.answers)
        answers["code"] = change(answers["code"])
        return archive(input=golden.rows, **answers)

    return make


def header_of(length: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({length},), }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def claiming(_: bytes) -> bytes:
    """An archive of one array that claims a tebibyte and has none of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("input.npy", header_of(1 << 38))
    return buffer.getvalue()


@lru_cache(maxsize=1)
def bomb(_: bytes = b"") -> bytes:
    """An archive of one array, all zeros, that really expands beyond what is allowed."""
    buffer = io.BytesIO()
    length = ALWAYS_BYTES // 4
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        made.open("input.npy", "w") as member,
    ):
        member.write(header_of(length))
        for _zeros in range(4 * length >> 22):
            member.write(bytes(1 << 22))
    return buffer.getvalue()


def other_calibration(folder: Path) -> None:
    other = tiny.write(
        folder.parent.parent.parent / "elsewhere", tiny.mixing(4, 2), ROWS,
        calibration=MANY, value_range=(0, 1),
    )  # fmt: skip
    put(folder, CALIBRATION, (other.folder / CALIBRATION).read_bytes())


def swap_with(pair: tuple[bytes, bytes | None], **changes: Any) -> Spoil:
    """The graphs of another model, without golden rows and calibration."""

    def spoil(folder: Path) -> None:
        put(folder, ENCODER, pair[0])
        put(folder, "decoder.onnx", pair[1] or b"")
        with manifest_of(folder) as content:
            del content["golden"], content["calibration"]
            content.update(changes)

    return spoil


def code_of(width: int) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [width]}


def link_folder(folder: Path) -> None:
    elsewhere = folder.parent.parent.parent / f"linked-{folder.parent.name}"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_outside(path: Path) -> None:
    target = path.parents[3] / f"secret-{path.parent.parent.name}"
    target.write_bytes((path.parent / "kept").read_bytes())
    path.symlink_to(target)


def hard_link_to_another(path: Path) -> None:
    target = path.parents[3] / f"another-{path.parent.parent.name}"
    target.write_bytes(flipped((path.parent / "kept").read_bytes()))
    os.link(target, path)


RECORD = {"sha256": "0" * 64, "bytes": 1}
WRONG_HASH = r"encoder\.onnx does not have the sha-256"
OUTSIDE = "the encoder keeps its weights in another file"
NO_OPERATOR = "a graph has an operator that ONNX Runtime does not know"
NO_GRAPH = "the encoder is not an ONNX file"
NOT_VALID = r"model\.json is not valid"
NAME = rf"{NOT_VALID}: files"


FILES = {
    "truncated": Bad(NO_GRAPH, with_file(ENCODER, cut_short)),
    "shortened": Bad(r"encoder\.onnx has \d+ bytes instead of \d+", on_disk(ENCODER, cut_short)),
    "flipped-weights": Bad(WRONG_HASH, on_disk(ENCODER, flipped)),
    "wrong-hash": Bad(WRONG_HASH, wrong_hash),
    "missing": Bad(r"encoder\.onnx is missing", lambda folder: (folder / ENCODER).unlink()),
    "link": Bad(r"encoder\.onnx is a link", in_place(ENCODER, link_to_outside)),
    "hard-link": Bad(WRONG_HASH, in_place(ENCODER, hard_link_to_another)),
    "pipe": Bad(r"encoder\.onnx is not a regular file", in_place(ENCODER, os.mkfifo)),
    "folder": Bad(r"encoder\.onnx is not a regular file", in_place(ENCODER, Path.mkdir)),
    "device": Bad(r"encoder\.onnx is a link", in_place(ENCODER, link_to_device)),
    "linked-version": Bad("the folder is a link", link_folder),
    "linked-manifest": Bad(r"model\.json is a link", in_place("model.json", link_to_outside)),
    "leads-up": Bad(NAME, with_files({"../x": RECORD})),
    "leads-to-root": Bad(NAME, with_files({"/etc/passwd": RECORD})),
    "leads-by-nul": Bad(NAME, with_files({"x\0.onnx": RECORD})),
    "leads-by-backslash": Bad(NAME, with_files({"..\\x": RECORD})),
}

MANIFESTS = {
    "no-json": Bad(rf"{NOT_VALID}: .*JSON", on_disk("model.json", lambda _: b"MZ\0")),
    "cut-json": Bad(rf"{NOT_VALID}: .*JSON", on_disk("model.json", cut_short)),
    "unknown-field": Bad(rf"{NOT_VALID}: surprise: Extra", edited(surprise=1)),
    "no-object": Bad(rf"{NOT_VALID}: graphs: .*an object", edited(graphs=5)),
    "other-model": Bad(r"model\.json describes other/1", edited(name="other")),
    "too-large": Bad(r"model\.json is larger than", edited(description="x" * MANIFEST_MAX_BYTES)),
    "edited": Bad(
        r"model\.json was changed after it was sealed; .*hourglass seal edited/1",
        on_disk("model.json", lambda text: text.replace(b'"float32"', b'"float16"', 1)),
    ),
}

GRAPHS = {
    "wrong-shape": Bad(
        r"a row of code is \[2\] in the graph, \[3\] in the manifest", edited(code=code_of(3))
    ),
    "wrong-dtype": Bad(
        "the code is float32 in the graph, float64 in the manifest",
        edited(code=code_of(2) | {"dtype": "float64"}),
    ),
    "fixed-batch": Bad(
        "the code has a batch axis fixed at 1", with_file(ENCODER, graph_of(fix_batch))
    ),
    "outside": Bad(OUTSIDE, with_file(ENCODER, graph_of(keep_outside))),
    "outside-sparse": Bad(OUTSIDE, with_file(ENCODER, graph_of(keep_sparse_outside))),
    "no-operator": Bad(NO_OPERATOR, with_file(ENCODER, graph_of(first_node("MatMull")))),
    "no-domain": Bad(NO_OPERATOR, with_file(ENCODER, graph_of(first_node("Do", "com.evil")))),
    "gives-nan": Bad("'encode' gives NaN", with_file(ENCODER, graph_of(with_weights(np.nan)))),
    "gives-infinity": Bad("'encode' gives NaN", with_file(ENCODER, graph_of(with_weights(np.inf)))),
}

ARCHIVES = {
    "golden-nan": Bad(
        "a golden code is not a finite number",
        with_file(GOLDEN, golden_with(lambda code: code * np.nan)),
    ),
    "golden-differs": Bad(
        "'encode' does not give the answers stored", with_file(GOLDEN, golden_with(np.negative))
    ),
    "golden-shape": Bad(
        "'encode' does not give the answers stored",
        with_file(GOLDEN, golden_with(lambda code: code[:, :1])),
    ),
    "golden-objects": Bad(
        "the golden rows cannot be read",
        with_file(GOLDEN, lambda _: archive(input=np.array([{}], object))),
    ),
    "golden-claims": Bad("the golden rows cannot be read", with_file(GOLDEN, claiming)),
    "golden-bomb": Bad("the golden rows would expand to more", with_file(GOLDEN, bomb)),
    "calibration-claims": Bad("the calibration cannot be read", with_file(CALIBRATION, claiming)),
    "calibration-bomb": Bad("the calibration would expand", with_file(CALIBRATION, bomb)),
    "other-calibration": Bad("the calibration belongs to another model", other_calibration),
}

ALL = FILES | MANIFESTS | GRAPHS | ARCHIVES

# these are found out by what a process may take
GREEDY = {
    "eats-memory": Bad("there is no memory for a run", swap_with(tiny.hungry(), code=code_of(1))),
    "never-ends": Bad(
        r"it was not loaded within [\d.]+ s",
        swap_with(tiny.slow(turns=1 << 60), code=code_of(4)),
    ),
}
