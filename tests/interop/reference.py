"""Rows, and what ONNX Runtime makes of them without the service."""

import io
from pathlib import Path

import httpx2
import numpy as np
import onnxruntime

from tests.e2e.server import ROOT
from tests.interop.checks import MODEL

ROWS = 5
FOLDER = ROOT / "models" / MODEL / "1"


def write(url: str, file: Path) -> None:
    """Write the arrays of ``Task.wanted`` into an npz file.

    The score's graph is the service's own, so the score is the one of the v1 API, whose bits are
    compared with ONNX Runtime by ``tests/e2e/test_mnist_conv.py``.
    """
    digits = np.load(ROOT / "tests" / "e2e" / "digits.npy")[:ROWS]
    rows = (digits[:, None] / np.float32(255)).astype(np.float32)
    code = _run("encoder.onnx", rows)
    answer = httpx2.post(
        f"{url}/v1/models/{MODEL}/anomaly-score",
        content=_npy(rows),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
        trust_env=False,
    ).raise_for_status()
    np.savez(
        file,
        rows=rows,
        code=code,
        reconstruction=_run("decoder.onnx", code),
        score=np.load(io.BytesIO(answer.content)),
        threshold=float(answer.headers["X-Threshold"]),
        metric=answer.headers["X-Metric"],
    )


def _run(graph: str, rows: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        FOLDER / graph, options, providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(None, {session.get_inputs()[0].name: rows})
    return np.asarray(output)


def _npy(rows: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.save(body, rows)
    return body.getvalue()
