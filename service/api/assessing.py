"""What a score request wants to know beside the graph's own score, worked out of the evidence.

In NumPy and in a thread, some rows at a time: a request that nobody waits for any more ends
between two pieces.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from service.api.outputs import Given
from service.api.plans import Wish
from service.assembly import LiveModel
from service.errors import ClientGoneError, DeadlineExceededError, InvalidRowsError
from service.inference.evidence import gather
from service.inference.ticket import Ticket
from service.scoring import catalogue
from service.scoring.catalogue import Evidence
from service.scoring.domain import DomainGuard, DomainVerdicts, domains
from service.scoring.explanations import FeatureShare, explain
from service.scoring.measures import MSE, Scores, feature_errors
from service.scoring.regions import Region, regions
from service.specs import Rows

_PIECE_ROWS: Final = 64

# boxes of a picture; the largest errors lie in the first of them
MAX_REGIONS: Final = 16

# features of all rows together that a request may have explained: 50 ms of work
MAX_EXPLAINED_TOTAL: Final = 1 << 14

PValues = npt.NDArray[np.float64]


def check_size(wish: Wish, rows: int) -> None:
    """See that explanations stay within what an answer may hold.

    Raises:
        InvalidRowsError: They do not.
    """
    if wish.explained is not None and wish.explained * rows > MAX_EXPLAINED_TOTAL:
        raise InvalidRowsError(
            f"explain times rows may be {MAX_EXPLAINED_TOTAL}",
            expected=f"explain up to {max(MAX_EXPLAINED_TOTAL // rows, 1)}, or fewer rows",
            received=f"{wish.explained} features of {rows} rows",
        )


async def assess(
    live: LiveModel, wish: Wish, rows: Rows, ticket: Ticket, *, wants_errors: bool
) -> Given:
    """Score rows by the measure that is wanted, and find out what else is.

    Args:
        live: The model.
        wish: What is wanted.
        rows: Rows of its input.
        ticket: Of the request.
        wants_errors: Whether the errors of features are.
    """
    measure = MSE if wish.rule is None else wish.rule.measure
    evidence = await gather(live.autoencoder, catalogue.needs_of([measure]), rows, ticket)
    work = _Work(live, wish, measure, wants_errors=wants_errors)
    return await asyncio.to_thread(work.on, evidence, ticket)


async def judge_domain(live: LiveModel, rows: Rows, ticket: Ticket) -> DomainVerdicts:
    """Compare rows of the input with those that the model knows."""
    evidence = await gather(live.autoencoder, (), rows, ticket)

    def judge() -> DomainVerdicts:
        return _judged(live, [_domain(live, part) for part in _pieces(evidence, ticket)])

    return await asyncio.to_thread(judge)


async def judge_codes(live: LiveModel, codes: Rows, ticket: Ticket) -> DomainVerdicts:
    """Compare codes that come without their rows with those that the model knows."""

    def judge() -> DomainVerdicts:
        pieces = _pieces(Evidence(codes), ticket)
        return _judged(live, [_guard(live).p_values_of_codes(part.rows) for part in pieces])

    return await asyncio.to_thread(judge)


class _Part(NamedTuple):
    """What became of some of the rows; ``None`` where it was not asked for."""

    scores: Scores
    errors: Rows | None
    explanations: Sequence[Sequence[FeatureShare]] | None
    regions: Sequence[Sequence[Region]] | None
    domain: PValues | None


@dataclass(frozen=True, slots=True)
class _Work:
    live: LiveModel
    wish: Wish
    measure: str
    wants_errors: bool

    def on(self, evidence: Evidence, ticket: Ticket) -> Given:
        parts = [self._assess(part) for part in _pieces(evidence, ticket)]
        verdicts = None
        if self.wish.domain:
            verdicts = _judged(self.live, [part.domain for part in parts])
        return Given(
            np.concatenate([part.scores for part in parts]),
            errors=_joined([part.errors for part in parts]),
            domain=verdicts,
            explanations=_chained([part.explanations for part in parts]),
            regions=_chained([part.regions for part in parts]),
        )

    def _assess(self, evidence: Evidence) -> _Part:
        wish = self.wish
        wants_regions = "regions" in wish.included
        errors = None
        if self.wants_errors or wants_regions or wish.explained is not None:
            errors = self._errors(evidence)
        return _Part(
            self.live.scores_of(evidence, self.measure),
            errors if self.wants_errors else None,
            None if errors is None else self._explain(evidence, errors),
            self._regions(errors) if errors is not None and wants_regions else None,
            _domain(self.live, evidence) if wish.domain else None,
        )

    def _errors(self, evidence: Evidence) -> Rows:
        return feature_errors(
            evidence.rows, _reconstructions(evidence), width=self.live.manifest.input.width
        )

    def _explain(self, evidence: Evidence, errors: Rows) -> Sequence[Sequence[FeatureShare]] | None:
        most = self.wish.explained
        if most is None:
            return None
        names = self.live.manifest.input.features
        return explain(evidence.rows, _reconstructions(evidence), errors, most=most, names=names)

    def _regions(self, errors: Rows) -> list[list[Region]]:
        image, calibration = self.live.manifest.input.image, self.live.calibration
        if image is None or calibration is None:
            raise AssertionError("regions are refused without pictures and calibration")
        threshold = calibration.heat_map_high
        return [
            regions(each, image=image, threshold=threshold, most=MAX_REGIONS) for each in errors
        ]


def _pieces(evidence: Evidence, ticket: Ticket) -> Iterator[Evidence]:
    """Cut evidence into pieces; between two of them somebody may have given up.

    Raises:
        DeadlineExceededError: The request's deadline has passed.
        ClientGoneError: Nobody waits for the answer any more.
    """
    for start in range(0, len(evidence.rows), _PIECE_ROWS):
        if ticket.has_left:
            raise ClientGoneError("the client is gone")
        if ticket.deadline <= perf_counter():
            raise DeadlineExceededError("the deadline passed while the rows were assessed")
        yield evidence.part(slice(start, start + _PIECE_ROWS))


def _domain(live: LiveModel, evidence: Evidence) -> PValues:
    guard = _guard(live)
    scores = catalogue.score(MSE, evidence, live.manifest.input)
    return guard.p_values(evidence.rows, scores, evidence.codes if guard.knows_codes else None)


def _judged(live: LiveModel, parts: Sequence[PValues | None]) -> DomainVerdicts:
    p_values = np.concatenate([part for part in parts if part is not None])
    return DomainVerdicts(p_values, domains(p_values, _guard(live).default_rate))


def _guard(live: LiveModel) -> DomainGuard:
    if live.calibration is None or live.calibration.domain is None:
        raise AssertionError("the domain is refused without a guard")
    return live.calibration.domain


def _reconstructions(evidence: Evidence) -> Rows:
    if evidence.reconstructions is None:
        raise AssertionError("what is scored is reconstructed")
    return evidence.reconstructions


def _joined(parts: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None


def _chained(parts: Sequence[Sequence[Any] | None]) -> list[Any] | None:
    found = [part for part in parts if part is not None]
    return [each for part in found for each in part] if found else None
