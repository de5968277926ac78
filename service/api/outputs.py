"""From rows and scores to answers: what can be given, and how it looks."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, lru_cache
from math import isfinite
from typing import Any, Final, NamedTuple

import numpy as np

from service.api.responses import Headers
from service.assembly import LiveModel
from service.bodies import json, npy, picture, raw
from service.bodies.negotiation import JSON, NPY, PNG, RAW
from service.inference import operations
from service.inference.ticket import Ticket
from service.scoring.domain import DomainVerdicts
from service.scoring.explanations import FeatureShare
from service.scoring.regions import Region
from service.scoring.thresholds import Threshold
from service.scoring.verdicts import Rule, Verdicts
from service.specs import Rows, TensorSpec

FIELDS: Final = {
    operations.ENCODE: "codes",
    operations.DECODE: "reconstructions",
    operations.RECONSTRUCT: "reconstructions",
}

ARRAYS: Final = (NPY, RAW)

_PLAIN: Final = (JSON, NPY, RAW)
_WITH_PICTURES: Final = (*_PLAIN, PNG)

# numbers that are written in one piece: JSON takes 30 ns for each, and others wait meanwhile
LARGE_BYTES: Final = 1024 * 1024

# features and regions that are written in one piece: each is an object and takes 4 us
_MANY_LISTED: Final = 256

# what chose the answer, so that no cache gives it to somebody who chose otherwise
_VARY: Final = (b"vary", b"Accept, Accept-Encoding")


def offered(live: LiveModel, operation: str) -> tuple[str, ...]:
    """List the formats in which *operation* can answer, the default first."""
    manifest = live.manifest
    if operation == operations.ANOMALY_SCORE:
        has_heat_map = manifest.input.image is not None and live.calibration is not None
        return _WITH_PICTURES if has_heat_map else _PLAIN
    if operation == operations.ENCODE or manifest.output is None or manifest.output.image is None:
        return _PLAIN
    return _WITH_PICTURES


class Given(NamedTuple):
    """What a model gave.

    Attributes:
        result: Codes, reconstructions or scores.
        errors: The error of every feature, where it was asked for or is to be drawn.
        further: What stands beside the codes, in the manifest's order.
        domain: Whether the rows are of the model's kind.
        explanations: For each row the features with the largest errors.
        regions: For each picture the boxes around its errors.
    """

    result: Rows
    errors: Rows | None = None
    further: Sequence[Rows] = ()
    domain: DomainVerdicts | None = None
    explanations: Sequence[Sequence[FeatureShare]] | None = None
    regions: Sequence[Sequence[Region]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers that are written out."""
        values = self.result if self.errors is None else self.errors
        if not self.further:
            return values.nbytes
        return values.nbytes + sum(output.nbytes for output in self.further)

    @property
    def is_large(self) -> bool:
        """Whether others should not wait until it is written out."""
        if self.explanations is None and self.regions is None:  # as of nearly every answer
            return self.nbytes > LARGE_BYTES
        listed = sum(len(row) for rows in (self.explanations, self.regions) for row in rows or ())
        return listed > _MANY_LISTED or self.nbytes > LARGE_BYTES

    @property
    def without_domain(self) -> "Given":
        """The same for an answer whose header alone tells of the domain."""
        return self if self.domain is None else self._replace(domain=None)


def render_rows(
    given: Given, media: str, operation: str, live: LiveModel, *, layer: str | None = None
) -> tuple[Headers, bytes]:
    """Render the answer of *encode*, *decode* or *reconstruct*, as JSON or as a picture."""
    if media != JSON:
        return _content(PNG), picture.render(given.result, _output(live))
    fields: dict[str, Any] = {"model": live.name, "version": live.version}
    if layer is not None:
        fields["layer"] = layer
    fields[FIELDS[operation]] = given.result
    if given.further:
        fields |= dict(zip(live.manifest.further_outputs, given.further, strict=True))
    if given.domain is not None:
        fields |= _domain_fields(given.domain)
    write = json.render if given.nbytes <= LARGE_BYTES else json.render_in_pieces
    return _content(JSON), write(fields)


def render_scores(
    verdicts: Verdicts, given: Given, media: str, live: LiveModel
) -> tuple[Headers, bytes]:
    """Render the answer of *anomaly-score*, as JSON or as a heat map.

    Args:
        verdicts: Scores and what follows from them.
        given: What else was asked for; the error of every feature where it is to be drawn.
        media: The chosen format.
        live: The model.
    """
    errors = given.errors
    if media == JSON:
        is_small = errors is None or errors.nbytes <= LARGE_BYTES
        write = json.render if is_small else json.render_in_pieces
        return _content(JSON), write(_score_fields(verdicts, given, live))
    if errors is None or live.calibration is None:
        raise AssertionError("a heat map is offered only with a calibration")
    high = live.calibration.heat_map_high
    body = picture.render_heat_map(errors, live.manifest.input, high)
    return _content(PNG) + rule_headers(verdicts.rule), body


