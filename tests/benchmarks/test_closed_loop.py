"""What is measured beside the servers."""

import pytest

from benchmarks.cases import Layout
from benchmarks.closed_loop import thread_counts

ONE = Layout("pinned", frozenset({0}), frozenset({1}))
TWO = Layout("unpinned", frozenset({0, 1}), frozenset({0, 1}))


@pytest.mark.parametrize(
    ("layout", "rows", "threads"),
    [(ONE, 1, [1]), (ONE, 64, [1]), (TWO, 1, [2]), (TWO, 64, [2, 1])],
)
def test_large_batches_are_run_in_one_thread_too(layout, rows, threads):
    assert thread_counts(layout, rows) == threads
