import logging
import sys
import threading

import numpy as np
import onnxruntime as ort
import pytest

from service.errors import AllocationError, DeviceLostError, InferenceError, PackageError
from service.inference.buffers import Buffers
from service.inference.graphs import Signature, from_pair
from service.inference.providers import CPU_PROVIDER, Device, DeviceOptions
from service.inference.session import OrtSession, RunStoppedError, Stop
from service.specs import TensorSpec
from tests import tiny
from tests.fakes import WAIT_S
from tests.messages import ECHOES, FINAL, NO_MEMORY

ROWS = np.random.default_rng(6).random((3, 4), np.float32)


class Failing:
    """Stands for ONNX Runtime's own session at the moment when its device dies."""

    def __init__(self, text):
        self.text = text

    def run(self, *_):
        raise RuntimeError(self.text)


def keeping():
    return OrtSession(tiny.keeping(4, 2)[0], Device())


def test_outputs_come_as_a_tuple_in_the_order_of_the_graph():
    rows, codes = TensorSpec("float32", (4,)), TensorSpec("float32", (2,))
    everything = from_pair(*tiny.keeping(4, 2), Signature(rows, codes, rows)).everything
    assert everything is not None

    outputs = OrtSession(everything, Device()).run(ROWS)

    assert isinstance(outputs, tuple)
    assert [output.shape for output in outputs] == [(3, 2), (3, 4), (3,)]


def test_a_session_says_where_it_really_runs():
    session = keeping()

    assert session.provider == CPU_PROVIDER
    assert session.nodes == {CPU_PROVIDER: 1}


def test_every_node_is_counted():
    pair = tiny.halving_pictures()

    assert OrtSession(pair[1], Device()).nodes == {CPU_PROVIDER: 2}


def test_control_flow_is_noticed():
    assert OrtSession(tiny.slow()[0], Device()).has_control_flow
    assert not keeping().has_control_flow


@pytest.mark.parametrize("graph", [b"", b"not a graph"], ids=repr)
def test_bytes_that_are_no_graph_are_a_fault_of_the_package(graph):
    with pytest.raises(PackageError, match="does not take the graph"):
        OrtSession(graph, Device())


def test_a_run_can_be_stopped_from_another_thread_and_the_session_works_on():
    session = OrtSession(tiny.slow(turns=1_000_000_000)[0], Device())
    stop = Stop()
    outcome = []

    def run():
        try:
            session.run(ROWS, stop)
        except RunStoppedError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(0.01)
    was_running = thread.is_alive()
    stop()
    thread.join(WAIT_S)

    assert was_running
    assert not thread.is_alive()
    assert [type(error) for error in outcome] == [RunStoppedError]


def test_a_run_with_a_handle_that_nobody_pulls_is_a_run_like_any_other():
    session = OrtSession(tiny.slow(turns=3)[0], Device())

    np.testing.assert_array_equal(session.run(ROWS, Stop())[0], ROWS)


def test_one_bad_row_fails_its_run_and_not_the_session():
    session = OrtSession(tiny.poison()[0], Device())
    bad = ROWS.copy()
    bad[1, 0] = 9

    with pytest.raises(InferenceError, match="failed on these rows") as caught:
        session.run(bad)

    assert caught.value.__cause__ is not None
    np.testing.assert_array_equal(session.run(ROWS)[0], np.zeros((3, 1)))


@pytest.mark.parametrize("rows", [ROWS[:, :3], ROWS.astype(np.float64)], ids=["shape", "type"])
def test_rows_that_the_graph_does_not_take_are_an_inference_error(rows):
    with pytest.raises(InferenceError):
        keeping().run(rows)


def test_the_text_of_the_runtime_is_kept_from_the_client():
    with pytest.raises(InferenceError) as caught:
        keeping().run(ROWS[:, :3])

    assert "ONNX" not in str(caught.value)


@pytest.mark.parametrize("text", FINAL.values(), ids=FINAL)
def test_errors_after_which_a_gpu_never_answers_mean_that_the_device_is_lost(text, caplog):
    session = keeping()
    session._session = Failing(text)

    with pytest.raises(DeviceLostError) as caught:
        session.run(ROWS)

    assert str(caught.value.__cause__) == text
    assert caplog.records[0].levelno == logging.CRITICAL


