import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from service.errors import DeviceUnavailableError
from service.inference.graphs import Signature, from_pair
from service.inference.providers import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    Device,
    DeviceOptions,
    choose_device,
    cuda_fault,
    device_fault,
    doubling,
)
from service.inference.session import OrtSession
from service.specs import TensorSpec
from tests import tiny

CUDA = Device("cuda")
FAULT = cuda_fault(CUDA)

without_cuda = pytest.mark.skipif(FAULT is None, reason="CUDA works here")
# sums of a few thousand products in another order; TF32 is off
CUDA_TOLERANCE = 1e-4


def test_the_cpu_is_taken_without_a_trial():
    assert choose_device("cpu", 3) == Device("cpu", 0)


def test_a_cpu_has_one_provider():
    assert Device().providers == [CPU_PROVIDER]
    assert Device().provider == CPU_PROVIDER
    assert str(Device()) == "cpu"


def test_a_gpu_is_asked_for_by_its_number_and_without_tf32():
    device = Device("cuda", 2)

    first, fallback = device.providers

    assert first[0] == CUDA_PROVIDER
    assert isinstance(first[1], dict)
    assert (first[1]["device_id"], first[1]["use_tf32"]) == (2, 0)
    assert fallback == CPU_PROVIDER
    assert device.provider == CUDA_PROVIDER
    assert str(device) == "cuda:2"


def test_a_gpu_is_asked_for_as_its_options_say():
    options = DeviceOptions(
        cuda_memory_limit_mib=2048,
        cuda_arena_extend="next_power_of_two",
        cuda_conv_search="exhaustive",
        cuda_tf32=True,
        cuda_prefer_nhwc=True,
    )

    first = Device("cuda", 1, options).providers[0]

    assert first[1] == {
        "device_id": 1,
        "gpu_mem_limit": 2 << 30,
        "arena_extend_strategy": "kNextPowerOfTwo",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": 1,
        "prefer_nhwc": 1,
    }


def test_without_a_limit_the_arena_has_none():
    first = CUDA.providers[0]

    assert "gpu_mem_limit" not in first[1]


def test_options_are_no_part_of_a_place():
    assert str(Device(options=DeviceOptions(intra_op_threads=4))) == "cpu"


def test_a_device_that_is_chosen_keeps_its_options():
    options = DeviceOptions(intra_op_threads=4)

    assert choose_device("cpu", options=options).options is options
    assert choose_device("auto", options=options).options is options


@without_cuda
def test_cuda_that_does_not_work_is_refused_with_the_reason():
    with pytest.raises(DeviceUnavailableError, match="cuda:0 was asked for") as caught:
        choose_device("cuda")

    assert str(FAULT) in str(caught.value)


@without_cuda
def test_auto_falls_back_to_the_cpu_and_says_why(caplog):
    caplog.set_level(logging.INFO)

    device = choose_device("auto")

    assert device == Device()
    assert f"models run on cpu: {FAULT}" in caplog.text


@without_cuda
def test_a_session_never_falls_back_silently():
    with pytest.raises(DeviceUnavailableError, match="came up on CPUExecutionProvider"):
        OrtSession(tiny.keeping(4, 2)[0], CUDA)


@without_cuda
def test_a_trial_that_fails_says_why_in_one_line():
    fault = device_fault(CUDA)

    assert fault is not None
    assert "\n" not in fault
    assert len(fault) <= 300


def test_the_graph_of_the_trial_doubles():
    (answer,) = OrtSession(doubling(), Device()).run(np.ones((1, 1), np.float32))

    assert answer.tolist() == [[2.0]]


@pytest.mark.gpu
@pytest.mark.skipif(FAULT is not None, reason=f"no CUDA: {FAULT}")
def test_cuda_gives_the_answers_of_the_cpu():
    rows = np.random.default_rng(7).random((64, 64), np.float32)
    wide, code = TensorSpec("float32", (64,)), TensorSpec("float32", (8,))
    graph = from_pair(*tiny.mixing(64, 8), Signature(wide, code, wide)).everything
    assert graph is not None
    session = OrtSession(graph, choose_device("cuda"))

    outputs = session.run(rows)

    assert session.provider == CUDA_PROVIDER
    assert session.nodes[CUDA_PROVIDER] > 0
    for on_gpu, on_cpu in zip(outputs, OrtSession(graph, Device()).run(rows), strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, atol=CUDA_TOLERANCE, rtol=CUDA_TOLERANCE)


def test_the_runtime_is_told_to_send_nothing_to_anybody():
    script = "import os, service.inference; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    clean = {name: text for name, text in os.environ.items() if "TELEMETRY" not in name}

    done = subprocess.run(
        [sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "1"
