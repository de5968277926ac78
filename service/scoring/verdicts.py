"""From scores to verdicts: the options of a request meet the calibration of a model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError, UnsupportedOperationError
from service.scoring.calibration import Calibration
from service.scoring.measures import MSE, Scores, as_score


@dataclass(frozen=True, slots=True)
class Rule:
    """When a row counts as anomalous: its score lies above the threshold.

    Attributes:
        measure: The measure of the scores.
        threshold: In the measure's unit; ``None`` without calibration or wish.
        false_positive_rate: Share of normal rows expected above it, where known.
    """

    measure: str
    threshold: float | None
    false_positive_rate: float | None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A rule applied to scores; ``None`` where nothing is known."""

    rule: Rule
    scores: Scores
    p_values: npt.NDArray[np.float64] | None = None
    anomalies: npt.NDArray[np.bool_] | None = None


def choose_rule(
    calibration: Calibration | None,
    *,
    measure: str | None = None,
    false_positive_rate: float | None = None,
    threshold: float | None = None,
) -> Rule:
    """Settle metric and threshold of one request, before anything is computed.

    Raises:
        InvalidRowsError: Both a rate and a threshold, or a rate that cannot be had.
        UnsupportedOperationError: The model is not calibrated for what is asked.
    """
    if false_positive_rate is not None and threshold is not None:
        raise InvalidRowsError(
            "false_positive_rate and threshold exclude each other",
            expected="one of false_positive_rate and threshold",
            received="both",
        )
    if calibration is None:
        return _uncalibrated_rule(measure, false_positive_rate, threshold)
    if measure is None:
        measure = calibration.default_measure
    if threshold is not None:
        return Rule(measure, threshold, calibration.rate_above(measure, threshold))
    rate = false_positive_rate
    if rate is None:
        rate = calibration.default_false_positive_rate
    return Rule(measure, calibration.threshold(measure, rate), rate)


def _uncalibrated_rule(
    measure: str | None, false_positive_rate: float | None, threshold: float | None
) -> Rule:
    if measure not in {None, MSE}:
        raise UnsupportedOperationError("the model does not have this metric", expected=MSE)
    if false_positive_rate is not None:
        raise UnsupportedOperationError(
            "the model has no calibration, so no threshold follows from a false positive rate",
            expected="threshold, or no option",
            received="false_positive_rate",
        )
    return Rule(MSE, threshold, None)


def judge(scores: Scores, rule: Rule, calibration: Calibration | None) -> Verdicts:
    """Apply *rule* to *scores*: anomalous is what lies above the threshold."""
    return Verdicts(
        rule=rule,
        scores=scores,
        p_values=None if calibration is None else calibration.p_values(rule.measure, scores),
        anomalies=None if rule.threshold is None else above(scores, rule.threshold),
    )


def above(scores: Scores, threshold: float) -> npt.NDArray[np.bool_]:
    """Compare in the precision of scores: a threshold given back as its shortest text is itself."""
    return scores > as_score(threshold)
