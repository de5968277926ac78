"""A repository with every kind of model, and sessions that can be held."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.inference.providers import Device
from service.inference.session import OrtSession
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.specs import ImageSpec, Rows, TensorSpec
from tests import tiny
from tests.conftest import serve
from tests.fakes import FakeSession


class Workshop:
    """Makes sessions that answer as the real ones do, and can be held or made to fail."""

    def __init__(self, fails: Callable[[Rows], bool] = lambda _: False) -> None:
        self.sessions: list[FakeSession] = []
        self.fails = fails

    def __call__(self, graph: bytes, device: Device) -> FakeSession:
        real = OrtSession(graph, device)
        session = FakeSession(real.run, fails=self.fails, control_flow=True)
        self.sessions.append(session)
        return session

    def hold(self) -> None:
        """Keep every further run; the runs of the warm-up are forgotten."""
        for session in self.sessions:
            session.batches.clear()
            session.hold()

    def release(self) -> None:
        for session in self.sessions:
            session.release()

    @property
    def batches(self) -> list[Rows]:
        return [batch for session in self.sessions for batch in session.batches]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with every kind of model; nobody may write to it."""
    folder = tmp_path_factory.mktemp("zoo")
    rng = np.random.default_rng(5)
    tiny.write_tabular(folder)
    tiny.write_picture(folder)
    four, six = rng.random((4, 4), np.float32), rng.random((4, 6), np.float32)
    many = rng.random((999, 6), np.float32)
    mixing = tiny.mixing(6, 3)
    tiny.write(folder, mixing, six, name="mixed", calibration=many, code_shape=(3,))
    tiny.write(folder, tiny.keeping(4, 2), four, name="plain")
    tiny.write(folder, (tiny.keeping(4, 2)[0], None), four, name="encoder")
    tiny.write(folder, tiny.keeping(4, 2), four, name="other-kind", output_kind="a larger picture")
    tiny.write(folder, tiny.keeping(4, 2), four, name="few", calibration=many[:19, :4])
    tiny.write(folder, tiny.poison(), four, name="poison", code_shape=(1,))
    for version in (2, 9, 10):
        pair = tiny.mixing(6, 3, seed=version)
        tiny.write(folder, pair, six, name="aged", version=version, code_shape=(3,))
    _write_pictures(folder, rng)
    _write_integers(folder)
    _write_flawless(folder)
    tiny.write_layered(folder)
    return folder


def _write_pictures(folder: Path, rng: np.random.Generator) -> None:
    """One without calibration, and one of any size."""
    golden = rng.random((4, 1, 4, 4), np.float32)
    for name, shape, rows in (
        ("sketch", (1, 4, 4), None),
        ("any-size", (1, None, None), rng.random((200, 1, 4, 4), np.float32)),
    ):
        tiny.write(
            folder,
            tiny.halving_pictures(),
            golden,
            name=name,
            shape=shape,
            code_shape=shape,
            calibration=rows,
            value_range=(0, 1),
            image=ImageSpec(),
        )


def _write_integers(folder: Path) -> None:
    """An encoder that gives its 64-bit integers back."""
    ends = ("x", "int64", [2]), [("z", "int64", [2])]
    graph = tiny.graph([tiny.node("Identity", ["x"], ["z"])], *ends)
    spec = TensorSpec("int64", (2,))
    write_package(
        folder,
        Description(
            name="integers",
            version=1,
            graphs=GraphFiles(encoder="encoder.onnx"),
            input=spec,
            code=spec,
        ),
        {"encoder.onnx": graph},
        golden_rows=np.array([[1, 2]]),
    )


def _write_flawless(folder: Path) -> None:
    """A model that makes no error on nearly all of its calibration rows: its threshold is 0."""
    rows = np.zeros((999, 4), np.float32)
    rows[:4] = 1
    tiny.write(folder, tiny.keeping(4, 2), rows[:8], name="flawless", calibration=rows)


@pytest.fixture(scope="session")
def client(zoo: Path) -> Iterator[TestClient]:
    """The real app over the whole repository, for all tests that change nothing."""
    with serve(zoo) as client:
        yield client


@pytest.fixture(scope="session")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one model, which loads at once."""
    folder = tmp_path_factory.mktemp("tabular")
    tiny.write_tabular(folder)
    return folder


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """Sessions that are let go at the end, however the test ends."""
    made = Workshop()
    yield made
    made.release()
