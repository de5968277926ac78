"""The ceiling: ONNX Runtime in a loop, without HTTP; one line of JSON with what it reached.

Called as ``python -m benchmarks.contenders.direct GRAPH ROWS_FILE SECONDS THREADS``.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.cases import FEATURES
from benchmarks.proc import pin
from benchmarks.stats import percentile


def measure(graph: Path, rows: bytes, *, seconds: float, threads: int) -> dict[str, float]:
    """Run *graph* on *rows* again and again, after a while that does not count."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    pin(os.getpid(), os.sched_getaffinity(0))
    given = session.get_inputs()[0]
    batch = np.frombuffer(rows, np.float32).reshape(-1, FEATURES)
    batch = batch.reshape(-1, *given.shape[1:])

    def run() -> None:
        session.run(None, {given.name: batch})

    _loop(run, seconds / 10)
    cpu_s = time.process_time()
    started = time.perf_counter()
    latencies = _loop(run, seconds)
    return {
        "requests_per_s": len(latencies) / (time.perf_counter() - started),
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "cpu_us": (time.process_time() - cpu_s) * 1e6 / len(latencies),
    }


def _loop(run: Callable[[], None], seconds: float) -> list[float]:
    latencies = []
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        run()
        before, now = now, time.perf_counter()
        latencies.append(now - before)
    return latencies


def main(graph: str, rows: str, seconds: str, threads: str) -> None:
    result = measure(
        Path(graph), Path(rows).read_bytes(), seconds=float(seconds), threads=int(threads)
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
