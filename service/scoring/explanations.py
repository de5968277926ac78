"""Why a row has the score it has: which features the error comes from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.scoring.measures import flat
from service.specs import Rows

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureShare:
    """What one feature adds to the error of a row.

    Attributes:
        index: Its place in the row, one number an axis.
        name: Its name, where the model names its features.
        error: Its error, in the unit of the errors that were given.
        share: Its part of the row's error; those of all features of a row sum to 1.
        observed: What the row holds.
        expected: What the model made of it.
        residual: *observed* - *expected*: positive where the row is too high.
    """

    index: tuple[int, ...]
    name: str | None
    error: float
    share: float
    observed: float
    expected: float
    residual: float


def error_shares(errors: npt.NDArray[np.float32]) -> Shares:
    """Give the share of every feature in its row's error.

    Args:
        errors: Errors of features, none negative, shape ``(rows, *features)``.

    Returns:
        float64, same shape; a row sums to 1 within 1e-12. Where a row has no error at all, none
        of its features stands out, and all have the same share.
    """
    exact = flat(errors).astype(np.float64)
    # what is tiny may sum to a number whose reciprocal is infinite; only ratios matter here
    largest = exact.max(axis=1, keepdims=True)
    relative = np.divide(exact, largest, out=np.ones_like(exact), where=largest > 0)
    shares: Shares = relative / relative.sum(axis=1, keepdims=True)
    return shares.reshape(errors.shape)


def explain(
    rows: Rows,
    reconstructions: Rows,
    errors: npt.NDArray[np.float32],
    *,
    most: int,
    names: tuple[str, ...] | None = None,
) -> list[list[FeatureShare]]:
    """Name for each row the features with the largest share of its error.

    Args:
        rows: The rows.
        reconstructions: What the model made of them, same shape.
        errors: Their errors by feature, same shape.
        most: How many features; never more than there are.
        names: Names of the features of a tabular model.

    Returns:
        For each row its features, largest share first; of equal ones, the first in the row.
    """
    shares = error_shares(errors)
    return [
        _of_row(*parts, most=most, names=names)
        for parts in zip(rows, reconstructions, errors, shares, strict=True)
    ]


def _of_row(
    row: Rows,
    reconstruction: Rows,
    errors: Rows,
    shares: Shares,
    *,
    most: int,
    names: tuple[str, ...] | None,
) -> list[FeatureShare]:
    # stable, so that equal errors keep the order of the row
    worst = np.argsort(-errors.reshape(-1), kind="stable")[:most]
    return [
        FeatureShare(
            index=tuple(int(place) for place in index),
            name=None if names is None else names[index[0]],
            error=float(errors[index]),
            share=float(shares[index]),
            observed=float(row[index]),
            expected=float(reconstruction[index]),
            residual=float(row[index]) - float(reconstruction[index]),
        )
        for index in zip(*np.unravel_index(worst, errors.shape), strict=True)
    ]
