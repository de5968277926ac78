"""How well scores put anomalies above normal rows, whatever the threshold."""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]
Labels = npt.NDArray[np.bool_]


def auroc(scores: Values, anomalies: Labels) -> float:
    """Give the probability that an anomaly scores above a normal row, ties counting half.

    The area under the curve of true against false positives is this probability (Hanley and
    McNeil, Radiology 143, 1982), and follows from the ranks of the anomalies.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]  # equal scores share the mean of their ranks
    found = int(anomalies.sum())
    normal = len(anomalies) - found
    return float((ranks[anomalies].sum() - found * (found + 1) / 2) / (found * normal))


def average_precision(scores: Values, anomalies: Labels) -> float:
    """Give the mean precision at the scores of the anomalies, from the highest down.

    Sum over thresholds of (recall - recall before) * precision, without interpolation; equal
    scores are one threshold.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(anomalies[order])
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    hits, taken = found[last_of_equals], 1 + np.flatnonzero(last_of_equals)
    recall = hits / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / taken))
