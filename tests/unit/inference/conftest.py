"""A queue in front of a fake session."""

from collections.abc import Iterator

import pytest

from service.inference.batcher import Batcher
from service.inference.lane import Lane
from tests.fakes import end
from tests.unit.inference.jobs import DEAR, LABELS


@pytest.fixture
def make(lane, metrics):
    """Make a batcher whose runs go to the lane, unless a test says otherwise."""

    def make(session, *, on=lane, max_batch_rows=64, max_queue_rows=4096, cost=DEAR, **options):
        return Batcher(
            session,
            on,
            cost=cost,
            metrics=metrics.operation(*LABELS.values()),
            max_batch_rows=max_batch_rows,
            max_queue_rows=max_queue_rows,
            **options,
        )

    return make


@pytest.fixture
def batches_counted(metrics):
    def counted(reason):
        labels = LABELS | {"reason": reason}
        return metrics.registry.get_sample_value("hourglass_batches_total", labels)

    return counted


@pytest.fixture
def two() -> Iterator[Lane]:
    """A lane that makes two runs at a time."""
    lane = Lane("two", threads=2)
    yield lane
    end(lane)
