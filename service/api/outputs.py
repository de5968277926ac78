"""From rows and scores to answers: what can be given, and how it looks."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from service.api.responses import Headers
from service.assembly import LiveModel
from service.bodies import json, npy, picture, raw
from service.bodies.negotiation import JSON, NPY, PNG, RAW
from service.inference import operations
from service.inference.ticket import Ticket
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
    """

    result: Rows
    errors: Rows | None = None
    further: Sequence[Rows] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers that are written out."""
        values = self.result if self.errors is None else self.errors
        if not self.further:
            return values.nbytes
        return values.nbytes + sum(output.nbytes for output in self.further)


def render_rows(
    given: Given, media: str, operation: str, live: LiveModel, *, layer: str | None = None
) -> tuple[Headers, bytes]:
    """Render the answer of *encode*, *decode* or *reconstruct*, as JSON or as a picture."""
    if media != JSON:
        return _content(PNG), picture.render(given.result, _output(live))
    fields = {"model": live.name, "version": live.version, FIELDS[operation]: given.result}
    if layer is not None:
        fields = {"model": live.name, "version": live.version, "layer": layer}
        fields[FIELDS[operation]] = given.result
    elif given.further:
        fields |= dict(zip(live.manifest.further_outputs, given.further, strict=True))
    write = json.render if given.nbytes <= LARGE_BYTES else json.render_in_pieces
    return _content(JSON), write(fields)


def render_scores(
    verdicts: Verdicts, errors: Rows | None, media: str, live: LiveModel
) -> tuple[Headers, bytes]:
    """Render the answer of *anomaly-score*, as JSON or as a heat map.

    Args:
        verdicts: Scores and what follows from them.
        errors: The error of every feature, where it was asked for or is to be drawn.
        media: The chosen format.
        live: The model.
    """
    if media == JSON:
        is_small = errors is None or errors.nbytes <= LARGE_BYTES
        write = json.render if is_small else json.render_in_pieces
        return _content(JSON), write(_score_fields(verdicts, errors, live))
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


def _score_fields(verdicts: Verdicts, errors: Rows | None, live: LiveModel) -> dict[str, Any]:
    rule = verdicts.rule
    fields = {
        "model": live.name,
        "version": live.version,
        "metric": rule.measure,
        "scores": verdicts.scores,
        "threshold": None if rule.threshold is None else shortest(rule.threshold),
        "false_positive_rate": rule.false_positive_rate,
        "p_values": verdicts.p_values,
        "anomalies": verdicts.anomalies,
    }
    if errors is not None:
        fields["feature_errors"] = errors
    return fields


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
