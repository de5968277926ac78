"""Calibrating a package on a file of clean rows, and trying the thresholds on rows held back.

Rows come in chunks, and memory is bounded however many there are; see ``service.calibrating``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.assembly import LiveModel
from service.calibrating import EVERY_MEASURE, Choice, Sample, Study
from service.errors import PackageError, UnsupportedOperationError
from service.inference import operations
from service.offline.chunks import Answer, Reader
from service.offline.pipeline import Run, process
from service.repository.manifest import HeldBack, HeldBackRate
from service.scoring import catalogue
from service.scoring.binomial import clopper_pearson
from service.scoring.calibration import Calibration
from service.scoring.measures import Scores
from service.scoring.verdicts import above
from service.specs import TensorSpec

RATES: Final = (0.1, 0.01, 0.001)


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
    choice: Choice = EVERY_MEASURE,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Calibrated:
    """Score every row of a file, and calibrate on those that are not held back.

    Args:
        live: The model.
        reader: Clean rows that it was not trained on.
        model_sha256: Fingerprint of its graphs.
        hold_out: Share of the rows to hold back.
        seed: Decides which.
        choice: The measures.
        on_progress: See *Run*.

    Raises:
        PackageError: The model has no scores, or they cannot be calibrated.
        RequestError: A row is not what the model takes, or there are too few.
    """
    try:
        study = Study(live.autoencoder, choice, seed=seed)
    except UnsupportedOperationError as error:
        raise PackageError(str(error)) from error
    sampler = Sampler(study, choice.default, live.manifest.input, hold_out=hold_out, seed=seed)
    process(
        Run(
            live=live,
            operation=operations.ANOMALY_SCORE,
            reader=reader,
            writer=sampler,
            needs=study.needs,
            on_progress=on_progress,
        )
    )
    return sampler.calibrated(model_sha256)


class Sampler:
    """Takes what a model gives for a file: some for the calibration, the others to try it on.

    Each row is held back by a lot of its own, so which ones are does not depend on how the file
    is cut into chunks, nor must its length be known.
    """

    def __init__(
        self, study: Study, measure: str, spec: TensorSpec, *, hold_out: float, seed: int
    ) -> None:
        self._study = study
        self._measure = measure
        self._spec = spec
        self._hold_out = hold_out
        self._lots = np.random.default_rng(seed)
        self._scores: list[Scores] = []
        # what a measure that has yet to learn will be tried on
        self._held_back = Sample(np.random.default_rng(seed))

    def write(self, answer: Answer) -> None:
        if answer.evidence is None:
            raise AssertionError("a calibration is made of evidence")
        is_held = self._lots.random(len(answer.values)) < self._hold_out
        self._study.take(answer.evidence.part(~is_held))
        held_back = answer.evidence.part(is_held)
        if self._measure in self._study.learners:
            self._held_back.take(held_back)
        elif len(held_back.rows):
            self._scores.append(catalogue.score(self._measure, held_back, self._spec))

    def finish(self) -> None:
        """What was taken is read by *calibrated*."""

    def abandon(self) -> None:
        """There is nothing to leave behind."""

    def calibrated(self, model_sha256: str) -> Calibrated:
        """Make the calibration.

        Raises:
            InvalidRowsError: There are too few rows.
            PackageError: By the default measure all have one score.
        """
        calibration = self._study.calibration(model_sha256)
        if (held_back := self._held_back.evidence()) is not None:
            fitted = calibration.fitted[self._measure]
            self._scores.append(catalogue.score(self._measure, held_back, self._spec, fitted))
        scores = np.concatenate(self._scores or [np.empty(0, np.float32)])
        tried = self._tried(calibration, scores) if len(scores) else None
        return Calibrated(calibration, tried, self._study.is_exact)

    @staticmethod
    def _tried(calibration: Calibration, scores: Scores) -> HeldBack:
        shown = [rate for rate in RATES if rate * (calibration.rows + 1) >= 1]
        rates = [_tried_rate(calibration, scores, rate) for rate in shown]
        return HeldBack(rows=len(scores), rates=rates)


def misses(rate: HeldBackRate) -> bool:
    """Whether the rows held back speak against the rate that was asked for."""
    low, high = rate.interval
    return not low <= rate.false_positive_rate <= high


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
