import asyncio
import gc
import weakref
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from service.assembly import Engine, assemble
from service.errors import (
    DeviceLostError,
    DeviceUnavailableError,
    InferenceError,
    PackageError,
    UnavailableError,
)
from service.inference.operations import ANOMALY_SCORE, DECODE, ENCODE, INFER, RECONSTRUCT
from service.inference.providers import CPU_PROVIDER, Device, DeviceOptions
from service.inference.session import OrtSession
from service.inference.ticket import Ticket
from service.repository.golden import GoldenRows, read_golden_rows
from service.repository.packages import Package, read_package
from service.scoring.calibration import read_calibration
from service.specs import ImageSpec
from tests import tiny
from tests.fakes import WAIT_S, FakeSession
from tests.scoring import score_features

ROWS = np.random.default_rng(8).random((5, 4), np.float32)


@pytest.fixture
def engine(lanes, metrics):
    return Engine(
        device=Device(), lanes=lanes, make_session=OrtSession, metrics=metrics, max_batch_rows=8
    )


@pytest.fixture
def tabular(tmp_path):
    return read_package(tiny.write_tabular(tmp_path))


@pytest.fixture
def series(metrics):
    """The names of this model's series, as Prometheus would see them."""

    def series():
        samples = [s for family in metrics.registry.collect() for s in family.samples]
        return {s.name for s in samples if "model" in s.labels}

    return series


