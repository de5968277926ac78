"""The slow model."""

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.slow import SLOW, run_ms, write_slow
from service.inference.operations import ANOMALY_SCORE
from service.inference.providers import Device
from service.packaging import check_package
from service.repository.packages import scan
from service.settings import Settings


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return write_slow(tmp_path_factory.mktemp("slow"), wanted_ms=1.0)


def test_it_is_a_package_that_scores(slow):
    (location,) = scan(slow.repository)

    assert location.name == SLOW
    assert ANOMALY_SCORE in check_package(location, Settings(models=slow.repository), Device())


def test_more_time_takes_more_layers(slow, tmp_path):
    assert write_slow(tmp_path, wanted_ms=4.0).layers > slow.layers >= 1


def test_activations_keep_their_size(slow):
    """Nothing becomes zero, infinite or a denormal number, whose sums would take longer."""
    path = slow.repository / SLOW / "1" / "encoder.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(1).random((2, 1, 28, 28), np.float32)
    (codes,) = session.run(None, {"rows": rows})

    assert codes.shape == (2, 32)
    assert 1e-3 < np.abs(codes).max() < 1e3


def test_its_time_is_measured(slow):
    encoder = (slow.repository / SLOW / "1" / "encoder.onnx").read_bytes()

    assert run_ms(encoder) > 0
    assert slow.run_ms > 0
