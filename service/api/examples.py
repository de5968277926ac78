"""The examples of the OpenAPI document: what a small model is sent, and what it answers.

It is called *pump*, takes 4 readings from 0 to 1 and keeps the first two of them as its code. A
test sends every request and compares the answers, so they are true.
"""

from typing import Any, Final

import orjson

from service.api.errors import make_problem
from service.inference import operations

MODEL: Final = "pump"

_ID: Final = "1d9d204e00000001"

_FROM: Final = {"model": MODEL, "version": "1"}

# a row as its model has seen thousands, and one whose last two readings are new to it
_READINGS: Final = [[0.25, 0.5, 0.0, 0.125], [0.5, 0.75, 1.0, 1.0]]

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    operations.ENCODE: {"inputs": _READINGS},
    operations.DECODE: {"inputs": [[0.25, 0.5]]},
    operations.RECONSTRUCT: {"inputs": _READINGS},
    operations.ANOMALY_SCORE: {
        "inputs": _READINGS,
        "false_positive_rate": 0.05,
        "include": ["feature_errors"],
    },
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    operations.ENCODE: {**_FROM, "codes": [[0.25, 0.5], [0.5, 0.75]]},
    operations.DECODE: {**_FROM, "reconstructions": [[0.25, 0.5, 0.0, 0.0]]},
    operations.RECONSTRUCT: {
        **_FROM,
        "reconstructions": [[0.25, 0.5, 0.0, 0.0], [0.5, 0.75, 0.0, 0.0]],
    },
    operations.ANOMALY_SCORE: {
        **_FROM,
        "metric": "mse",
        "scores": [0.00390625, 0.5],
        "threshold": 0.37015715,
        "false_positive_rate": 0.05,
        "p_values": [0.988, 0.001],
        "anomalies": [False, True],
        "feature_errors": [[0.0, 0.0, 0.0, 0.015625], [0.0, 0.0, 1.0, 1.0]],
    },
}


