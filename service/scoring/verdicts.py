"""From scores to verdicts: the options of a request meet the calibration of a model."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError, UnsupportedOperationError
from service.scoring.calibration import Calibration
from service.scoring.measures import MSE, Scores, as_score
from service.scoring.thresholds import Method, Threshold


@dataclass(frozen=True, slots=True)
class Rule:
    """When a row counts as anomalous: its score lies above the threshold.

    Attributes:
        measure: The measure of the scores.
        threshold: In the measure's unit; ``None`` without calibration or wish.
        false_positive_rate: Share of normal rows expected above it, where known.
        found: How it was found and how sure it is, where that was asked for.
    """

    measure: str
    threshold: float | None
    false_positive_rate: float | None
    found: Threshold | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A rule applied to scores; ``None`` where nothing is known.

    Attributes:
        uncertain: Whose verdict another calibration might turn round, where that was asked for.
    """

    rule: Rule
    scores: Scores
    p_values: npt.NDArray[np.float64] | None = None
    anomalies: npt.NDArray[np.bool_] | None = None
    uncertain: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class RuleWish:
    """What a request says of its rule; ``None`` where it says nothing.

    Attributes:
        measure: The measure.
        false_positive_rate: Asks for the threshold that so many normal rows exceed.
        threshold: Is the threshold.
        method: How the threshold is found.
        with_interval: Whether to say how sure the threshold is.
    """

    measure: str | None = None
    false_positive_rate: float | None = None
    threshold: float | None = None
    method: Method | None = None
    with_interval: bool = False

    @property
    def asked_of_calibration(self) -> list[str]:
        """Name the options that only a calibration can answer."""
        asked = {
            "false_positive_rate": self.false_positive_rate is not None,
            "method": self.method is not None,
            "include=uncertain": self.with_interval,
        }
        return [name for name, is_asked in asked.items() if is_asked]


ANY_RULE: Final = RuleWish()


def choose_rule(calibration: Calibration | None, wish: RuleWish = ANY_RULE) -> Rule:
    """Settle metric and threshold of one request, before anything is computed.

    Raises:
        InvalidRowsError: Options that exclude each other, or a rate that cannot be had.
        UnsupportedOperationError: The model is not calibrated for what is asked.
    """
    _check(wish)
    if calibration is None:
        return _uncalibrated_rule(wish)
    measure = calibration.default_measure if wish.measure is None else wish.measure
    if wish.threshold is not None:
        return Rule(measure, wish.threshold, calibration.rate_above(measure, wish.threshold))
    rate = wish.false_positive_rate
    if rate is None and wish.method not in {"mad", "iqr"}:
        rate = calibration.default_rate(measure)
    if wish.method is None and not wish.with_interval and rate is not None:
        return Rule(measure, calibration.threshold(measure, rate), rate)
    found = calibration.find_threshold(measure, wish.method or "conformal", rate)
    return Rule(measure, found.value, found.false_positive_rate, found)


def _check(wish: RuleWish) -> None:
    if wish.threshold is None:
        return
    for name in wish.asked_of_calibration:
        raise InvalidRowsError(
            f"{name} and threshold exclude each other",
            expected=f"one of {name} and threshold",
            received="both",
        )


def _uncalibrated_rule(wish: RuleWish) -> Rule:
    if wish.measure not in {None, MSE}:
        raise UnsupportedOperationError("the model does not have this metric", expected=MSE)
    for name in wish.asked_of_calibration:
        raise UnsupportedOperationError(
            f"the model has no calibration, so no threshold follows from {name}",
            expected="threshold, or no option",
            received=name,
        )
    return Rule(MSE, wish.threshold, None)


def judge(scores: Scores, rule: Rule, calibration: Calibration | None) -> Verdicts:
    """Apply *rule* to *scores*: anomalous is what lies above the threshold."""
    return Verdicts(
        rule=rule,
        scores=scores,
        p_values=None if calibration is None else calibration.p_values(rule.measure, scores),
        anomalies=None if rule.threshold is None else above(scores, rule.threshold),
        uncertain=None if rule.found is None else rule.found.is_uncertain(scores),
    )


def above(scores: Scores, threshold: float) -> npt.NDArray[np.bool_]:
    """Compare in the precision of scores: a threshold given back as its shortest text is itself."""
    return scores > as_score(threshold)
