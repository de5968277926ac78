"""The same row, the same bits: what is found of real graphs, and what a fixed batch mends."""

import asyncio
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from service.assembly import Engine, assemble
from service.blueprint import make_graphs, served_graphs, served_run
from service.errors import PackageError
from service.inference.invariance import affordable_batch
from service.inference.operations import ALL, ANOMALY_SCORE, DECODE, ENCODE, INFER, RECONSTRUCT
from service.inference.providers import CPU_PROVIDER, Device
from service.inference.session import OrtSession
from service.inference.ticket import Ticket
from service.packaging import answers, measure_batch_invariance
from service.repository.golden import read_golden_rows
from service.repository.packages import Location, read_package, scan
from tests import tiny
from tests.fakes import WAIT_S, FakeSession
from tests.scoring import score_features

BUNDLED = scan(Path(__file__).parents[2] / "models")
ROWS = np.random.default_rng(22).random((20, 4), np.float32)
EPSILON = np.float32(2**-10)  # of the tiny models


def write(models, pair, **more):
    return tiny.write(models, pair, ROWS[:5], code_shape=(4,), measure_invariance=True, **more)


def golden_rows(package):
    return read_golden_rows(package.files["golden.npz"])


class TestFindings:
    @pytest.mark.parametrize(
        ("pair", "reasons"),
        [
            (tiny.mixing(4, 4), []),
            (tiny.counting(), ["size"]),
            (tiny.numbering(), ["position"]),
            (tiny.quantising(), ["neighbours"]),
        ],
        ids=["nothing", "size", "position", "neighbours"],
    )
    def test_a_package_is_written_with_what_was_found(self, tmp_path, pair, reasons):
        measured = read_package(write(tmp_path, pair)).manifest.batch_invariance

        assert measured is not None
        touched = dict.fromkeys((ENCODE, RECONSTRUCT, ANOMALY_SCORE, INFER), reasons)
        assert measured.depends_on == touched | {DECODE: []}
        assert measured.invariant == (not reasons)
        assert (measured.largest_batch, measured.provider) == (128, CPU_PROVIDER)

    def test_a_large_model_is_tried_by_the_graphs_that_it_serves_with(self, tmp_path):
        package = read_package(write(tmp_path, tiny.mixing(4, 4)))
        graphs = make_graphs(package)

        assert set(served_graphs(package, graphs)) == {*ALL, INFER}
        assert set(served_graphs(package, graphs, join_max_bytes=10)) == {ENCODE, DECODE}

    def test_no_larger_batches_are_tried_than_the_model_is_served_in(self, tmp_path):
        measured = read_package(
            write(tmp_path, tiny.counting(), max_batch_rows=1)
        ).manifest.batch_invariance

        assert measured is not None
        assert (measured.invariant, measured.largest_batch) == (True, 1)

    def test_a_model_may_stay_untried(self, tmp_path):
        location = tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, measure_invariance=False)

        assert read_package(location).manifest.batch_invariance is None


class TestPromises:
    """``invariant`` in the manifest: every run has ``max_batch_rows`` rows."""

    @pytest.mark.parametrize(
        ("pair", "reason"),
        [(tiny.numbering(), "position"), (tiny.quantising(), "neighbours")],
        ids=["position", "neighbours"],
    )
    def test_one_that_a_fixed_batch_does_not_keep_is_refused(self, tmp_path, pair, reason):
        with pytest.raises(PackageError, match=f"depend on {reason} in batches of one size"):
            write(tmp_path, pair, max_batch_rows=8, invariant=True)

        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("pair", [tiny.numbering(), tiny.quantising()], ids=["place", "scale"])
    def test_in_batches_of_one_row_it_is_kept_by_every_model(self, tmp_path, pair):
        package = read_package(write(tmp_path, pair, max_batch_rows=1, invariant=True))

        assert package.manifest.batch_invariance is not None
        assert package.manifest.batch_invariance.invariant

    def test_golden_answers_and_scores_are_those_of_full_batches(self, tmp_path):
        package = read_package(write(tmp_path, tiny.counting(), max_batch_rows=8, invariant=True))

        given = answers(package, ROWS)

        np.testing.assert_array_equal(given["code"], ROWS + 8 * EPSILON)
        np.testing.assert_array_equal(golden_rows(package).answers["code"], given["code"][:5])
        np.testing.assert_allclose(given["score"], (8 * EPSILON) ** 2, rtol=1e-3)

    def test_what_was_found_holds_for_full_batches_alone(self, tmp_path):
        package = read_package(write(tmp_path, tiny.counting(), max_batch_rows=8, invariant=True))
        bare = replace(package, manifest=package.manifest.model_copy(update={"invariant": False}))

        kept, broken = (
            measure_batch_invariance(each, golden_rows(package)) for each in (package, bare)
        )

        assert (kept.invariant, kept.largest_batch) == (True, 8)
        assert broken.depends_on[ENCODE] == ["size"]


