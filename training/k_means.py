"""k-means, and how well clusters agree with classes that they were found without."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

RESTARTS = 10  # k-means ends in one of several places, and only trying tells which is best
ITERATIONS = 100


def k_means(rows: Rows, clusters: int, *, seed: int, restarts: int = RESTARTS) -> Rows:
    """Give the centres of the best of several attempts, ``(clusters, features)``.

    The best one has the smallest squared distances; which rows belong together plays no part.
    """
    random = np.random.default_rng(seed)
    attempts = [settle(rows, _spread_out(rows, clusters, random)) for _ in range(restarts)]
    best: Rows = min(attempts, key=lambda centres: float(_lowest(rows, centres).mean()))
    return best


def nearest(rows: Rows, centres: Rows) -> Numbers:
    """Number of the centre that each row is nearest to."""
    numbers: Numbers = _distances(rows, centres).argmin(axis=1)
    return numbers


def settle(rows: Rows, centres: Rows) -> Rows:
    """Move centres to the middle of the rows nearest to them, until none moves any more."""
    for _ in range(ITERATIONS):
        members = np.eye(len(centres), dtype=np.float32)[nearest(rows, centres)]
        moved = members.T @ rows / np.maximum(members.sum(axis=0), 1)[:, np.newaxis]
        if np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    return centres


def _spread_out(rows: Rows, clusters: int, random: np.random.Generator) -> Rows:
    """k-means++: each next centre is a row, likelier the farther it is from those chosen."""
    centres = rows[[random.integers(len(rows))]]
    while len(centres) < clusters:
        far = _lowest(rows, centres).astype(np.float64)
        chosen = random.choice(len(rows), p=far / far.sum())
        centres = np.concatenate([centres, rows[[chosen]]])
    return centres


def _lowest(rows: Rows, centres: Rows) -> Rows:
    lowest: Rows = _distances(rows, centres).min(axis=1)
    return lowest


def _distances(rows: Rows, centres: Rows) -> Rows:
    """Squared distances; never below zero, whatever roundings do."""
    lengths = np.square(rows).sum(axis=1, keepdims=True) + np.square(centres).sum(axis=1)
    distances: Rows = np.maximum(lengths - 2 * rows @ centres.T, 0)
    return distances


def accuracy(clusters: Numbers, classes: Numbers) -> float:
    """Share of rows that are right when each cluster is taken for one class, as best it can be."""
    together = _together(clusters, classes)
    if together.shape[0] > together.shape[1]:
        together = together.T
    # best[mask]: most rows that the clusters so far can have right with the classes of the mask
    best = {0: 0}
    for counts in together:
        grown: dict[int, int] = {}
        for mask, right in best.items():
            for number, count in enumerate(counts):
                if not mask >> number & 1:
                    with_it = mask | 1 << number
                    grown[with_it] = max(grown.get(with_it, 0), right + int(count))
        best = grown
    return max(best.values()) / len(classes)


def mutual_information(clusters: Numbers, classes: Numbers) -> float:
    """Normalised mutual information, with the arithmetic mean of both entropies below the line."""
    together = _together(clusters, classes) / len(classes)
    ours, theirs = together.sum(axis=1), together.sum(axis=0)
    shared = _entropy(ours) + _entropy(theirs) - _entropy(together.ravel())
    return 2 * shared / (_entropy(ours) + _entropy(theirs))


def _together(clusters: Numbers, classes: Numbers) -> Numbers:
    """How many rows each cluster has of each class."""
    counts = np.zeros((clusters.max() + 1, classes.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, classes), 1)
    return counts


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    there = shares[shares > 0]
    return float(-(there * np.log(there)).sum())
