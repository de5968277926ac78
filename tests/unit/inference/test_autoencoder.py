import asyncio
import threading

import numpy as np
import pytest

from service.errors import (
    DeadlineExceededError,
    UnavailableError,
    UnsupportedOperationError,
)
from service.inference.autoencoder import Autoencoder
from service.inference.batcher import Batcher
from service.inference.cost import CostModel
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE, Signature
from service.inference.operations import ANOMALY_SCORE, DECODE, ENCODE, INFER, RECONSTRUCT
from service.inference.ticket import Ticket
from service.specs import TensorSpec
from tests.fakes import WAIT_S, FakeSession
from tests.scoring import score_features

ROWS = np.random.default_rng(3).random((5, 4), np.float32)
SIGNATURE = Signature(
    TensorSpec("float32", (4,), (0.0, 2.0)),
    TensorSpec("float32", (2,)),
    TensorSpec("float32", (4,)),
)


def halve(rows):
    return (rows[:, :2] / 2,)


def widen(codes):
    return (np.repeat(codes, 2, axis=1),)


def reconstruct(rows):
    return widen(*halve(rows))


def mark(rows):
    """Scores that no formula would give, so that it shows where they came from."""
    return (rows[:, 0] + 100,)


def everything(rows):
    return (*halve(rows), *reconstruct(rows), *mark(rows))


ALL = {ENCODE: halve, DECODE: widen, RECONSTRUCT: reconstruct, ANOMALY_SCORE: mark}
PAIR = {ENCODE: halve, DECODE: widen}


@pytest.fixture
def open_queue(lane, metrics):
    def open_queue(operation, session):
        return Batcher(
            session,
            lane,
            cost=CostModel((1,), (1.0,)),
            metrics=metrics.operation("m", "1", operation),
            max_batch_rows=64,
            max_queue_rows=64,
        )

    return open_queue


@pytest.fixture
def make(open_queue):
    def make(computes, signature=SIGNATURE, **options):
        batchers = {
            operation: open_queue(operation, FakeSession(compute))
            for operation, compute in computes.items()
        }
        return Autoencoder(signature, batchers, **options)

    return make


@pytest.fixture
def opener(open_queue):
    """Opens the queue of the graph that gives everything; counts, and can be held."""

    class Opener:
        def __init__(self):
            self.session = FakeSession(everything)
            self.opened = 0
            self.started = threading.Event()
            self.gate = threading.Event()
            self.gate.set()

        def __call__(self):
            self.opened += 1
            self.started.set()
            assert self.gate.wait(WAIT_S)
            return open_queue(INFER, self.session)

    opener = Opener()
    yield opener
    opener.gate.set()


async def ended(*awaitables):
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*awaitables, return_exceptions=True)


class TestOperations:
    def test_a_joined_model_can_do_everything(self, make):
        assert make(ALL).operations == [ENCODE, DECODE, RECONSTRUCT, ANOMALY_SCORE]

    def test_encoder_and_decoder_in_turn_can_do_everything(self, make):
        assert make(PAIR).operations == [ENCODE, DECODE, RECONSTRUCT, ANOMALY_SCORE]

    def test_an_encoder_alone_can_only_encode(self, make):
        assert make({ENCODE: halve}).operations == [ENCODE]

    def test_a_model_whose_output_is_something_else_has_no_score(self, make):
        other = Signature(SIGNATURE.input, SIGNATURE.code, SIGNATURE.output, reconstructs=False)

        assert make(PAIR, other).operations == [ENCODE, DECODE, RECONSTRUCT]

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "ask",
        [Autoencoder.decode, Autoencoder.reconstruct, Autoencoder.score, score_features],
        ids=lambda ask: ask.__name__,
    )
    async def test_an_operation_that_the_model_lacks_is_refused_before_anything_runs(
        self, make, ask
    ):
        model = make({ENCODE: halve})

        (error,) = await ended(ask(model, ROWS, Ticket()))

        assert isinstance(error, UnsupportedOperationError)
        assert error.expected == ENCODE
        assert model.batchers[ENCODE]._session.sizes == []

    @pytest.mark.anyio
    async def test_a_decoder_alone_cannot_encode(self, make):
        (error,) = await ended(make({DECODE: widen}).encode(ROWS, Ticket()))

        assert isinstance(error, UnsupportedOperationError)


