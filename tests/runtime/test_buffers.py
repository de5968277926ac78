"""Memory that stays from run to run: the same code with buffers of the CPU."""

import threading

import numpy as np
import onnxruntime as ort
import pytest

from service.inference.buffers import MAX_SIZES, Buffers
from service.inference.graphs import Signature, from_pair
from service.inference.providers import CPU_PROVIDER, Device
from service.inference.session import Stop
from service.specs import TensorSpec
from tests import tiny
from tests.fakes import WAIT_S

RNG = np.random.default_rng(11)


def opened(graph):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(graph, options, providers=[CPU_PROVIDER])


def everything():
    """A graph with three outputs: code, reconstruction and score of random weights."""
    wide, code = TensorSpec("float32", (6,)), TensorSpec("float32", (3,))
    graph = from_pair(*tiny.mixing(6, 3), Signature(wide, code, wide)).everything
    assert graph is not None
    return opened(graph)


@pytest.fixture
def session():
    return everything()


@pytest.fixture
def buffers(session):
    made = Buffers.made_for(session, Device())
    assert made is not None
    return made


def rows_of(size, features=6):
    return RNG.random((size, features), np.float32)


def test_a_run_gives_the_bits_of_a_plain_run_in_the_order_of_the_graph(session, buffers):
    rows = rows_of(5)

    outputs = buffers.run(rows)

    plain = session.run(None, {"input": rows})
    assert [output.shape for output in outputs] == [(5, 3), (5, 6), (5,)]
    for got, wanted in zip(outputs, plain, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_every_run_sees_its_own_rows(session, buffers):
    for size in (2, 7, 2, 1, 7):
        rows = rows_of(size)

        outputs = buffers.run(rows)

        for got, wanted in zip(outputs, session.run(None, {"input": rows}), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_what_a_run_gave_is_not_touched_by_the_next(buffers):
    first = buffers.run(rows_of(4))
    kept = [output.copy() for output in first]

    buffers.run(rows_of(4))

    for output, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(output, copy)


def test_the_callers_rows_may_change_after_the_run(session, buffers):
    rows = rows_of(4)
    wanted = session.run(None, {"input": rows})

    outputs = buffers.run(rows)
    rows[:] = 0

    np.testing.assert_array_equal(outputs[1], wanted[1])


def test_a_batch_size_gets_its_memory_once(buffers):
    for size in (4, 1, 4, 1):
        buffers.run(rows_of(size))
    before = buffers._sets[4].rows.data_ptr()

    buffers.run(rows_of(4))

    assert buffers.sizes == [1, 4]
    assert buffers._sets[4].rows.data_ptr() == before


def test_rows_with_gaps_in_memory_are_taken_as_they_read(session, buffers):
    rows = rows_of(4, 12)[:, ::2]

    outputs = buffers.run(rows)

    np.testing.assert_array_equal(outputs[0], session.run(None, {"input": rows})[0])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.zeros((2, 6)), id="another type"),
        pytest.param(np.zeros((3, 4), np.float32), id="as many elements in another shape"),
        pytest.param(np.zeros((2, 5), np.float32), id="fewer elements"),
        pytest.param(np.zeros((2, 6, 1), np.float32), id="another rank"),
    ],
)
def test_rows_that_would_be_copied_wrongly_are_not_taken(buffers, rows):
    assert not buffers.take(rows)


def test_no_more_batch_sizes_are_kept_than_a_batch_ever_has(buffers):
    for size in range(1, MAX_SIZES + 1):
        assert buffers.take(rows_of(size))
        buffers.run(rows_of(size))

    assert not buffers.take(rows_of(MAX_SIZES + 1))
    assert buffers.take(rows_of(MAX_SIZES))


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(tiny.halving_pictures()[0], id="free axes"),
        pytest.param(
            tiny.graph(
                [tiny.node("Compress", ["x", "kept"], ["z"], axis=1)],
                ("x", "float32", [4]),
                [("z", "float32", ["some"])],
                {"kept": np.array([True, False, True, False])},
            ),
            id="a free axis of the output",
        ),
    ],
)
def test_graphs_with_other_free_axes_get_none(graph):
    assert Buffers.made_for(opened(graph), Device()) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int64"])
def test_every_type_that_a_manifest_may_name_is_copied_to_the_bit(dtype):
    graph = tiny.graph(
        [tiny.node("Identity", ["x"], ["z"])], ("x", dtype, [4]), [("z", dtype, [4])]
    )
    buffers = Buffers.made_for(opened(graph), Device())
    assert buffers is not None
    rows = RNG.integers(0, 200, (3, 4)).astype(dtype)

    assert buffers.take(rows)
    (answer,) = buffers.run(rows)

    assert answer.dtype == rows.dtype
    np.testing.assert_array_equal(answer, rows)


def test_a_run_can_be_stopped_and_the_buffers_work_on():
    buffers = Buffers.made_for(opened(tiny.slow(turns=1_000_000_000)[0]), Device())
    assert buffers is not None
    stop, outcome = Stop(), []

    def run():
        try:
            buffers.run(rows_of(3, 4), stop.options)
        except RuntimeError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(0.01)
    was_running = thread.is_alive()
    stop()
    thread.join(WAIT_S)

    assert was_running
    assert not thread.is_alive()
    assert "terminate flag" in outcome[0]


def test_a_row_that_fails_its_run_does_not_fail_the_next():
    session = opened(tiny.poison()[0])
    buffers = Buffers.made_for(session, Device())
    assert buffers is not None
    bad = np.zeros((2, 4), np.float32)
    bad[1, 0] = 9

    with pytest.raises(RuntimeError, match="out of data bounds"):
        buffers.run(bad)

    np.testing.assert_array_equal(buffers.run(np.ones((2, 4), np.float32))[0], np.ones((2, 1)))
