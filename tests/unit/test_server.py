"""When the server begins to end, tick by tick; ``tests/e2e/test_process.py`` has the whole way."""

import logging
import signal

import pytest
import uvicorn

from service.api.runtime import Lifecycle
from service.server import EXIT_DEVICE_LOST, Server

NEVER_S = 1e6


async def app(scope, receive, send):
    raise AssertionError("nobody asks")


def make(lifecycle, delay_s):
    return Server(uvicorn.Config(app, log_config=None), lifecycle, drain_delay_s=delay_s)


@pytest.mark.anyio
async def test_a_server_that_is_well_goes_on():
    server = make(Lifecycle(), 0)

    assert not await server.on_tick(1)


@pytest.mark.anyio
async def test_a_lost_device_begins_a_drain_that_the_log_tells_of_once(caplog):
    lifecycle = Lifecycle(is_device_lost=True)
    server = make(lifecycle, NEVER_S)

    ticks = [await server.on_tick(1) for _ in range(3)]

    assert ticks == [False] * 3
    assert lifecycle.is_draining
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [record.__dict__["exit_status"] for record in critical] == [EXIT_DEVICE_LOST]


@pytest.mark.anyio
async def test_after_the_delay_the_server_of_a_lost_device_ends():
    server = make(Lifecycle(is_device_lost=True), 0)

    assert await server.on_tick(1)


@pytest.mark.anyio
async def test_a_device_that_is_lost_during_a_drain_does_not_make_it_longer():
    lifecycle = Lifecycle()
    server = make(lifecycle, 0)
    server.handle_exit(signal.SIGTERM, None)
    lifecycle.is_device_lost = True

    assert await server.on_tick(1)


@pytest.mark.anyio
async def test_a_signal_does_not_wait_for_the_delay_of_a_lost_device():
    server = make(Lifecycle(is_device_lost=True), NEVER_S)
    await server.on_tick(1)

    server.handle_exit(signal.SIGTERM, None)

    assert await server.on_tick(1)