class TestAnswers:
    @pytest.mark.anyio
    async def test_each_operation_is_answered_by_its_own_graph(self, make):
        model, ticket = make(ALL), Ticket()
        codes = halve(ROWS)[0]

        answers = await ended(
            model.encode(ROWS, ticket),
            model.decode(codes, Ticket()),
            model.reconstruct(ROWS, Ticket()),
            model.score(ROWS, Ticket()),
        )

        for answer, right in zip(answers, (halve, widen, reconstruct, mark), strict=True):
            np.testing.assert_array_equal(answer, right(codes if right is widen else ROWS)[0])

    @pytest.mark.anyio
    async def test_a_large_model_reconstructs_by_encoder_and_decoder_in_turn(self, make):
        (answer,) = await ended(make(PAIR).reconstruct(ROWS, Ticket()))

        np.testing.assert_array_equal(answer, reconstruct(ROWS)[0])

    @pytest.mark.anyio
    async def test_a_large_model_scores_by_the_definition_of_the_measure(self, make):
        (scores,) = await ended(make(PAIR).score(ROWS, Ticket()))

        by_hand = np.square((ROWS - reconstruct(ROWS)[0]) / 2).mean(axis=1)
        np.testing.assert_allclose(scores, by_hand, rtol=1e-6)

    @pytest.mark.anyio
    async def test_feature_errors_of_a_row_have_its_score_as_their_mean(self, make):
        ((scores, errors),) = await ended(score_features(make(PAIR), ROWS, Ticket()))

        np.testing.assert_allclose(errors.mean(axis=1), scores, rtol=1e-6)

    @pytest.mark.anyio
    async def test_a_model_whose_output_is_something_else_gives_no_score(self, make, opener):
        other = Signature(SIGNATURE.input, SIGNATURE.code, SIGNATURE.output, reconstructs=False)
        model = make(PAIR, other, later={INFER: opener})

        errors = await ended(model.score(ROWS, Ticket()), score_features(model, ROWS, Ticket()))

        assert [type(error) for error in errors] == [UnsupportedOperationError] * 2


class TestEverything:
    @pytest.mark.anyio
    async def test_the_graph_of_everything_is_opened_by_the_first_who_needs_it(self, make, opener):
        model = make(ALL, later={INFER: opener})
        await ended(model.score(ROWS, Ticket()))
        opened_before = opener.opened

        ((scores, errors),) = await ended(score_features(model, ROWS, Ticket()))

        assert opened_before == 0
        assert opener.opened == 1
        np.testing.assert_array_equal(scores, mark(ROWS)[0])
        np.testing.assert_allclose(errors, np.square((ROWS - reconstruct(ROWS)[0]) / 2), rtol=1e-6)

    @pytest.mark.anyio
    async def test_it_is_opened_once_for_all(self, make, opener):
        model = make(ALL, later={INFER: opener})

        await ended(*(score_features(model, ROWS, Ticket()) for _ in range(3)))
        await ended(score_features(model, ROWS, Ticket()))

        assert opener.opened == 1
        assert INFER in model.batchers

    @pytest.mark.anyio
    async def test_several_outputs_at_once_come_by_their_names(self, make, opener):
        model = make(ALL, later={INFER: opener})

        (found,) = await ended(model.infer(ROWS, Ticket(), [CODE, SCORE]))

        assert list(found) == [CODE, RECONSTRUCTION, SCORE]
        np.testing.assert_array_equal(found[CODE], halve(ROWS)[0])
        np.testing.assert_array_equal(found[RECONSTRUCTION], reconstruct(ROWS)[0])
        np.testing.assert_array_equal(found[SCORE], mark(ROWS)[0])
        assert opener.session.sizes == [5]

    @pytest.mark.anyio
    async def test_a_model_without_a_code_gives_the_other_two(self, make, opener):
        computes = {RECONSTRUCT: reconstruct, ANOMALY_SCORE: mark}
        opener.session.compute = lambda rows: (*reconstruct(rows), *mark(rows))
        model = make(computes, later={INFER: opener})

        (found,) = await ended(model.infer(ROWS, Ticket(), [RECONSTRUCTION, SCORE]))

        assert list(found) == [RECONSTRUCTION, SCORE]
        np.testing.assert_array_equal(found[SCORE], mark(ROWS)[0])

    @pytest.mark.anyio
    @pytest.mark.parametrize("outputs", [[CODE, RECONSTRUCTION], [CODE, SCORE]])
    async def test_a_large_model_gives_several_outputs_in_turn(self, make, outputs):
        model = make(PAIR)

        (found,) = await ended(model.infer(ROWS, Ticket(), outputs))

        assert [model.batchers[name]._session.sizes for name in (ENCODE, DECODE)] == [[5], [5]]
        np.testing.assert_array_equal(found[RECONSTRUCTION], reconstruct(ROWS)[0])
        assert (SCORE in found) == (SCORE in outputs)
        if SCORE in outputs:
            (scores,) = await ended(model.score(ROWS, Ticket()))
            np.testing.assert_array_equal(found[SCORE], scores)

    @pytest.mark.anyio
    async def test_a_closed_model_gives_no_outputs(self, make, opener):
        model = make(ALL, later={INFER: opener})
        model.close()

        (error,) = await ended(model.infer(ROWS, Ticket(), [CODE, SCORE]))

        assert isinstance(error, UnavailableError)

    @pytest.mark.anyio
    async def test_a_deadline_during_the_opening_is_answered_at_once(self, make, opener):
        model = make(ALL, later={INFER: opener})
        opener.gate.clear()

        (error,) = await ended(score_features(model, ROWS, Ticket(timeout_s=0.005)))

        was_opening = INFER not in model.batchers
        opener.gate.set()
        assert isinstance(error, DeadlineExceededError)
        assert was_opening

    @pytest.mark.anyio
    async def test_a_client_that_leaves_during_the_opening_does_not_stop_it(self, make, opener):
        model = make(ALL, later={INFER: opener})
        opener.gate.clear()
        leaver = asyncio.create_task(score_features(model, ROWS, Ticket()))
        stayer = asyncio.create_task(score_features(model, ROWS, Ticket()))
        await asyncio.to_thread(opener.started.wait, WAIT_S)
        leaver.cancel()
        await ended(leaver)
        opener.gate.set()

        ((scores, _),) = await ended(stayer)

        np.testing.assert_array_equal(scores, mark(ROWS)[0])
        assert opener.opened == 1

    @pytest.mark.anyio
    async def test_an_opening_that_fails_is_tried_again_by_the_next_request(self, make, opener):
        faults = iter([MemoryError("no room")])

        def open_at_the_second_try():
            for fault in faults:
                raise fault
            return opener()

        model = make(ALL, later={INFER: open_at_the_second_try})

        (error,) = await ended(score_features(model, ROWS, Ticket()))
        ((scores, _),) = await ended(score_features(model, ROWS, Ticket()))

        assert isinstance(error, MemoryError)
        np.testing.assert_array_equal(scores, mark(ROWS)[0])

    @pytest.mark.anyio
    async def test_what_is_opened_too_late_is_closed_again(self, make, opener):
        model = make(ALL, later={INFER: opener})
        opener.gate.clear()
        waiting = asyncio.create_task(score_features(model, ROWS, Ticket()))
        await asyncio.to_thread(opener.started.wait, WAIT_S)
        model.close()
        opener.gate.set()

        (error,) = await ended(waiting)

        assert isinstance(error, UnavailableError)
        assert opener.session.is_closed
        assert model.batchers == {}

    @pytest.mark.anyio
    async def test_nothing_is_opened_during_a_drain(self, make, opener):
        model = make(ALL, later={INFER: opener})
        await ended(model.drain())

        (error,) = await ended(score_features(model, ROWS, Ticket()))

        assert isinstance(error, UnavailableError)
        assert opener.opened == 0


