"""The bundled model on every device that there is, through buffers, against the plain CPU.

Without a GPU the same tests run with buffers of the CPU, and those of CUDA are skipped.
"""

from pathlib import Path

import numpy as np
import pytest

from service.blueprint import make_graphs
from service.inference.buffers import Buffers
from service.inference.providers import CUDA_PROVIDER, Device, cuda_fault
from service.inference.session import OrtSession
from service.repository.packages import Location, read_package
from service.scoring.calibration import read_calibration
from service.scoring.measures import MSE
from service.scoring.verdicts import above

ROOT = Path(__file__).parents[2]

CUDA = Device("cuda")
FAULT = cuda_fault(CUDA)
GPU = [pytest.mark.gpu, pytest.mark.skipif(FAULT is not None, reason=f"no CUDA: {FAULT}")]

# sums of some thousand products in another order; TF32 is off
TOLERANCE = 1e-4

on_every_device = pytest.mark.parametrize(
    "device", [pytest.param(Device(), id="cpu"), pytest.param(CUDA, id="cuda", marks=GPU)]
)


@pytest.fixture(scope="module")
def package():
    return read_package(Location("mnist-conv", 1, ROOT / "models" / "mnist-conv" / "1"))


@pytest.fixture(scope="module")
def graphs(package):
    return make_graphs(package)


@pytest.fixture(scope="module")
def rows():
    """A hundred digits of the MNIST test set and as many pictures that are none."""
    pixels = np.load(ROOT / "tests" / "e2e" / "digits.npy").reshape(-1, 1, 28, 28)
    digits = (pixels / np.float32(255)).astype(np.float32)
    noise = np.random.default_rng(3).random(digits.shape, np.float32)
    return np.concatenate([digits, noise * np.linspace(0, 1, 100).reshape(-1, 1, 1, 1)]).astype(
        np.float32
    )


def opened(graph, device):
    """Open a graph as the server does, with buffers on the CPU too."""
    session = OrtSession(graph, device)
    if session._buffers is None:
        session._buffers = Buffers.made_for(session._session, device)
    assert session._buffers is not None
    return session


def plainly(graph, rows):
    return OrtSession(graph, Device()).run(rows)


def in_batches(session, rows, size):
    parts = [session.run(rows[start : start + size]) for start in range(0, len(rows), size)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


@on_every_device
def test_it_gives_the_answers_of_the_cpu(graphs, rows, device):
    outputs = in_batches(opened(graphs.everything, device), rows, 50)

    for got, wanted in zip(outputs, plainly(graphs.everything, rows), strict=True):
        np.testing.assert_allclose(got, wanted, atol=TOLERANCE, rtol=TOLERANCE)


@on_every_device
def test_no_verdict_is_another_than_on_the_cpu(package, graphs, rows, device):
    calibration = read_calibration(package.files["calibration.npz"])

    (scores,) = in_batches(opened(graphs.score, device), rows, 50)

    (plain,) = plainly(graphs.score, rows)
    for rate in (0.1, 0.05, 0.01, 0.001):
        threshold = calibration.threshold(MSE, rate)
        assert 0 < np.count_nonzero(above(plain, threshold)) < len(rows)
        np.testing.assert_array_equal(above(scores, threshold), above(plain, threshold))


@on_every_device
@pytest.mark.parametrize("size", [1, 8, 64])
def test_within_a_batch_size_a_row_has_the_same_bits_wherever_and_beside_whomever(
    graphs, rows, device, size
):
    session = opened(graphs.everything, device)
    row = rows[:1]
    alone = session.run(np.repeat(row, size, axis=0))

    for position in {0, size // 2, size - 1}:
        for neighbours in (rows[100 : 100 + size], np.full_like(rows[:size], np.nan)):
            batch = neighbours.copy()
            batch[position] = row[0]
            for got, wanted in zip(session.run(batch), alone, strict=True):
                np.testing.assert_array_equal(got[position], wanted[0])


@on_every_device
def test_each_batch_size_has_its_buffers_after_one_run(graphs, rows, device):
    session = opened(graphs.score, device)

    for size in (1, 2, 4, 64):
        session.run(rows[:size])

    assert session._buffers is not None
    assert session._buffers.sizes == [1, 2, 4, 64]


@pytest.mark.gpu
@pytest.mark.skipif(FAULT is not None, reason=f"no CUDA: {FAULT}")
def test_a_session_on_cuda_says_so_and_has_its_nodes_there(graphs):
    session = OrtSession(graphs.everything, CUDA)

    assert session.provider == CUDA_PROVIDER
    assert session.nodes[CUDA_PROVIDER] > sum(session.nodes.values()) / 2
    assert session._buffers is not None