def with_file(package, name, data):
    """The same package with another file, and a manifest that knows it."""
    record = package.manifest.files[name].model_copy(
        update={"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    )
    manifest = package.manifest.model_copy(
        update={"files": {**package.manifest.files, name: record}}
    )
    return Package(manifest, {**package.files, name: data})


async def ended(*awaitables):
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*awaitables)


class TestLiveModel:
    def test_it_says_what_it_is_and_where_it_runs(self, tabular, engine):
        live = assemble(tabular, engine)

        assert (live.name, live.version) == ("tabular", "1")
        assert live.provider == CPU_PROVIDER
        assert live.nodes[ENCODE] == {CPU_PROVIDER: 1}
        assert {*live.nodes, INFER} == set(live.operation_metrics)
        assert live.calibration is not None
        assert live.default_rule.threshold == live.calibration.threshold("mse", 0.01)

    def test_without_calibration_there_is_no_threshold(self, tmp_path, engine):
        package = read_package(tiny.write(tmp_path, tiny.keeping(4, 2), ROWS))

        live = assemble(package, engine)

        assert live.calibration is None
        assert live.default_rule.threshold is None

    @pytest.mark.anyio
    async def test_its_answers_can_be_computed_by_hand(self, tabular, engine):
        model = assemble(tabular, engine).autoencoder

        codes, whole, scores, (same, errors) = await ended(
            model.encode(ROWS, Ticket()),
            model.reconstruct(ROWS, Ticket()),
            model.score(ROWS, Ticket()),
            score_features(model, ROWS, Ticket()),
        )

        np.testing.assert_array_equal(codes, ROWS[:, :2])
        np.testing.assert_array_equal(whole, ROWS * [1, 1, 0, 0])
        np.testing.assert_allclose(scores, np.square(ROWS[:, 2:]).sum(axis=1) / 4, rtol=1e-6)
        np.testing.assert_array_equal(same, scores)
        np.testing.assert_allclose(errors, np.square(ROWS * [0, 0, 1, 1]), rtol=1e-6)

    @pytest.mark.anyio
    async def test_decoding_a_code_gives_the_bits_of_the_reconstruction(self, tmp_path, engine):
        package = read_package(tiny.write(tmp_path, tiny.mixing(4, 2), ROWS))
        model = assemble(package, engine).autoencoder

        (codes,) = await ended(model.encode(ROWS, Ticket()))
        decoded, whole = await ended(
            model.decode(codes, Ticket()), model.reconstruct(ROWS, Ticket())
        )

        np.testing.assert_array_equal(decoded, whole)

    @pytest.mark.anyio
    async def test_an_encoder_alone_has_one_operation(self, tmp_path, engine):
        encoder, _ = tiny.keeping(4, 2)
        package = read_package(tiny.write(tmp_path, (encoder, None), ROWS))

        live = assemble(package, engine)

        assert live.autoencoder.operations == [ENCODE]

    @pytest.mark.anyio
    async def test_pictures_of_any_size_are_taken(self, tmp_path, engine):
        package = read_package(
            tiny.write(
                tmp_path,
                tiny.halving_pictures(),
                np.ones((2, 1, 3, 5), np.float32),
                value_range=(0, 1),
                image=ImageSpec(),
                shape=(1, None, None),
                code_shape=(1, None, None),
            )
        )
        picture = np.random.default_rng(9).random((1, 1, 6, 7), np.float32)

        (whole,) = await ended(assemble(package, engine).autoencoder.reconstruct(picture, Ticket()))

        np.testing.assert_array_equal(whole, picture / 2)

    def test_a_free_axis_is_tried_at_some_length_where_no_golden_rows_say_better(
        self, tmp_path, engine
    ):
        location = tiny.write(
            tmp_path,
            tiny.halving_pictures(),
            np.ones((2, 1, 3, 5), np.float32),
            value_range=(0, 1),
            shape=(1, None, None),
            code_shape=(1, None, None),
        )
        package = read_package(location)
        bare = Package(package.manifest.model_copy(update={"golden": None}), package.files)
        made = []

        def make_session(graph, device):
            made.append(FakeSession(OrtSession(graph, device).run))
            return made[-1]

        assemble(bare, replace(engine, make_session=make_session))

        assert {batch.shape[1:] for fake in made for batch in fake.batches} == {(1, 64, 64)}

    def test_a_model_may_ask_for_smaller_batches(self, tmp_path, engine):
        package = read_package(tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, max_batch_rows=3))

        live = assemble(package, engine)

        assert live.autoencoder.batchers[ENCODE].cost.rows == (1, 2, 3)

    def test_on_a_gpu_batches_are_padded_to_the_sizes_that_were_warmed(self, tabular, engine):
        made: list[FakeSession] = []

        def make_session(graph, _):
            made.append(FakeSession(OrtSession(graph, Device()).run))
            return made[-1]

        gpu = replace(engine, device=Device("cuda"), make_session=make_session)

        batchers = assemble(tabular, gpu).autoencoder.batchers

        assert batchers[ENCODE]._buckets == [1, 2, 4, 8]
        assert set(made[0].sizes) >= {1, 2, 4, 8}

    @pytest.mark.anyio
    async def test_a_manifest_says_how_every_session_of_its_model_is_made(self, tmp_path, engine):
        package = read_package(
            tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, runtime={"intra_op_threads": 2})
        )
        devices = []

        def make_session(graph, device):
            devices.append(device)
            return OrtSession(graph, device)

        live = assemble(package, replace(engine, make_session=make_session))
        await ended(score_features(live.autoencoder, ROWS, Ticket()))

        assert devices == [Device(options=DeviceOptions(intra_op_threads=2))] * 5
        assert live.device == devices[0]

    def test_a_gpu_of_the_manifest_that_does_not_work_is_refused(self, tmp_path, engine):
        package = read_package(
            tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, runtime={"device_id": 99})
        )

        with pytest.raises(DeviceUnavailableError, match="asks for cuda:99"):
            assemble(package, replace(engine, device=Device("cuda")))