def test_running_out_of_memory_is_not_the_loss_of_the_device():
    session = keeping()
    session._session = Failing(NO_MEMORY["CUDA"])

    with pytest.raises(AllocationError):
        session.run(ROWS)


def test_a_failure_of_a_library_makes_a_session_try_its_gpu():
    session = keeping()
    session._session = Failing(ECHOES["cuBLAS"])

    with pytest.raises(InferenceError) as caught:
        session.run(ROWS)
    assert not isinstance(caught.value, DeviceLostError)  # the CPU runs this very code

    # no machine has so many: the tiny graph fails there
    session._device = Device("cuda", 99)
    with pytest.raises(DeviceLostError):
        session.run(ROWS)


def test_a_run_that_wants_more_memory_than_there_is_says_so_and_the_session_works_on():
    session = OrtSession(tiny.swelling(columns=1 << 44)[0], Device())

    with pytest.raises(AllocationError, match="no memory"):
        session.run(ROWS)

    rows = np.zeros((2, 4), np.float32)
    np.testing.assert_array_equal(session.run(rows)[0], np.zeros((2, 1)))


class Refusing:
    """Stands for the runtime's inner session at the moment when its provider fails."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, *_):
        raise ort.capi.onnxruntime_pybind11_state.EPFail(ECHOES["cuDNN"])


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (NO_MEMORY["cuBLAS"], PackageError("there is no memory for the graph on cpu")),
        (FINAL["illegal address"], DeviceLostError("the device failed")),
        ("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel", PackageError("not take the")),
    ],
    ids=["memory", "device", "graph"],
)
def test_a_graph_that_is_not_opened_is_refused_for_what_was_wrong(text, refusal):
    found = keeping()._refusal(RuntimeError(text))

    assert type(found) is type(refusal)
    assert str(refusal) in str(found)


def test_a_run_that_fails_on_its_provider_is_not_made_again_on_another():
    """ONNX Runtime would take the CPU for good, and tell standard output."""
    session = keeping()
    session._session._sess = Refusing(session._session._sess)

    with pytest.raises(InferenceError) as caught:
        session.run(ROWS)

    assert str(caught.value.__cause__) == ECHOES["cuDNN"]


def test_buffers_are_used_for_rows_that_fit_and_the_answer_is_the_same():
    session = keeping()
    plain = session.run(ROWS)
    session._buffers = buffers = Buffers.made_for(session._session, Device())
    assert buffers is not None

    np.testing.assert_array_equal(session.run(ROWS)[0], plain[0])
    assert buffers.sizes == [3]
    with pytest.raises(InferenceError):
        session.run(ROWS.astype(np.float64))


def test_a_run_through_buffers_can_be_stopped():
    session = OrtSession(tiny.slow(turns=1_000_000_000)[0], Device())
    session._buffers = Buffers.made_for(session._session, Device())
    stop = Stop()
    timer = threading.Timer(0.01, stop)
    timer.start()

    with pytest.raises(RunStoppedError):
        session.run(ROWS, stop)

    timer.join(WAIT_S)


def test_a_closed_session_has_let_go_of_the_runtime():
    session = keeping()

    session.close()

    assert session._session is None


def test_the_runtime_is_told_how_many_threads_may_share_a_run():
    device = Device(options=DeviceOptions(intra_op_threads=2))
    session = OrtSession(tiny.keeping(4, 2)[0], device)

    options: ort.SessionOptions = session._session.get_session_options()
    assert options.intra_op_num_threads == 2


def test_sessions_on_the_cpu_share_an_arena():
    options: ort.SessionOptions = keeping()._session.get_session_options()

    assert options.get_session_config_entry("session.use_env_allocators") == "1"


def test_an_open_session_does_not_keep_the_bytes_of_its_graph():
    graph = tiny.keeping(4, 2)[0]
    before = sys.getrefcount(graph)

    session = OrtSession(graph, Device())

    assert sys.getrefcount(graph) == before
    assert session.run(ROWS)