class TestServing:
    @pytest.fixture
    def plain(self, tmp_path):
        """A model whose answers depend on the size of the batch."""
        return read_package(tiny.write(tmp_path, tiny.counting(), ROWS[:5], code_shape=(4,)))

    @pytest.fixture
    def promising(self, tmp_path):
        """The same model, served in batches of 8 rows."""
        location = tiny.write(
            tmp_path,
            tiny.counting(),
            ROWS[:5],
            code_shape=(4,),
            max_batch_rows=8,
            invariant=True,
        )
        return read_package(location)

    @pytest.fixture
    def made(self):
        return []

    @pytest.fixture
    def engine(self, lanes, metrics, made):
        def make_session(graph, device):
            made.append(FakeSession(OrtSession(graph, device).run))
            return made[-1]

        return Engine(device=Device(), lanes=lanes, make_session=make_session, metrics=metrics)

    async def encode(self, live, *requests):
        async with asyncio.timeout(WAIT_S):
            return await asyncio.gather(
                *(live.autoencoder.encode(rows, Ticket()) for rows in requests)
            )

    @pytest.mark.anyio
    async def test_without_the_promise_company_changes_the_answer(self, plain, engine):
        live = assemble(plain, engine)

        (alone,) = await self.encode(live, ROWS[:1])
        first, second = await self.encode(live, ROWS[:1], ROWS[1:3])

        np.testing.assert_array_equal(alone, ROWS[:1] + EPSILON)
        np.testing.assert_array_equal(first, ROWS[:1] + 3 * EPSILON)
        np.testing.assert_array_equal(second, ROWS[1:3] + 3 * EPSILON)

    @pytest.mark.anyio
    @pytest.mark.parametrize("server_rows", [64, 3])
    async def test_with_it_the_bits_are_the_same_alone_in_company_and_in_pieces(
        self, promising, engine, server_rows
    ):
        live = assemble(promising, replace(engine, max_batch_rows=server_rows))

        for rows in range(1, 9):
            (alone,) = await self.encode(live, ROWS[:rows])
            np.testing.assert_array_equal(alone, ROWS[:rows] + 8 * EPSILON)
        one, all_of_them, two = await self.encode(live, ROWS[:1], ROWS, ROWS[:2])

        np.testing.assert_array_equal(one, ROWS[:1] + 8 * EPSILON)
        np.testing.assert_array_equal(all_of_them, ROWS + 8 * EPSILON)
        np.testing.assert_array_equal(two, ROWS[:2] + 8 * EPSILON)

    @pytest.mark.anyio
    async def test_every_run_of_every_graph_has_the_size_of_the_manifest(
        self, promising, engine, made
    ):
        live = assemble(promising, engine)

        await self.encode(live, ROWS[:1], ROWS)
        async with asyncio.timeout(WAIT_S):
            await score_features(live.autoencoder, ROWS[:3], Ticket())

        assert len(made) == 5
        assert {size for session in made for size in session.sizes} == {8}

    def test_the_cost_of_a_run_is_the_same_for_any_rows(self, promising, engine):
        batchers = assemble(promising, engine).autoencoder.batchers

        assert batchers[ENCODE].cost.rows == (1, 8)

    def test_on_a_gpu_too_there_is_only_the_one_size(self, promising, engine, made):
        def make_session(graph, _):
            made.append(FakeSession(OrtSession(graph, Device()).run))
            return made[-1]

        assemble(promising, replace(engine, device=Device("cuda"), make_session=make_session))

        assert {size for session in made for size in session.sizes} == {8}


