"""The Open Inference Protocol as a client would write it: rows to requests, answers to arrays."""

import json
from typing import Any

import numpy as np

DATATYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "uint8": "UINT8",
    "int64": "INT64",
}
LENGTH = "inference-header-content-length"


def infer_url(model: str, version: str | None = None) -> str:
    versions = "" if version is None else f"/versions/{version}"
    return f"/v2/models/{model}{versions}/infer"


def as_json(rows: np.ndarray, *, name: str = "input", is_flat: bool = True) -> dict[str, Any]:
    """A tensor whose values are part of the JSON."""
    data = (rows.reshape(-1) if is_flat else rows).tolist()
    return {**_head(rows, name), "data": data}


def as_bytes(rows: np.ndarray, *, name: str = "input") -> dict[str, Any]:
    """A tensor whose values follow the JSON."""
    return {**_head(rows, name), "parameters": {"binary_data_size": rows.nbytes}}


def _head(rows: np.ndarray, name: str) -> dict[str, Any]:
    return {"name": name, "shape": list(rows.shape), "datatype": DATATYPES[rows.dtype.name]}


def wanted(*names: str, is_binary: bool | None = None) -> list[dict[str, Any]]:
    """A list of outputs, which say how they come unless *is_binary* is ``None``."""
    parameters = {} if is_binary is None else {"parameters": {"binary_data": is_binary}}
    return [{"name": name, **parameters} for name in names]


def json_request(rows: np.ndarray, *, name: str = "input", **fields: Any) -> bytes:
    return json.dumps({"inputs": [as_json(rows, name=name)], **fields}).encode()


def binary_request(
    rows: np.ndarray, *, name: str = "input", **fields: Any
) -> tuple[bytes, dict[str, str]]:
    """A body, and the header that it needs."""
    head = json.dumps({"inputs": [as_bytes(rows, name=name)], **fields}).encode()
    return head + rows.tobytes(), {LENGTH: str(len(head))}


def arrays(answer: Any) -> dict[str, np.ndarray]:
    """Every output of an answer by name, after a look at what every answer has."""
    assert answer.status_code == 200, answer.content
    length = answer.headers.get(LENGTH)
    kind = "application/json" if length is None else "application/octet-stream"
    assert answer.headers["content-type"] == kind
    head = answer.content if length is None else answer.content[: int(length)]
    tail = b"" if length is None else answer.content[int(length) :]
    found = {}
    for told in json.loads(head)["outputs"]:
        size = told.get("parameters", {}).get("binary_data_size")
        dtype = next(name for name, known in DATATYPES.items() if known == told["datatype"])
        if size is None:
            values = np.array(told["data"], dtype)
        else:
            assert "data" not in told
            values, tail = np.frombuffer(tail[:size], dtype), tail[size:]
        found[told["name"]] = values.reshape(told["shape"])
    assert tail == b""
    return found


def error(answer: Any) -> str:
    """What an error says, after a look at what every error has."""
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 4096
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"]
    return str(body["error"])
