import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from service.assembly import Engine
from service.errors import (
    ConfigurationError,
    UnavailableError,
    UnknownModelError,
    UnsupportedOperationError,
)
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.inference.ticket import Ticket
from service.registry import Registry
from tests import tiny
from tests.fakes import WAIT_S, FakeSession
from tests.scoring import score_features

ROWS = np.random.default_rng(13).random((3, 4), np.float32)


@pytest.fixture
def sessions():
    return []


@pytest.fixture
def make(tmp_path, lanes, metrics, sessions):
    def make(*, before: Callable[[], None] = lambda: None, **options):
        def make_session(graph, device):
            before()
            sessions.append(FakeSession(OrtSession(graph, device).run, control_flow=True))
            return sessions[-1]

        engine = Engine(
            device=Device(),
            lanes=lanes,
            make_session=make_session,
            metrics=metrics,
            max_batch_rows=2,
        )
        registry = Registry(tmp_path, engine, **options)
        registry.discover()
        return registry

    return make


@pytest.fixture
def write(tmp_path):
    def write(name="ecg", version=1):
        return tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, name=name, version=version)

    return write


@pytest.fixture
def damage(write):
    def damage(name="ecg", version=1):
        location = write(name, version)
        (location.folder / "encoder.onnx").unlink()

    return damage


@pytest.fixture
def series(metrics):
    def series():
        samples = [s for family in metrics.registry.collect() for s in family.samples]
        return {s.name for s in samples if "model" in s.labels}

    return series


async def ended(*awaitables):
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*awaitables, return_exceptions=True)


class TestFinding:
    @pytest.mark.anyio
    async def test_without_a_version_the_newest_that_serves_answers(self, make, write, damage):
        write(version=1)
        write(version=2)
        damage(version=3)
        registry = make()
        await ended(registry.load())

        assert registry.resolve("ecg").version == "2"

    @pytest.mark.anyio
    async def test_versions_are_numbers_and_not_text(self, make, write):
        write(version=9)
        write(version=10)
        registry = make()
        await ended(registry.load())

        assert registry.resolve("ecg").version == "10"

    @pytest.mark.anyio
    async def test_a_version_that_is_asked_for_answers_itself(self, make, write):
        write(version=1)
        write(version=2)
        registry = make()
        await ended(registry.load())

        assert registry.resolve("ecg", "1").version == "1"

    def test_a_model_that_is_not_there_is_unknown(self, make):
        with pytest.raises(UnknownModelError, match="no such model"):
            make().resolve("ecg")

    @pytest.mark.parametrize("version", ["2", "01", "1.0", "-1", "", "A"], ids=repr)
    def test_a_version_that_is_not_there_is_unknown_and_those_there_are_named(
        self, make, write, version
    ):
        write()

        with pytest.raises(UnknownModelError, match="no such version") as caught:
            make().resolve("ecg", version)

        assert caught.value.expected == "1"

    @pytest.mark.parametrize("label", ["stable", "v1", "canary-2"], ids=str)
    def test_a_label_that_a_model_does_not_have_is_refused(self, make, write, label):
        write()

        with pytest.raises(UnsupportedOperationError, match="label"):
            make().resolve("ecg", label)

    def test_a_model_that_is_still_loading_is_unavailable(self, make, write):
        write()

        with pytest.raises(UnavailableError, match="is being loaded"):
            make().resolve("ecg")

    @pytest.mark.anyio
    async def test_a_model_that_could_not_be_loaded_is_unavailable(self, make, damage):
        damage()
        registry = make()
        await ended(registry.load())

        with pytest.raises(UnavailableError, match="could not be loaded"):
            registry.resolve("ecg")

    def test_entries_come_by_name_and_oldest_first(self, make, write):
        for name, version in (("b", 1), ("a", 2), ("a", 10)):
            write(name, version)

        registry = make()

        assert [str(entry.location) for entry in registry.entries()] == ["a/2", "a/10", "b/1"]
        assert [entry.location.version for entry in registry.versions("a")] == [2, 10]


class TestLoading:
    @pytest.mark.anyio
    async def test_a_bad_package_is_left_out_loudly_while_others_serve(
        self, make, write, damage, caplog
    ):
        damage("bad")
        write("good")
        registry = make()

        await ended(registry.load())

        (bad,), (good,) = registry.versions("bad"), registry.versions("good")
        assert (bad.state, bad.reason) == ("failed", "encoder.onnx is missing")
        assert (good.state, good.reason) == ("ready", None)
        assert good.manifest.name == "good"
        assert "model bad/1 is left out: encoder.onnx is missing" in caplog.text

    @pytest.mark.anyio
    async def test_a_fault_that_nobody_foresaw_takes_no_other_model_along(self, make, write):
        def fail_once():
            for fault in faults:
                raise fault

        write("a")
        write("b")
        faults = iter([ZeroDivisionError()])
        registry = make(before=fail_once)

        await ended(registry.load())

        states = {entry.state: entry.reason for entry in registry.entries()}
        assert states == {"failed": "it cannot be loaded", "ready": None}

    @pytest.mark.anyio
    async def test_a_model_that_serves_is_marked_so(self, make, write, metrics):
        write()

        await ended(make().load())

        labels = {"model": "ecg", "version": "1"}
        assert metrics.registry.get_sample_value("hourglass_model_ready", labels) == 1

    def test_a_repository_that_is_not_there_stops_the_start(self, make, tmp_path):
        tmp_path.rmdir()

        with pytest.raises(ConfigurationError):
            make()


