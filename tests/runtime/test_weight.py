"""What is left of a version that was closed: nothing."""

import asyncio
import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from service.assembly import Engine, LiveModel, assemble
from service.inference.memory import give_back_memory
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.inference.ticket import Ticket
from service.registry import Registry
from service.repository.packages import Location, read_package
from tests import tiny
from tests.fakes import WAIT_S
from tests.scoring import score_features

MODELS = Path(__file__).parents[2] / "models"
ROUNDS_WITHIN_S = 300.0
MIB = 2**20

on_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc can be asked for what was freed",
)


@pytest.fixture
def engine(lanes, metrics):
    return Engine(
        device=Device(), lanes=lanes, make_session=OrtSession, metrics=metrics, max_batch_rows=1
    )


def private_bytes() -> int:
    """Memory that this process alone has: heaps and stacks, no files and libraries."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


async def use(live: LiveModel) -> None:
    """Ask for everything once, so that all graphs are open and their queues have worked."""
    model, signature = live.autoencoder, live.autoencoder.signature
    rows = np.zeros((3, signature.input.size), np.float32)
    rows = rows.reshape(3, *(axis or 1 for axis in signature.input.shape))
    async with asyncio.timeout(WAIT_S):
        codes = await model.encode(rows, Ticket())
        await asyncio.gather(
            model.decode(codes, Ticket()),
            model.reconstruct(rows, Ticket()),
            model.score(rows, Ticket()),
            score_features(model, rows, Ticket()),
            *(model.layer(layer, rows, Ticket()) for layer in signature.layers),
            *([model.layers(rows, Ticket())] if signature.layers else []),
        )


def drop(live: LiveModel, engine: Engine) -> None:
    live.close()
    engine.metrics.remove(live.name, live.version)


@pytest.fixture
def freeze() -> Iterator[Callable[[], None]]:
    """As in the server: what is alive now is never looked at by the collector again."""

    def freeze() -> None:
        gc.collect()
        gc.freeze()
        gc.disable()

    yield freeze
    gc.unfreeze()
    gc.enable()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("write", "queues"),
    [(tiny.write_tabular, 5), (tiny.write_layered, 5 + 3 + 1)],
    ids=["without layers", "with three layers"],
)
async def test_a_frozen_version_is_gone_as_soon_as_it_is_closed(
    tmp_path, engine, freeze, write, queues
):
    held: list[weakref.ref[Any]] = []

    def make_session(graph, device):
        session = OrtSession(graph, device)
        held.extend((weakref.ref(session), weakref.ref(session._session)))
        return session

    package = read_package(write(tmp_path))
    live = assemble(package, replace(engine, make_session=make_session))
    await use(live)
    batchers = live.autoencoder.batchers.values()
    held += [weakref.ref(each) for each in (live.autoencoder, *batchers)]
    del batchers
    freeze()
    before = [ref() is not None for ref in held]

    drop(live, engine)
    del live
    # what was scheduled and is cancelled leaves the loop, and the thread of the last run its frame
    for _ in range(500):
        if all(ref() is None for ref in held):
            break
        await asyncio.sleep(0.01)

    assert before == [True] * (2 * queues + 1 + queues)
    assert [ref() for ref in held if ref() is not None] == []


@pytest.mark.anyio
async def test_what_was_read_from_its_files_goes_with_a_version(tmp_path, engine, freeze):
    package = read_package(tiny.write_tabular(tmp_path))
    live = assemble(package, engine)
    await use(live)
    gone = weakref.ref(package.manifest)
    freeze()

    drop(live, engine)
    del package, live

    assert gone() is None


class Files(dict[str, bytes]):
    """A package's files that can be watched."""


@pytest.mark.anyio
@pytest.mark.parametrize("write", [tiny.write_tabular, tiny.write_layered], ids=["plain", "layers"])
async def test_the_files_of_a_package_are_gone_once_it_is_live_and_all_it_does_still_works(
    tmp_path, engine, write
):
    package = read_package(write(tmp_path))
    files = Files(package.files)
    held = weakref.ref(files)
    package = replace(package, files=files)
    del files

    live = assemble(package, engine)
    del package
    gc.collect()

    assert held() is None
    await use(live)


@pytest.mark.anyio
@on_glibc
async def test_a_registry_that_is_closed_has_given_back_what_it_can(engine):
    registry = Registry(MODELS, replace(engine, max_batch_rows=64))
    registry.discover()
    await registry.load()
    assert registry.is_ready

    registry.close()
    closed = private_bytes()
    give_back_memory()

    assert closed - private_bytes() < 2 * MIB


@pytest.mark.slow
@pytest.mark.anyio
@on_glibc
@pytest.mark.parametrize("name", ["mnist-conv", "tabular"])
async def test_two_hundred_loads_and_closes_grow_memory_by_8_mib_at_most(name, tmp_path, engine):
    tiny.write_tabular(tmp_path)
    folder = (MODELS if name == "mnist-conv" else tmp_path) / name / "1"
    location = Location(name, 1, folder)

    def load() -> LiveModel:
        return assemble(read_package(location), engine)

    async def load_use_and_close() -> int:
        live = await asyncio.to_thread(load)  # as the registry does it: heaps are by thread
        await use(live)
        drop(live, engine)
        return private_bytes()

    async with asyncio.timeout(ROUNDS_WITHIN_S):
        bytes_after = [await load_use_and_close() for _ in range(220)]

    # of some rounds, because what a thread's heap keeps differs from one to the next
    assert median(bytes_after[-20:]) - median(bytes_after[:20]) <= 8 * MIB