@pytest.mark.slow
@pytest.mark.parametrize("location", BUNDLED, ids=str)
class TestBundledModels:
    @pytest.mark.parametrize("operation", [*ALL, INFER])
    def test_a_row_has_the_same_bits_in_every_batch_at_every_place(
        self, location: Location, operation
    ):
        package = read_package(location)
        graph = served_graphs(package, make_graphs(package)).get(operation)
        if graph is None:
            pytest.skip("the model has no such operation")
        run = served_run(OrtSession(graph, Device()), package.manifest)
        rows = rows_for(package, operation)
        alone = [run(row[None]) for row in rows]

        for batch, shift, places in batches(rows):
            outputs = run(batch)
            for place in places:
                got = [output[place].tobytes() for output in outputs]
                assert got == [output[0].tobytes() for output in alone[shift + place]], batch.shape

    def test_the_manifest_says_what_is_found(self, location):
        package = read_package(location)

        found = measure_batch_invariance(package, golden_rows(package))

        stated = package.manifest.batch_invariance
        assert stated is not None
        assert stated.invariant
        assert (stated.invariant, stated.depends_on) == (found.invariant, found.depends_on)
        assert (stated.largest_batch, stated.provider) == (found.largest_batch, found.provider)


def rows_for(package, operation):
    """128 rows of values that are hardly ever equal, as far as the model's own rows allow."""
    golden = golden_rows(package)
    sample = golden.answers["code"] if operation == DECODE else golden.rows
    random = np.random.default_rng(23)
    chosen = sample[random.integers(len(sample), size=128)]
    return (chosen * random.random(chosen.shape)).astype(sample.dtype)


def batches(rows):
    """Batches of 1 to 64 of *rows* from one of them on, and the places of those left as they are.

    All of them, and every second one between rows of NaN, infinity, huge numbers or zeros.
    """
    for size in range(1, 65):
        batch = rows[size : 2 * size]
        yield batch, size, range(size)
        extreme = (np.inf, -np.finfo(rows.dtype).max, 0)[size % 3]
        for value, first in product((np.nan, extreme), (0, 1)):
            spoilt = batch.copy()
            spoilt[1 - first :: 2] = value
            yield spoilt, size, range(first, size, 2)


class TestAffordableBatches:
    """What a run costs decides how large the batches are that are tried."""

    @staticmethod
    def affordable(row_s, budget_s):
        """For a run that takes *row_s* a row by a clock of its own."""
        now_s = 0.0

        def run(rows):
            nonlocal now_s
            now_s += row_s * len(rows)
            return (rows,)

        return affordable_batch(run, ROWS, largest=128, budget_s=budget_s, clock=lambda: now_s)

    def test_a_quick_run_is_tried_at_every_size(self):
        assert self.affordable(1e-6, 1) == 128

    def test_a_slow_one_only_in_smaller_batches(self):
        assert self.affordable(0.01, 2) == 2

    def test_without_time_there_is_nothing_to_try(self):
        assert self.affordable(0.01, 0) == 1

    def test_the_record_says_what_was_tried(self, tmp_path):
        package = read_package(write(tmp_path, tiny.mixing(4, 4)))

        found = measure_batch_invariance(package, golden_rows(package), budget_s=0)

        assert found.largest_batch == 1
        assert found.invariant


class TestServedRuns:
    def test_no_run_has_more_rows_than_the_manifest_allows(self, tmp_path):
        package = read_package(write(tmp_path, tiny.quantising(), max_batch_rows=1))
        session = OrtSession(make_graphs(package).encode or b"", Device())

        together = served_run(session, package.manifest)(ROWS)[0]

        alone = [session.run(row[None])[0] for row in ROWS]
        np.testing.assert_array_equal(together, np.concatenate(alone))