class TestReadiness:
    def test_a_registry_that_has_loaded_nothing_is_not_ready(self, make, write):
        write()
        registry = make()

        assert not registry.is_ready
        assert registry.not_ready() == ["ecg/1 is loading"]

    def test_an_empty_repository_is_ready_for_what_it_has(self, make):
        assert make().is_ready

    @pytest.mark.anyio
    async def test_without_a_list_every_model_is_required(self, make, write, damage):
        write("good")
        damage("bad")
        registry = make()
        await ended(registry.load())

        assert registry.not_ready() == ["bad/1 is failed"]

    @pytest.mark.anyio
    @pytest.mark.parametrize("required", ["good", "good/1"], ids=str)
    async def test_with_a_list_only_those_on_it_are_required(self, make, write, damage, required):
        write("good")
        damage("bad")
        registry = make(required=[required])
        await ended(registry.load())

        assert registry.is_ready

    @pytest.mark.anyio
    async def test_a_required_model_that_is_missing_is_named(self, make, write, caplog):
        write()
        registry = make(required=["ecg", "ecg/2", "eeg"])
        await ended(registry.load())

        assert registry.not_ready() == [
            "ecg/2 is not in the repository",
            "eeg is not in the repository",
        ]
        assert "the required model eeg is not in the repository" in caplog.text


class TestEnd:
    @pytest.mark.anyio
    async def test_a_drain_answers_who_waits_and_refuses_who_comes(self, make, write, sessions):
        write()
        registry = make()
        await ended(registry.load())
        model = registry.resolve("ecg").autoencoder
        encode = sessions[0]
        while encode.started.acquire(blocking=False):
            pass  # the runs of its trial
        encode.hold()
        waiting = asyncio.create_task(model.encode(ROWS, Ticket()))
        assert await asyncio.to_thread(encode.started.acquire, timeout=WAIT_S)
        drain = asyncio.create_task(registry.drain())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        newcomer = asyncio.create_task(model.encode(ROWS, Ticket()))
        await asyncio.sleep(0)
        encode.release()

        codes, refusal, _ = await ended(waiting, newcomer, drain)

        np.testing.assert_array_equal(codes, ROWS[:, :2])
        assert isinstance(refusal, UnavailableError)

    @pytest.mark.anyio
    async def test_closing_drops_sessions_and_series(self, make, write, sessions, series):
        write()
        registry = make()
        await ended(registry.load())
        series_before = series()

        registry.close()

        assert "hourglass_model_ready" in series_before
        assert series() == set()
        assert [session.is_closed for session in sessions] == [True] * 4
        with pytest.raises(UnavailableError):
            registry.resolve("ecg")

    @pytest.mark.anyio
    async def test_a_withdrawn_model_is_not_resolved_and_its_sessions_stay(
        self, make, write, sessions, metrics
    ):
        write()
        registry = make()
        await ended(registry.load())

        registry.withdraw()

        labels = {"model": "ecg", "version": "1"}
        assert metrics.registry.get_sample_value("hourglass_model_ready", labels) == 0
        with pytest.raises(UnavailableError, match="device is lost"):
            registry.resolve("ecg")
        assert not any(session.is_closed for session in sessions)

    @pytest.mark.anyio
    async def test_a_model_that_is_loaded_too_late_is_dropped_again(
        self, make, write, sessions, series
    ):
        started, gate = threading.Event(), threading.Event()

        def wait():
            started.set()
            assert gate.wait(WAIT_S)

        write()
        registry = make(before=wait)
        loading = asyncio.create_task(registry.load())
        await asyncio.to_thread(started.wait, WAIT_S)
        registry.close()
        gate.set()

        await ended(loading)

        assert len(sessions) == 4
        assert all(session.is_closed for session in sessions)
        assert series() == set()

    @pytest.mark.anyio
    async def test_what_is_opened_after_the_close_starts_no_series(self, make, write, series):
        gate, started = threading.Event(), threading.Event()
        gate.set()

        def wait():
            started.set()
            assert gate.wait(WAIT_S)

        write()
        registry = make(before=wait)
        await ended(registry.load())
        model = registry.resolve("ecg").autoencoder
        started.clear()
        gate.clear()
        waiting = asyncio.create_task(score_features(model, ROWS, Ticket()))
        await asyncio.to_thread(started.wait, WAIT_S)
        registry.close()
        gate.set()

        (error,) = await ended(waiting)

        assert isinstance(error, UnavailableError)
        assert series() == set()
