"""Rows, jobs and waits of the tests of a queue."""

import asyncio

import numpy as np

from service.inference.cost import CostModel
from service.inference.ticket import Ticket
from tests.fakes import WAIT_S

CHEAP = CostModel((1, 64), (1e-6, 1e-6))
DEAR = CostModel((1, 64), (1.0, 1.0))
# so cheap that 2 ms hold any batch, however slow the machine is just now
IN_PROPORTION = CostModel((1, 64), (1e-9, 64e-9))
LABELS = {"model": "m", "version": "1", "operation": "encode"}
LONG_S = 60.0  # a delay or deadline that no test lives to see
SOON_S = 0.005
AFTER_THE_START_S = 0.05  # longer than a busy machine takes to start a run


def rows_of(number, *, seed=0, features=4):
    """Random rows, so that mixed-up answers cannot be right by chance."""
    return np.random.default_rng(seed).random((number, features), np.float32)


def poisoned(number, *bad, seed=0):
    rows = rows_of(number, seed=seed)
    rows[list(bad), 0] = 9
    return rows


def is_poisoned(batch):
    return bool((batch[:, 0] >= 9).any())


def has_nine_in_second(batch):
    return bool((batch[:, 1] >= 9).any())


def nan_where_poisoned(batch):
    return (np.where(batch[:, :1] >= 9, np.float32(np.nan), batch * 2),)


def submit(batcher, rows, ticket=None):
    return asyncio.create_task(batcher.run(rows, ticket or Ticket()))


def leave(ticket):
    assert ticket.give_up is not None
    ticket.leave()


async def ended(*tasks):
    """Wait for all, and give their results or errors."""
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def run_has_started(session):
    assert await asyncio.to_thread(session.started.acquire, timeout=WAIT_S)


async def turns_of_the_loop(number=3):
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the end of a thread sets no event
            await asyncio.sleep(0.001)


async def hold_with_one_row(session, batcher):
    """Keep the device busy, so that whoever comes now waits for the next batch."""
    session.hold()
    holder = submit(batcher, rows_of(1, seed=99))
    await run_has_started(session)
    return holder


def assert_doubled(outputs, rows):
    assert isinstance(outputs, tuple), outputs
    np.testing.assert_array_equal(outputs[0], rows * 2)