class TestEnd:
    @pytest.mark.anyio
    async def test_a_drain_refuses_newcomers_of_every_operation(self, make):
        model = make(ALL)
        await ended(model.drain())

        errors = await ended(
            model.encode(ROWS, Ticket()),
            model.decode(ROWS, Ticket()),
            model.reconstruct(ROWS, Ticket()),
            model.score(ROWS, Ticket()),
        )

        assert [type(error) for error in errors] == [UnavailableError] * 4

    @pytest.mark.anyio
    @pytest.mark.parametrize("ask", ["reconstruct", "score"], ids=lambda name: name)
    async def test_a_drain_answers_who_is_between_encoder_and_decoder(self, make, ask):
        model = make(PAIR)
        encoder = model.batchers[ENCODE]._session
        encoder.hold()
        request = asyncio.create_task(getattr(model, ask)(ROWS, Ticket()))
        assert await asyncio.to_thread(encoder.started.acquire, timeout=WAIT_S)
        drain = asyncio.create_task(model.drain())
        await asyncio.sleep(0)
        encoder.release()

        answer, _ = await ended(request, drain)

        assert isinstance(answer, np.ndarray)
        assert len(answer) == len(ROWS)

    @pytest.mark.anyio
    async def test_a_drain_needs_no_decoder(self, make):
        assert await ended(make({ENCODE: halve}).drain()) == [None]

    @pytest.mark.anyio
    async def test_closing_drops_every_session(self, make, opener):
        model = make(ALL, later={INFER: opener})
        await ended(score_features(model, ROWS, Ticket()))
        sessions = [batcher._session for batcher in model.batchers.values()]

        model.close()

        assert len(sessions) == 5
        assert all(session.is_closed for session in sessions)

    @pytest.mark.anyio
    async def test_after_closing_the_model_is_unavailable(self, make):
        model = make(ALL)
        model.close()

        (error,) = await ended(model.encode(ROWS, Ticket()))

        assert isinstance(error, UnavailableError)

    @pytest.mark.anyio
    async def test_a_close_between_encoder_and_decoder_is_told_as_what_it_is(self, make):
        model = make(PAIR)
        encoder = model.batchers[ENCODE]._session
        encoder.hold()
        request = asyncio.create_task(model.reconstruct(ROWS, Ticket()))
        assert await asyncio.to_thread(encoder.started.acquire, timeout=WAIT_S)
        model.close()
        encoder.release()

        (error,) = await ended(request)

        assert isinstance(error, UnavailableError)