class TestRefusals:
    def test_golden_answers_that_are_not_given_any_more(self, tabular, engine):
        golden = read_golden_rows(tabular.files["golden.npz"])
        wrong = GoldenRows(golden.rows, {**golden.answers, "score": golden.answers["score"] + 1})

        with pytest.raises(PackageError, match="'anomaly-score' does not give the answers"):
            assemble(with_file(tabular, "golden.npz", wrong.to_bytes()), engine)

    def test_golden_answers_of_another_shape(self, tabular, engine):
        golden = read_golden_rows(tabular.files["golden.npz"])
        wrong = GoldenRows(golden.rows, {**golden.answers, "code": golden.answers["code"][:, :1]})

        with pytest.raises(PackageError, match=r"stored with the golden rows|fails on the rows"):
            assemble(with_file(tabular, "golden.npz", wrong.to_bytes()), engine)

    def test_golden_rows_that_the_model_does_not_take(self, tabular, engine):
        golden = read_golden_rows(tabular.files["golden.npz"])
        wrong = GoldenRows(golden.rows[:, :3], golden.answers)

        with pytest.raises(PackageError, match="fails on the rows"):
            assemble(with_file(tabular, "golden.npz", wrong.to_bytes()), engine)

    def test_golden_rows_that_are_no_archive(self, tabular, engine):
        with pytest.raises(PackageError, match="golden rows cannot be read"):
            assemble(with_file(tabular, "golden.npz", b"nothing"), engine)

    def test_golden_rows_without_an_answer_of_a_graph(self, tabular, engine):
        golden = read_golden_rows(tabular.files["golden.npz"])
        answers = {name: golden.answers[name] for name in ("code", "reconstruction")}

        with pytest.raises(PackageError, match="no score to compare with"):
            assemble(
                with_file(tabular, "golden.npz", GoldenRows(golden.rows, answers).to_bytes()),
                engine,
            )

    def test_loading_ends_when_the_server_stops(self, tabular, engine):
        made = []

        def make_session(graph, device):
            made.append(OrtSession(graph, device))
            return made[-1]

        stopping = replace(engine, make_session=make_session)
        stopping.stopping.set()

        with pytest.raises(UnavailableError):
            assemble(tabular, stopping)
        assert made
        assert all(session._session is None for session in made)

    def test_weights_that_were_changed_do_not_give_the_golden_answers(self, tabular, engine):
        other, _ = tiny.mixing(4, 2)

        with pytest.raises(PackageError, match="'encode' does not give the answers"):
            assemble(with_file(tabular, "encoder.onnx", other), engine)

    def test_the_calibration_of_another_model(self, tabular, engine):
        calibration = read_calibration(tabular.files["calibration.npz"])
        other = replace(calibration, model_sha256="0" * 64)

        with pytest.raises(PackageError, match="belongs to another model"):
            assemble(with_file(tabular, "calibration.npz", other.to_bytes()), engine)

    def test_a_graph_that_miscounts_its_rows(self, tmp_path, engine):
        package = read_package(tiny.write(tmp_path, tiny.keeping(4, 2), ROWS))
        bare = Package(package.manifest.model_copy(update={"golden": None}), package.files)

        def make_session(*_):
            return FakeSession(lambda rows: (rows[:1],))

        with pytest.raises(PackageError, match="does not give 2 rows for 2 rows"):
            assemble(bare, replace(engine, make_session=make_session))

    def test_a_manifest_without_any_graph(self, tabular, engine):
        graphs = tabular.manifest.graphs.model_copy(update={"encoder": None})
        manifest = tabular.manifest.model_copy(update={"graphs": graphs})

        with pytest.raises(PackageError, match="names no encoder"):
            assemble(Package(manifest, tabular.files), engine)


class TestLoss:
    """What is open on a lost device stays open: to close it would end the process."""

    def test_a_device_that_is_lost_by_a_trial_is_told_of(self, tabular, engine):
        made, told = [], []

        def lose(_):
            raise DeviceLostError("the device failed")

        def make_session(*_):
            made.append(FakeSession(lose))
            return made[-1]

        losing = replace(
            engine, make_session=make_session, on_device_lost=lambda: told.append(True)
        )

        with pytest.raises(DeviceLostError):
            assemble(tabular, losing)
        assert told == [True]
        assert losing.lost
        assert not any(session.is_closed for session in made)

    @pytest.mark.anyio
    async def test_a_device_that_is_lost_by_the_graph_of_everything_is_told_of(
        self, tabular, engine
    ):
        told: list[bool] = []
        late: list[FakeSession] = []

        def make_session(graph, device):
            if live is None:
                return OrtSession(graph, device)
            late.append(FakeSession(lose))
            return late[-1]

        def lose(_):
            raise DeviceLostError("the device failed")

        losing = replace(
            engine, make_session=make_session, on_device_lost=lambda: told.append(True)
        )
        live = None
        live = assemble(tabular, losing)

        with pytest.raises(DeviceLostError):
            await ended(score_features(live.autoencoder, ROWS, Ticket()))
        assert told == [True]
        assert losing.lost == late
        assert not late[0].is_closed