def render_array(rows: Rows, media: str) -> tuple[Headers, bytes]:
    """Render rows or scores as one array, in one of *ARRAYS*."""
    if media == NPY:
        return _content(NPY), npy.render(rows)
    return _raw_headers(rows.shape, rows.dtype), raw.render(rows)


@lru_cache(maxsize=256)
def rule_headers(rule: Rule) -> Headers:
    """Name measure and threshold of an answer that has no room for them."""
    headers = [(b"x-metric", rule.measure.encode())]
    if rule.threshold is not None:
        headers.append((b"x-threshold", json.render(shortest(rule.threshold))))
    return headers


def timing_header(ticket: Ticket) -> tuple[bytes, bytes]:
    """Tell the milliseconds of each phase."""
    timing = b"parse;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f, render;dur=%.3f" % (
        ticket.parse_s * 1e3,
        ticket.queue_s * 1e3,
        ticket.infer_s * 1e3,
        ticket.render_s * 1e3,
    )
    return (b"server-timing", timing)


def domain_header(verdicts: DomainVerdicts) -> tuple[bytes, bytes]:
    """Tell how many rows are of the model's kind, in whatever format the answer is."""
    return (b"x-domain", b"in=%d, out=%d" % verdicts.counts)


def _domain_fields(verdicts: DomainVerdicts) -> dict[str, Any]:
    return {"domain": verdicts.domains, "domain_p_values": verdicts.p_values}


def _score_fields(verdicts: Verdicts, given: Given, live: LiveModel) -> dict[str, Any]:
    rule = verdicts.rule
    fields: dict[str, Any] = {
        "model": live.name,
        "version": live.version,
        "metric": rule.measure,
        "scores": verdicts.scores,
        "threshold": None if rule.threshold is None else shortest(rule.threshold),
        "false_positive_rate": rule.false_positive_rate,
        "p_values": verdicts.p_values,
        "anomalies": verdicts.anomalies,
    }
    if rule.found is not None:
        fields |= _found_fields(rule.found)
    if verdicts.uncertain is not None:
        fields["anomalies"] = _three_valued(verdicts)
    if given.explanations is not None:
        fields["explanations"] = [[_share(one) for one in row] for row in given.explanations]
    if given.regions is not None:
        fields["regions"] = [[_region(one) for one in row] for row in given.regions]
    if given.domain is not None:
        fields |= _domain_fields(given.domain)
    if given.errors is not None:
        fields["feature_errors"] = given.errors
    return fields


def _found_fields(found: Threshold) -> dict[str, Any]:
    return {
        "method": found.method,
        "threshold_interval": [shortest(end) if isfinite(end) else None for end in found.interval],
        "false_positive_rate_interval": found.rate_interval,
        "extrapolated": found.extrapolated,
    }


def _three_valued(verdicts: Verdicts) -> list[bool | str] | None:
    if verdicts.anomalies is None or verdicts.uncertain is None:
        return None
    pairs = zip(verdicts.anomalies.tolist(), verdicts.uncertain.tolist(), strict=True)
    return ["uncertain" if is_uncertain else is_above for is_above, is_uncertain in pairs]


def _share(one: FeatureShare) -> dict[str, Any]:
    named = {} if one.name is None else {"name": one.name}
    return {
        "index": one.index,
        **named,
        "error": np.float32(one.error),
        "share": one.share,
        "observed": np.float32(one.observed),
        "expected": np.float32(one.expected),
        "residual": np.float32(one.residual),
    }


def _region(one: Region) -> dict[str, Any]:
    return {**asdict(one), "error": np.float32(one.error)}


@lru_cache(maxsize=256)
def shortest(threshold: float) -> float | np.float32:
    """Keep a calibrated threshold, which is a float32 score, as short as the scores are."""
    with np.errstate(over="ignore"):  # a client's own threshold may be any number
        single = np.float32(threshold)
    return single if float(single) == threshold else threshold


@lru_cache(maxsize=256)
def _raw_headers(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Headers:
    axes = ",".join(str(axis) for axis in shape)
    return [*_content(RAW), (b"x-shape", axes.encode()), (b"x-dtype", dtype.name.encode())]


@cache
def _content(media: str) -> Headers:
    return [(b"content-type", media.encode()), _VARY]


def _output(live: LiveModel) -> TensorSpec:
    return live.manifest.output or live.manifest.input
