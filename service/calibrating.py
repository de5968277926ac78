"""From clean rows to a calibration: what each measure gives for them, and what it learns.

However many rows there are, memory is bounded: of measures that learn nothing only the scores
are kept, and the others learn from a sample.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRowsError, PackageError, UnsupportedOperationError
from service.inference.autoencoder import Autoencoder
from service.inference.evidence import gather, given_by, pathway_length
from service.inference.ticket import Ticket
from service.scoring import catalogue
from service.scoring.calibration import HEAT_MAP_QUANTILE, Calibration, calibrate
from service.scoring.catalogue import MEASURES, Evidence
from service.scoring.codes import MAHALANOBIS
from service.scoring.domain import MIN_ROWS as MIN_GUARD_ROWS, DomainGuard
from service.scoring.measures import MSE, Scores, feature_errors
from service.scoring.quantile import Quantile
from service.scoring.rapp import NAP
from service.specs import Rows

# fewer cannot show a false positive rate of 10 %
MIN_ROWS: Final = 9
# a measure learns from half of them and is calibrated on the other half
MIN_LEARNING_ROWS: Final = 4 * MIN_ROWS

SAMPLE_ROWS: Final = 10_000
SAMPLE_BYTES: Final = 128 * 1024 * 1024

# a square matrix of so many columns is 1 MiB; a measure that learns a larger one must be asked for
AFFORDABLE_LENGTH: Final = 512


@dataclass(frozen=True, slots=True)
class Choice:
    """Which measures a calibration is for.

    Attributes:
        measures: Their names; ``None`` for all that suit the model and learn little.
        default: The one that answers when none is asked for; it is always among them.
    """

    measures: tuple[str, ...] | None = None
    default: str = MSE


EVERY_MEASURE: Final = Choice()


def measures_for(model: Autoencoder, choice: Choice) -> list[str]:
    """Name the measures of a calibration.

    Raises:
        PackageError: The model has no scores.
        UnsupportedOperationError: One of those chosen does not exist or does not suit the model.
    """
    suitable = catalogue.suitable(model.signature.input, given_by(model))
    if not suitable:
        raise PackageError("a model that does not reconstruct its input has no scores")
    chosen = _affordable(model, suitable) if choice.measures is None else choice.measures
    wanted = {choice.default, *chosen}
    for name in sorted(wanted):
        catalogue.measure_of(name)
        if name not in suitable:
            raise UnsupportedOperationError(
                f"the metric {name} does not suit this model", expected=" or ".join(suitable)
            )
    return [name for name in MEASURES if name in wanted]


def _affordable(model: Autoencoder, names: Iterable[str]) -> list[str]:
    code = model.signature.code
    lengths = {
        NAP: pathway_length(model),
        MAHALANOBIS: code.size if code is not None and code.is_fixed else 0,
    }
    return [name for name in names if lengths.get(name, 0) <= AFFORDABLE_LENGTH]


class Sample:
    """Some of many rows' evidence, chosen by lot, in the order of the lots.

    Args:
        random: Draws one lot a row.
        most: Rows to keep; fewer where they are large.
    """

    def __init__(self, random: np.random.Generator, *, most: int = SAMPLE_ROWS) -> None:
        self._random = random
        self._most = most
        self._parts: list[tuple[npt.NDArray[np.float64], Evidence]] = []
        self._held = 0

    def take(self, evidence: Evidence) -> None:
        if not len(evidence.rows):
            return
        self._most = min(self._most, max(SAMPLE_BYTES // _row_bytes(evidence), MIN_GUARD_ROWS))
        self._parts.append((self._random.random(len(evidence.rows)), evidence))
        self._held += len(evidence.rows)
        if self._held > 2 * self._most:
            self._shrink()

    def evidence(self) -> Evidence | None:
        """Give what was kept; ``None`` where nothing came."""
        if not self._parts:
            return None
        self._shrink()
        return self._parts[0][1]

    def _shrink(self) -> None:
        lots = np.concatenate([lots for lots, _ in self._parts])
        kept = np.argsort(lots)[: self._most]
        joined = catalogue.join([evidence for _, evidence in self._parts]).part(kept)
        self._parts = [(lots[kept], joined)]
        self._held = len(kept)


class Study:
    """Takes clean rows as they come, and makes a calibration of them.

    Args:
        model: What is calibrated.
        choice: By which measures.
        seed: Decides which rows are sampled, and from which of them measures learn.
        quantile: Takes the errors of features.

    Attributes:
        measures: The names of the measures, in the order of the catalogue.
        learners: Those of them that learn from a sample of the rows.
        needs: What the evidence must hold.

    Raises:
        UnsupportedOperationError: The model cannot have them.
    """

    def __init__(
        self,
        model: Autoencoder,
        choice: Choice,
        *,
        seed: int = 0,
        quantile: Quantile | None = None,
    ) -> None:
        self.measures = measures_for(model, choice)
        self.needs = catalogue.needs_of(self.measures)
        self._choice = choice
        self._spec = model.signature.input
        self._has_one_shape = self._spec.is_fixed
        self.learners = catalogue.learners(self.measures)
        self._plain = [name for name in self.measures if name not in self.learners]
        self._has_codes = "code" in given_by(model)
        self._scores: dict[str, list[Scores]] = {name: [] for name in self._plain}
        self._sample = Sample(np.random.default_rng(seed))
        self._errors = quantile or Quantile(HEAT_MAP_QUANTILE)
        self._data = sha256()
        self._rows = 0

    @property
    def is_exact(self) -> bool:
        """Whether the scale of heat maps is exact, see *Quantile*."""
        return self._errors.is_exact

    def take(self, evidence: Evidence) -> None:
        """Take what the model gave for some rows."""
        if not len(evidence.rows):
            return
        reconstructions = evidence.reconstructions
        if reconstructions is None:
            raise AssertionError("a calibration looks at errors")
        for name in self._plain:
            self._scores[name].append(catalogue.score(name, evidence, self._spec))
        self._errors.take(feature_errors(evidence.rows, reconstructions, width=self._spec.width))
        self._data.update(np.ascontiguousarray(evidence.rows).data)
        if self._has_one_shape:
            keeps_layers = NAP in self.learners
            self._sample.take(evidence if keeps_layers else without_layers(evidence))
        self._rows += len(evidence.rows)

    def calibration(self, model_sha256: str) -> Calibration:
        """Make the calibration.

        Raises:
            InvalidRowsError: There are too few rows.
            PackageError: By the default measure all have one score.
        """
        learners = self._learners_for_so_many()
        scores = {name: np.concatenate(parts) for name, parts in self._scores.items()}
        sample = self._sample.evidence()
        settings = {name: catalogue.measure_of(name).settings for name in self._plain}
        fitted = {name: each for name, each in settings.items() if each is not None}
        if sample is not None:
            learned, what = catalogue.fit_and_score(learners, sample, self._spec)
            scores, fitted = scores | learned, fitted | what
        default = scores[self._choice.default]
        if default.min() == default.max():
            raise PackageError("all rows have the same score: no threshold tells them apart")
        return calibrate(
            scores,
            default_measure=self._choice.default,
            # the quantile of a single number is the number itself
            errors=np.array([self._errors.value()]),
            model_sha256=model_sha256,
            data_sha256=self._data.hexdigest(),
            fitted=fitted,
            domain=None if sample is None else self._guard(sample),
        )

    def _learners_for_so_many(self) -> list[str]:
        """Name the measures that have rows enough to learn from.

        Raises:
            InvalidRowsError: There are too few rows for any measure, or for one that was asked for.
        """
        is_asked = self._choice.measures is not None or self._choice.default in self.learners
        least = MIN_LEARNING_ROWS if self.learners and is_asked else MIN_ROWS
        if self._rows < least:
            raise InvalidRowsError(
                f"{self._rows} rows are left to calibrate on, which is too few",
                expected=f"at least {least}",
                received=str(self._rows),
            )
        return self.learners if self._rows >= MIN_LEARNING_ROWS else []

    def _guard(self, sample: Evidence) -> DomainGuard | None:
        if len(sample.rows) < MIN_GUARD_ROWS:
            return None
        scores = catalogue.score(MSE, sample, self._spec)
        codes = sample.codes if self._has_codes else None
        return DomainGuard.fit(self._spec, sample.rows, scores, codes)


async def calibrate_model(
    model: Autoencoder,
    chunks: Iterable[Rows],
    choice: Choice,
    *,
    model_sha256: str,
    ticket: Ticket | None = None,
) -> Calibration:
    """Run clean rows through a model, and calibrate it on them.

    Args:
        model: The model.
        chunks: Clean rows that it was not trained on, some at a time.
        choice: Which measures.
        model_sha256: Fingerprint of its graphs.
        ticket: Of the request that they came with.

    Raises:
        UnsupportedOperationError: The model cannot have these measures.
        InvalidRowsError: There are too few rows.
        PackageError: By the default measure all have one score.
        InferenceError: The model fails on a row.
    """
    study = Study(model, choice)
    for rows in chunks:
        evidence = await gather(model, study.needs, rows, ticket or Ticket())
        await asyncio.to_thread(study.take, evidence)  # a server has others to answer
    return await asyncio.to_thread(study.calibration, model_sha256)


def in_chunks(rows: Rows, size: int = 256) -> Sequence[Rows]:
    """Cut rows into pieces that share the model with others."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def without_layers(evidence: Evidence) -> Evidence:
    """Leave out what is by far the largest part, where nobody learns from it."""
    return replace(evidence, layers=(), layers_again=())


def _row_bytes(evidence: Evidence) -> int:
    found = [evidence.rows, evidence.reconstructions, evidence.codes, evidence.mse]
    arrays = [array for array in found if array is not None]
    arrays += [*evidence.layers, *evidence.layers_again]
    return sum(array.nbytes for array in arrays) // len(evidence.rows)
