"""Calibrating a package on a file of clean rows, and trying the thresholds on rows held back.

Only scores are kept: rows come in chunks, and the errors of their features go into a quantile of
bounded memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from service.assembly import LiveModel
from service.errors import InvalidRowsError, PackageError
from service.inference import operations
from service.offline.chunks import Answer, Reader
from service.offline.pipeline import Run, process
from service.repository.manifest import HeldBack, HeldBackRate
from service.scoring.binomial import clopper_pearson
from service.scoring.calibration import HEAT_MAP_QUANTILE, Calibration, calibrate
from service.scoring.measures import MSE, Scores
from service.scoring.quantile import Quantile
from service.scoring.verdicts import above

RATES: Final = (0.1, 0.01, 0.001)

# fewer cannot show a false positive rate of 10 %
MIN_ROWS: Final = 9


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and what its thresholds did on rows that took no part in it.

    Attributes:
        held_back: ``None`` when no rows were held back.
        is_exact: Whether the scale of heat maps is exact, see *Quantile*.
    """

    calibration: Calibration
    held_back: HeldBack | None
    is_exact: bool


def calibrate_rows(
    live: LiveModel,
    reader: Reader,
    *,
    model_sha256: str,
    hold_out: float,
    seed: int,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Calibrated:
    """Score every row of a file, and calibrate on those that are not held back.

    Args:
        live: The model.
        reader: Clean rows that it was not trained on.
        model_sha256: Fingerprint of its graphs.
        hold_out: Share of the rows to hold back.
        seed: Decides which.
        on_progress: See *Run*.

    Raises:
        PackageError: The model has no scores, or they cannot be calibrated.
        RequestError: A row is not what the model takes, or there are too few.
    """
    if not live.manifest.reconstructs:
        raise PackageError("a model that does not reconstruct its input has no scores")
    sampler = Sampler(hold_out, seed)
    process(
        Run(
            live=live,
            operation=operations.ANOMALY_SCORE,
            reader=reader,
            writer=sampler,
            wants_errors=True,
            on_progress=on_progress,
        )
    )
    return sampler.calibrated(model_sha256)


class Sampler:
    """Takes the scores of a file: some for the calibration, the others to try it on.

    Each row is held back by a lot of its own, so which ones are does not depend on how the file
    is cut into chunks, nor must its length be known.
    """

    def __init__(self, hold_out: float, seed: int, *, quantile: Quantile | None = None) -> None:
        self._hold_out = hold_out
        self._lots = np.random.default_rng(seed)
        self._scores: list[Scores] = []
        self._held_back: list[Scores] = []
        self._errors = quantile or Quantile(HEAT_MAP_QUANTILE)
        self._data = sha256()

    def write(self, answer: Answer) -> None:
        if answer.errors is None:
            raise AssertionError("the scale of heat maps comes from the errors of features")
        is_held = self._lots.random(len(answer.values)) < self._hold_out
        self._scores.append(answer.values[~is_held])
        self._held_back.append(answer.values[is_held])
        self._errors.take(answer.errors[~is_held])
        self._data.update(np.ascontiguousarray(answer.chunk.rows[~is_held]).data)

    def finish(self) -> None:
        """What was taken is read by *calibrated*."""

    def abandon(self) -> None:
        """There is nothing to leave behind."""

    def calibrated(self, model_sha256: str) -> Calibrated:
        """Make the calibration.

        Raises:
            InvalidRowsError: There are too few rows.
            PackageError: All have one score.
        """
        scores = np.concatenate(self._scores)
        _check(scores)
        calibration = calibrate(
            {MSE: scores},
            default_measure=MSE,
            # the quantile of a single number is the number itself
            errors=np.array([self._errors.value()]),
            model_sha256=model_sha256,
            data_sha256=self._data.hexdigest(),
        )
        held_back = np.concatenate(self._held_back)
        return Calibrated(calibration, _tried(calibration, held_back), self._errors.is_exact)


def misses(rate: HeldBackRate) -> bool:
    """Whether the rows held back speak against the rate that was asked for."""
    low, high = rate.interval
    return not low <= rate.false_positive_rate <= high


def _check(scores: Scores) -> None:
    if len(scores) < MIN_ROWS:
        raise InvalidRowsError(
            f"{len(scores)} rows are left to calibrate on, which is too few",
            expected=f"at least {MIN_ROWS}",
        )
    if scores.min() == scores.max():
        raise PackageError("all rows have the same score: no threshold tells them apart")


def _tried(calibration: Calibration, held_back: npt.NDArray[np.float32]) -> HeldBack | None:
    if not len(held_back):
        return None
    shown = [rate for rate in RATES if rate * (calibration.rows + 1) >= 1]
    rates = [_tried_rate(calibration, held_back, rate) for rate in shown]
    return HeldBack(rows=len(held_back), rates=rates)


def _tried_rate(calibration: Calibration, held_back: Scores, rate: float) -> HeldBackRate:
    threshold = calibration.threshold(calibration.default_measure, rate)
    rows_above = int(above(held_back, threshold).sum())
    return HeldBackRate(
        false_positive_rate=rate,
        threshold=threshold,
        rows_above=rows_above,
        achieved=rows_above / len(held_back),
        interval=clopper_pearson(rows_above, len(held_back)),
    )
