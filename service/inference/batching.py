"""Pure arithmetic of batches: who gives how many rows, and how rows become one array."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from service.specs import Rows


def allot(waiting: Sequence[int], capacity: int, kept: int = 0) -> list[int]:
    """Share *capacity* rows out among jobs with *waiting* rows, in the order of their arrival.

    Who has the fewest left goes first, which gives the shortest mean wait (Schrage, 1968): equal
    jobs end one after the other, small ones pass a large one.

    Args:
        waiting: Rows of each job.
        capacity: Rows of the run.
        kept: Rows that the oldest has before all others, so that it ends however many come.

    Returns:
        Rows of each job, in the same order.
    """
    if sum(waiting) <= capacity:
        return list(waiting)
    shares = [0] * len(waiting)
    shares[0] = min(waiting[0], kept, capacity)
    capacity -= shares[0]
    for job in sorted(range(len(waiting)), key=waiting.__getitem__):
        more = min(waiting[job] - shares[job], capacity)
        shares[job] += more
        capacity -= more
        if not capacity:
            break
    return shares


def join(parts: Sequence[Rows]) -> Rows:
    """Make one array of the rows of several; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def bucket(rows: int, buckets: Sequence[int]) -> int:
    """Give the smallest of the ascending *buckets* that holds *rows*, else *rows* itself."""
    place = bisect_left(buckets, rows)
    return buckets[place] if place < len(buckets) else rows


def pad(rows: Rows, size: int) -> Rows:
    """Fill up with zero rows to *size* rows."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])


def first_non_finite(rows: Rows) -> int | None:
    """Index of the first row with a NaN or an infinity, ``None`` if all numbers are finite."""
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return None
    return int(np.argmin(np.isfinite(rows).reshape(len(rows), -1).all(axis=1)))
