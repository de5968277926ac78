"""The statistics of the Open Inference Protocol, out of the notes that the metrics are made of."""

from collections import Counter
from collections.abc import Iterable
from time import perf_counter, time
from typing import Final

import numpy as np

from service.api.faces import Face
from service.api.open_inference_schemas import (
    BatchStatistics,
    Duration,
    InferenceStatistics,
    ModelStatistics,
)
from service.metrics import OperationMetrics, Totals

_NS: Final = 1_000_000_000

_NEVER: Final = Duration(count=0, ns=0)


def statistics_of(face: Face) -> ModelStatistics:
    """Sum up what *face* has done since its version was loaded."""
    totals = [_counted(metrics) for metrics in face.activity]
    batches = _batches(totals)
    return ModelStatistics(
        name=face.name,
        version=face.live.version,
        last_inference=_milliseconds(max(each.last_at for each in totals)),
        inference_count=sum(each.rows for each in totals),
        execution_count=sum(batch.compute_infer.count for batch in batches),
        inference_stats=_requests(totals),
        batch_stats=batches,
    )


def _counted(metrics: OperationMetrics) -> Totals:
    metrics.requests.count()
    metrics.runs.count()
    return metrics.totals


def _requests(totals: Iterable[Totals]) -> InferenceStatistics:
    totals = list(totals)
    answered = sum(each.answered for each in totals)
    seconds = np.sum([each.seconds for each in totals], axis=0)
    whole, parse, queue, infer, render = (_duration(answered, each) for each in seconds)
    return InferenceStatistics(
        success=whole,
        fail=_duration(sum(each.failed for each in totals), sum(each.failed_s for each in totals)),
        queue=queue,
        compute_input=parse,
        compute_infer=infer,
        compute_output=render,
        cache_hit=_NEVER,
        cache_miss=_NEVER,
    )


def _batches(totals: Iterable[Totals]) -> list[BatchStatistics]:
    numbers: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    for each in totals:
        for rows, (number, run_s) in list(each.runs.items()):
            numbers[rows] += number
            seconds[rows] += round(run_s * _NS)
    return [
        BatchStatistics(
            batch_size=rows,
            compute_input=_NEVER,
            compute_infer=Duration(count=number, ns=seconds[rows]),
            compute_output=_NEVER,
        )
        for rows, number in sorted(numbers.items())
    ]


def _duration(count: int, seconds: float) -> Duration:
    return Duration(count=count, ns=round(seconds * _NS))


def _milliseconds(at: float) -> int:
    """Milliseconds since 1970 of a time of ``time.perf_counter``; 0 for 0, which is no time."""
    return round((time() - perf_counter() + at) * 1e3) if at else 0
