"""All measures by name: what each needs of a model, what it has to learn first, how it scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import PackageError, UnsupportedOperationError
from service.scoring.codes import KNN, MAHALANOBIS, CodeDistribution, CodeNeighbours
from service.scoring.measures import (
    BCE,
    DEFAULT_TOP_SHARE,
    MAE,
    MAX,
    MSE,
    TOP_K,
    Scores,
    excess_cross_entropy,
    feature_errors,
    largest_error,
    mean_absolute_error,
    mean_squared_error,
    top_mean_error,
)
from service.scoring.rapp import (
    NAP,
    SAP,
    Vectors,
    Whitening,
    layer_differences,
    simple_aggregation,
)
from service.scoring.similarity import SSIM, structural_dissimilarity
from service.specs import ImageSpec, Rows, TensorSpec

Need: TypeAlias = Literal["reconstruction", "code", "layers"]


@dataclass(frozen=True, slots=True)
class TopShare:
    """What ``top_k`` was calibrated with.

    Attributes:
        share: Of the features, in (0, 1].
    """

    share: float = DEFAULT_TOP_SHARE

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise PackageError("the share of top_k must lie above 0 and not above 1")


Fitted: TypeAlias = TopShare | Whitening | CodeDistribution | CodeNeighbours
"""What a measure has learned from normal rows; kept with the calibration."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a model gave for some rows: whatever of it the measures in use need.

    Attributes:
        rows: The rows as they were sent.
        reconstructions: What the model made of them, same shape.
        codes: Their codes.
        layers: The model's inner layers for the rows in a fixed order, the code last.
        layers_again: The same layers for the reconstructions, encoded again.
        mse: The mean squared errors as the model's own graph gives them, where it does.
    """

    rows: Rows
    reconstructions: Rows | None = None
    codes: Rows | None = None
    layers: Sequence[Rows] = ()
    layers_again: Sequence[Rows] = ()
    mse: Scores | None = None

    def part(self, chosen: slice | npt.NDArray[Any]) -> Self:
        """Give the evidence of some of the rows."""
        return type(self)(
            self.rows[chosen],
            None if self.reconstructions is None else self.reconstructions[chosen],
            None if self.codes is None else self.codes[chosen],
            [layer[chosen] for layer in self.layers],
            [layer[chosen] for layer in self.layers_again],
            None if self.mse is None else self.mse[chosen],
        )


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to score rows.

    Attributes:
        needs: What a model has to give for it.
        score: Scores the rows of some evidence, with what was fitted, if anything is.
        fit: Learns from the evidence of normal rows; ``None`` where there is nothing to learn.
        settings: What it goes by without having learned it; kept with a calibration as well.
        needs_range: It makes sense only for values with a declared range.
        needs_picture: It makes sense only for pictures.
    """

    needs: frozenset[Need]
    score: Callable[[Evidence, TensorSpec, Fitted | None], Scores]
    fit: Callable[[Evidence, TensorSpec], Fitted] | None = None
    settings: Fitted | None = None
    needs_range: bool = False
    needs_picture: bool = False

    def suits(self, spec: TensorSpec, given: frozenset[Need]) -> bool:
        """Whether a model with this input, which gives that much, can have the measure."""
        return (
            self.needs <= given
            and (spec.range is not None or not self.needs_range)
            and (spec.image is not None or not self.needs_picture)
        )


def join(parts: Sequence[Evidence]) -> Evidence:
    """Put the evidence of further rows behind that of others; all have the same things."""

    def joined(arrays: Sequence[Rows | None]) -> Rows | None:
        found = [array for array in arrays if array is not None]
        return np.concatenate(found) if found else None

    def stacked(layers: Sequence[Sequence[Rows]]) -> list[Rows]:
        return [np.concatenate(each) for each in zip(*layers, strict=True)]

    return Evidence(
        np.concatenate([part.rows for part in parts]),
        joined([part.reconstructions for part in parts]),
        joined([part.codes for part in parts]),
        stacked([part.layers for part in parts]),
        stacked([part.layers_again for part in parts]),
        joined([part.mse for part in parts]),
    )


def suitable(spec: TensorSpec, given: frozenset[Need]) -> list[str]:
    """Name the measures that a model can have.

    Args:
        spec: Its input.
        given: What it gives beside it.
    """
    return [name for name, measure in MEASURES.items() if measure.suits(spec, given)]


def needs_of(names: Iterable[str]) -> frozenset[Need]:
    """Give what a model has to give for all of some measures together."""
    return frozenset().union(*(measure_of(name).needs for name in names))


def learners(names: Iterable[str]) -> list[str]:
    """Name those among some measures that learn from rows which they are not calibrated on."""
    return [name for name in names if measure_of(name).fit is not None]


def measure_of(name: str) -> Measure:
    """Look a measure up.

    Raises:
        UnsupportedOperationError: There is none of that name.
    """
    try:
        return MEASURES[name]
    except KeyError:
        raise UnsupportedOperationError(
            "there is no such metric", expected=" or ".join(MEASURES)
        ) from None