class TestLargeModels:
    @pytest.fixture
    def large(self, tmp_path, engine):
        package = read_package(tiny.write(tmp_path, tiny.mixing(4, 2), ROWS))
        return (
            assemble(package, engine).autoencoder,
            assemble(package, replace(engine, join_max_bytes=10)).autoencoder,
        )

    def test_only_encoder_and_decoder_are_opened(self, large):
        joined, in_turn = large

        assert set(joined.batchers) == {ENCODE, DECODE, RECONSTRUCT, ANOMALY_SCORE}
        assert set(in_turn.batchers) == {ENCODE, DECODE}
        assert in_turn.operations == joined.operations

    @pytest.mark.anyio
    async def test_they_give_the_same_answers_in_turn(self, large):
        answers = [
            await ended(
                model.encode(ROWS, Ticket()),
                model.reconstruct(ROWS, Ticket()),
                model.score(ROWS, Ticket()),
            )
            for model in large
        ]

        for joined, in_turn in zip(*answers, strict=True):
            np.testing.assert_allclose(in_turn, joined, rtol=1e-6)

    @pytest.mark.anyio
    async def test_heat_maps_need_no_further_graph(self, large):
        (scores, errors), (same, _) = await ended(
            score_features(large[1], ROWS, Ticket()), score_features(large[0], ROWS, Ticket())
        )

        np.testing.assert_allclose(scores, same, rtol=1e-6)
        assert errors.shape == ROWS.shape
        assert INFER not in large[1].batchers


class TestEnd:
    def test_series_exist_once_a_model_is_loaded(self, tabular, engine, series):
        assert series() == set()

        assemble(tabular, engine)

        assert {
            "hourglass_queue_rows",
            "hourglass_batches_total",
            "hourglass_model_info",
            "hourglass_graph_nodes",
            "hourglass_anomaly_score_ratio_count",
        } <= series()

    def test_a_model_that_cannot_be_loaded_leaves_no_series(self, tabular, engine, series):
        golden = read_golden_rows(tabular.files["golden.npz"])
        wrong = GoldenRows(golden.rows, {"score": golden.answers["score"] + 1})

        with pytest.raises(PackageError):
            assemble(with_file(tabular, "golden.npz", wrong.to_bytes()), engine)

        assert series() == set()

    def test_a_model_that_cannot_be_loaded_leaves_no_session_open(self, tabular, engine):
        sessions: list[FakeSession] = []

        def make_session(graph, device):
            if len(sessions) == 2:
                raise DeviceUnavailableError("no room")
            sessions.append(FakeSession())
            return sessions[-1]

        with pytest.raises(DeviceUnavailableError):
            assemble(tabular, replace(engine, make_session=make_session))

        assert [session.is_closed for session in sessions] == [True, True]

    @pytest.mark.anyio
    async def test_a_graph_of_everything_that_fails_its_trial_is_closed(self, tabular, engine):
        sessions: list[FakeSession] = []

        def make_session(graph, device):
            real = OrtSession(graph, device)
            is_fifth = len(sessions) == 4
            sessions.append(FakeSession(real.run, fails=lambda _: is_fifth))
            return sessions[-1]

        model = assemble(tabular, replace(engine, make_session=make_session)).autoencoder

        with pytest.raises(InferenceError):
            await ended(score_features(model, ROWS, Ticket()))

        assert [session.is_closed for session in sessions] == [False] * 4 + [True]

    @pytest.mark.anyio
    async def test_closing_sets_every_session_of_the_runtime_free(self, tabular, engine):
        held = []

        def make_session(graph, device):
            session = OrtSession(graph, device)
            held.append(weakref.ref(session._session))
            return session

        live = assemble(tabular, replace(engine, make_session=make_session))
        await ended(score_features(live.autoencoder, ROWS, Ticket()))
        gc.collect()
        alive_before = [ref() is not None for ref in held]

        live.autoencoder.close()
        gc.collect()

        assert alive_before == [True] * 5
        assert [ref() for ref in held] == [None] * 5
