"""Fixtures of all rings."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.assembly import SessionFactory
from service.inference.lane import Lane, Lanes
from service.metrics import Metrics
from service.settings import Settings
from tests import tiny
from tests.fakes import end

READY_WITHIN_S = 20.0

Serve = Callable[..., AbstractContextManager[TestClient]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        type=Path,
        default=None,
        help="folder with mnist/ and bsds500/, for the tests that measure the bundled models",
    )
    parser.addoption(
        "--cases",
        type=int,
        default=None,
        help="cases that schemathesis makes up for each operation and phase, over all paths and"
        " two models; without it a few, over the paths without a version and one model",
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("test")
    yield lane
    end(lane)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a tabular and a picture model; nobody may write to it."""
    folder = tmp_path_factory.mktemp("models")
    tiny.write_tabular(folder)
    tiny.write_picture(folder)
    return folder


@contextmanager
def serve(
    models: Path, *, sessions: SessionFactory | None = None, ready: bool = True, **settings: Any
) -> Iterator[TestClient]:
    """Run the real app in process, with its lifespan; wait until it is ready."""
    # one run at a time, so that a session that is held holds all
    settings.setdefault("parallel_runs", 1)
    app = create_app(Settings(models=models, device="cpu", **settings), sessions=sessions)
    with TestClient(app, raise_server_exceptions=False) as client:
        deadline = time.monotonic() + READY_WITHIN_S
        while ready and client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.005)
        yield client


@pytest.fixture(scope="session")
def client(models: Path) -> Iterator[TestClient]:
    """The real app over the tiny models, one for all tests that change nothing."""
    with serve(models) as client:
        yield client