def fit(name: str, evidence: Evidence, spec: TensorSpec) -> Fitted | None:
    """Let a measure learn from normal rows, which are not to be scored for a calibration again.

    One that does not learn gives its settings, if it has any.
    """
    measure = measure_of(name)
    return measure.settings if measure.fit is None else measure.fit(evidence, spec)


def score(name: str, evidence: Evidence, spec: TensorSpec, fitted: Fitted | None = None) -> Scores:
    """Score rows by a measure, with what it has learned."""
    return measure_of(name).score(evidence, spec, fitted)


def fit_and_score(
    names: Sequence[str],
    evidence: Evidence,
    spec: TensorSpec,
    *,
    learned_from: Evidence | None = None,
) -> tuple[dict[str, Scores], dict[str, Fitted]]:
    """Score calibration rows by several measures and let those learn first that have to.

    A row that a measure has learned from scores lower than a new one. So the measures learn
    from other rows (*learned_from*: training rows, say), or, where there are none, from the first
    half of the calibration rows, and are calibrated on the second.

    Returns:
        Scores and what was learned, by measure.
    """
    middle = len(evidence.rows) // 2
    teachers = evidence.part(slice(middle)) if learned_from is None else learned_from
    pupils = evidence.part(slice(middle, None)) if learned_from is None else evidence
    fitted = {name: made for name in names if (made := fit(name, teachers, spec)) is not None}
    learned = learners(fitted)
    scores = {
        name: score(name, pupils if name in learned else evidence, spec, fitted.get(name))
        for name in names
    }
    return scores, fitted


def _pair(evidence: Evidence) -> tuple[Rows, Rows]:
    if evidence.reconstructions is None:
        raise AssertionError("a measure of the error is offered only with a reconstruction")
    return evidence.rows, evidence.reconstructions


def _codes(evidence: Evidence) -> Rows:
    if evidence.codes is None:
        raise AssertionError("a measure of the code is offered only with a code")
    return evidence.codes


def _limits(spec: TensorSpec) -> tuple[float, float]:
    return spec.range or (0.0, 1.0)


def _pathway(evidence: Evidence) -> Vectors:
    return layer_differences(evidence.layers, evidence.layers_again)


def _mse(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    if evidence.mse is not None:
        return evidence.mse
    return mean_squared_error(*_pair(evidence), width=spec.width)


def _mae(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    return mean_absolute_error(*_pair(evidence), width=spec.width)


def _bce(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    return excess_cross_entropy(*_pair(evidence), limits=_limits(spec))


def _max(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    return largest_error(*_pair(evidence), width=spec.width)


def _top(evidence: Evidence, spec: TensorSpec, fitted: Fitted | None) -> Scores:
    share = fitted.share if isinstance(fitted, TopShare) else DEFAULT_TOP_SHARE
    return top_mean_error(*_pair(evidence), width=spec.width, share=share)


def _ssim(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    image = spec.image or ImageSpec()
    return structural_dissimilarity(*_pair(evidence), image=image, limits=_limits(spec))


def _sap(evidence: Evidence, spec: TensorSpec, _: Fitted | None) -> Scores:
    errors = feature_errors(*_pair(evidence), width=spec.width)
    return simple_aggregation(errors, _pathway(evidence))


def _nap(evidence: Evidence, _: TensorSpec, fitted: Fitted | None) -> Scores:
    if not isinstance(fitted, Whitening):
        raise _unfitted(NAP)
    return fitted.scores(_pathway(evidence))


def _mahalanobis(evidence: Evidence, _: TensorSpec, fitted: Fitted | None) -> Scores:
    if not isinstance(fitted, CodeDistribution):
        raise _unfitted(MAHALANOBIS)
    return fitted.scores(_codes(evidence))


def _knn(evidence: Evidence, _: TensorSpec, fitted: Fitted | None) -> Scores:
    if not isinstance(fitted, CodeNeighbours):
        raise _unfitted(KNN)
    return fitted.scores(_codes(evidence))


def _unfitted(name: str) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"the metric {name} needs a calibration that was made for it",
        expected="a calibration with this metric",
        received="none",
    )


_RECONSTRUCTION: Final = frozenset[Need]({"reconstruction"})
_PATHWAY: Final = frozenset[Need]({"reconstruction", "layers"})
_CODE: Final = frozenset[Need]({"code"})

MEASURES: Final[Mapping[str, Measure]] = {
    MSE: Measure(_RECONSTRUCTION, _mse),
    MAE: Measure(_RECONSTRUCTION, _mae),
    BCE: Measure(_RECONSTRUCTION, _bce, needs_range=True),
    MAX: Measure(_RECONSTRUCTION, _max),
    TOP_K: Measure(_RECONSTRUCTION, _top, settings=TopShare()),
    SSIM: Measure(_RECONSTRUCTION, _ssim, needs_range=True, needs_picture=True),
    SAP: Measure(_PATHWAY, _sap),
    NAP: Measure(_PATHWAY, _nap, lambda evidence, _: Whitening.fit(_pathway(evidence))),
    MAHALANOBIS: Measure(
        _CODE, _mahalanobis, lambda evidence, _: CodeDistribution.fit(_codes(evidence))
    ),
    KNN: Measure(_CODE, _knn, lambda evidence, _: CodeNeighbours.fit(_codes(evidence))),
}