def _problem(status: int, detail: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of JSON
    problem: dict[str, Any] = orjson.loads(make_problem(status, detail, _ID, fields=fields).body)
    return problem


def _fault(row: int, received: str) -> dict[str, Any]:
    return {
        "detail": "a value is out of the model's declared range",
        "row": row,
        "expected": "0 to 1",
        "received": received,
    }


PROBLEMS: Final[dict[int, dict[str, Any]]] = {
    400: _problem(
        400,
        "the body is not JSON: it cannot be read at character 19",
        expected="JSON, which has no NaN and no Infinity",
    ),
    401: _problem(
        401,
        "this needs an API key",
        expected="Authorization: Bearer KEY, or X-API-Key: KEY",
    ),
    403: _problem(403, "this API key is not for this", expected="the scope infer"),
    404: _problem(404, "no such model"),
    405: _problem(405, "an operation is asked for by POST", expected="POST"),
    406: _problem(
        406,
        "none of the formats in Accept can be given here",
        expected="application/json or application/x-npy or application/octet-stream",
    ),
    408: _problem(408, "the body of the request did not come in time"),
    409: _problem(
        409,
        "the model is not calibrated for this metric",
        expected="bce or knn or mae or mahalanobis or max or mse or rapp or sap or top_k",
    ),
    413: _problem(
        413,
        "a request may hold 4096 rows",
        expected="at most 4096 rows",
        received="4097 rows",
    ),
    414: _problem(414, "path and query are too long", expected="at most 8192 bytes"),
    415: _problem(
        415,
        "this Content-Type is not understood",
        expected="application/json, application/x-npy, application/octet-stream",
    ),
    422: _problem(
        422,
        **_fault(1, "a larger value"),
        faults=[_fault(1, "a larger value"), _fault(3, "a smaller value")],
        faults_total=2,
    ),
    429: _problem(429, "the queue holds 4096 of at most 4096 rows"),
    431: _problem(
        431, "there are too many headers", expected="at most 100", received="101 headers"
    ),
    500: _problem(500, "the model failed on these rows", row=2),
    503: _problem(503, "the model is being loaded"),
    504: _problem(504, "the deadline passed during the run"),
}

LIST: Final[dict[str, Any]] = {
    "models": [
        {
            "name": MODEL,
            "versions": ["1"],
            "labels": {},
            "ready": True,
            "operations": [*operations.ALL],
        }
    ]
}

_BODY_TYPES: Final = ["application/json", "application/x-npy", "application/octet-stream"]

_INPUT: Final[dict[str, Any]] = {
    "dtype": "float32",
    "shape": [4],
    "range": [0.0, 1.0],
    "image": None,
    "features": ["flow", "pressure", "vibration", "temperature"],
    "scale": None,
    "body_types": _BODY_TYPES,
}

CARD: Final[dict[str, Any]] = {
    "name": MODEL,
    "version": "1",
    "labels": [],
    "state": "ready",
    "ready": True,
    "title": "Readings of a pump",
    "description": "Keeps flow and pressure, and expects no vibration and no heat.",
    "licence": "Apache-2.0",
    "intended_use": "The examples of this document.",
    "not_for": ["Pumps."],
    "operations": [*operations.ALL],
    "input": _INPUT,
    "code": {
        **_INPUT,
        "shape": [2],
        "range": None,
        "features": None,
        "scale": None,
    },
    "output": {**_INPUT, "body_types": []},
    "output_kind": "reconstruction",
    "layers": {},
    "further_outputs": {},
    "code_size": 2,
    "compression_ratio": 2.0,
    "preprocessing": None,
    "architecture": {
        "kind": "undercomplete",
        "layers": [
            {
                "name": name,
                "kind": "dense",
                "part": name,
                "nodes": nodes,
                "kernel": None,
                "stride": None,
                "activation": None,
                "output_shape": [nodes],
            }
            for name, nodes in (("encoder", 2), ("decoder", 4))
        ],
        "parameters": 16,
        "loss": "mse",
        "regularisation": None,
        "hyperparameters": {},
    },
    "training": None,
    "quality": {
        "data": "1000 rows of random numbers",
        "rows": 1000,
        "mse": 0.1672,
        "pca": {"components": 2, "mse": 0.0417},
        "parity_max_difference": None,
        "figures": {},
    },
    "calibration": {
        "name": None,
        "version": None,
        "rows": 999,
        "data": "other random numbers",
        "metrics": ["mse"],
        "default_metric": "mse",
        "default_false_positive_rate": 0.01,
        "thresholds": {"mse": {"0.05": 0.37015715, "0.01": 0.44223672}},
        "knows_domain": True,
    },
    "batch_invariance": {
        "invariant": True,
        "largest_batch": 128,
        "depends_on": {operation: [] for operation in operations.ALL},
        "provider": "CPUExecutionProvider",
        "onnxruntime": "1.31.1",
        "machine": "x86_64",
    },
    "placement": {
        "provider": "CPUExecutionProvider",
        "device": "cpu",
        "graph_nodes": {operations.ENCODE: {"CPUExecutionProvider": 1}},
        "fixed_batch_rows": None,
        "cost": {
            operations.ENCODE: {
                "rows": [1, 128],
                "seconds": [1.2e-05, 1.7e-05],
                "base_s": 1.2e-05,
                "row_s": 4e-08,
                "rows_per_s": 7500000.0,
                "useful_rows": 128,
            }
        },
    },
    "files": {
        "encoder.onnx": {
            "sha256": "5924b2e56c630f8671a6a7e0d9d956cc1d8a390e12d6f95adf769862ac6e7bf7",
            "bytes": 132,
        }
    },
}

_STORED: Final[dict[str, Any]] = {
    "name": "after-the-overhaul",
    "version": 1,
    "description": "Two quiet weeks after the pump was overhauled.",
    "created": "2026-11-28T09:00:00Z",
    "rows": 999,
    "metrics": ["mse"],
    "default_metric": "mse",
    "data_sha256": "4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865",
    "usable": True,
}

CALIBRATIONS: Final[dict[str, Any]] = {
    "model": MODEL,
    "version": "1",
    "active": {"name": _STORED["name"], "version": 1},
    "calibrations": [_STORED],
}

CALIBRATION: Final[dict[str, Any]] = {
    "model": MODEL,
    "version": "1",
    "active": True,
    "calibration": _STORED,
    "thresholds": {"mse": {"0.05": 0.37015715, "0.01": 0.44223672}},
}

LIVE: Final = {"status": "ok", "waiting_for": []}
LOST: Final = {"status": "the device is lost", "waiting_for": []}
NOT_READY: Final = {"status": "not ready", "waiting_for": ["pump/1 is loading"]}

METRICS: Final = """\
# HELP hourglass_rows_total Rows answered.
# TYPE hourglass_rows_total counter
hourglass_rows_total{model="pump",operation="encode",version="1"} 2.0
"""

# what is answered at the paths that FastAPI serves, by status
AT_PATHS: Final[dict[str, dict[str, Any]]] = {
    "/v1/models": {"200": LIST},
    "/v1/models/{model}": {"200": CARD},
    "/v1/models/{model}/versions/{version}": {"200": CARD},
    "/livez": {"200": LIVE, "503": LOST},
    "/readyz": {"200": LIVE, "503": NOT_READY},
    "/metrics": {"200": METRICS},
}
