"""ONNX Runtime called directly, with no service around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Final

import numpy as np

from service.assembly import FREE_AXIS_LENGTH
from service.benching.load import Sample
from service.blueprint import make_graphs, served_graphs, served_run
from service.errors import ConfigurationError
from service.inference import operations
from service.inference.invariance import Run
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.repository.golden import read_golden_rows
from service.repository.packages import Package
from service.specs import Rows

BATCHES: Final = (1, 8, 64)
THREADS: Final = (1, 2)

_WARM_UP_RUNS: Final = 3


def choose_operation(package: Package, wanted: str | None) -> str:
    """Choose what is measured: what was asked for, or a score, or a code.

    Raises:
        ConfigurationError: The model has no graph of its own for it.
    """
    own = served_graphs(package, make_graphs(package))
    usual = (operations.ANOMALY_SCORE, operations.RECONSTRUCT, operations.ENCODE)
    possible = [name for name in usual if name in own]
    if wanted is None:
        return possible[0]
    if wanted not in possible:
        raise ConfigurationError(f"'{wanted}' cannot be measured, but {' or '.join(possible)}")
    return wanted


def sample_rows(package: Package, rows: int) -> Rows:
    """Give rows that the model takes: the golden ones over again, or the middle of the range."""
    manifest = package.manifest
    if manifest.golden is not None:
        known = read_golden_rows(package.files[manifest.golden.file]).rows
        return np.ascontiguousarray(known[np.arange(rows) % len(known)])
    spec = manifest.input
    shape = [FREE_AXIS_LENGTH if axis is None else axis for axis in spec.shape]
    return np.full((rows, *shape), sum(spec.range or (0, 0)) / 2, spec.numpy_dtype)


@contextmanager
def direct_run(package: Package, operation: str, device: Device, threads: int) -> Iterator[Run]:
    """Open a session with so many threads of its own."""
    graph = served_graphs(package, make_graphs(package))[operation]
    options = replace(device.options, intra_op_threads=threads)
    session = OrtSession(graph, replace(device, options=options))
    try:
        yield served_run(session, package.manifest)
    finally:
        session.close()


def run_directly(run: Run, rows: Rows, seconds: float) -> Sample:
    """Run a batch again and again for a while, once at least."""
    for _ in range(_WARM_UP_RUNS):
        run(rows)
    sample = Sample()
    started = now = perf_counter()
    while now < started + seconds or not sample.latencies:
        run(rows)
        before, now = now, perf_counter()
        sample.latencies.append(now - before)
    sample.seconds = now - started
    return sample
