"""Small requests beside large ones: what a neighbour with 512 rows costs those with one.

The small ones come in an open loop at a gentle rate, first alone, then beside a client that sends
512 rows again as soon as it is answered; the two in turn, several times.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.cases import MODELS, RAW, RAW_1, Kind, Layout, is_wanted
from benchmarks.generator import Figures
from benchmarks.load import Target
from benchmarks.open_loop import MAX_LAG_MS
from benchmarks.servers import ANSWER_WITHIN_S, AS_IT_COMES, ask, running
from benchmarks.streams import Stream, generate
from benchmarks.workload import Workload, make_body
from service.inference.operations import ANOMALY_SCORE

SECTION: Final = "mixed"
RAW_512: Final = Kind("raw-512", RAW, 512)
RATE: Final = 200
CONNECTIONS: Final = 64
WARM_UP_REQUESTS: Final = 50
# what a run may take when others wait, if the graph allows it
PLANNED_MS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Slices:
    """How often each of the two is measured, and how long."""

    turns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """One model, slices in the order of time.

    Attributes:
        planned_ms: What a run may take when others wait.
    """

    model: str
    planned_ms: float
    solo: Sequence[Figures]
    beside: Sequence[Figures]

    @property
    def solo_p50_ms(self) -> float:
        return median(figures.p50_ms for figures in self.solo)

    @property
    def beside_p50_ms(self) -> float:
        return median(figures.p50_ms for figures in self.beside)

    @property
    def solo_p99_ms(self) -> float:
        return median(figures.p99_ms for figures in self.solo)

    @property
    def beside_p99_ms(self) -> float:
        return median(figures.p99_ms for figures in self.beside)

    @property
    def lag_p99_ms(self) -> float:
        """How late the generator was, for one small request in a hundred."""
        return median(figures.lag_p99_ms for figures in (*self.solo, *self.beside))

    @property
    def is_void(self) -> bool:
        """Whether the generator was so late that it shows in the latencies."""
        return self.lag_p99_ms > MAX_LAG_MS

    @property
    def limit_ms(self) -> float:
        """What the small ones may take beside the large: two planned runs more than alone."""
        return self.solo_p99_ms + 2 * self.planned_ms


def measure(
    workload: Workload,
    layout: Layout,
    slices: Slices,
    *,
    patterns: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[Mixed]:
    """Measure every model, alone and beside in turn."""
    large = workload.repository.with_name(f"{RAW_512.name}.body")
    large.write_bytes(make_body(RAW_512))
    for model in MODELS:
        if is_wanted(f"{SECTION}/{model}", patterns):
            say(f"{SECTION}/{model}")
            with running(AS_IT_COMES, workload, model, layout.server) as server:
                yield _compare(server.target(model, RAW_1), model, large, layout, slices)


def _compare(target: Target, model: str, large: Path, layout: Layout, slices: Slices) -> Mixed:
    for _ in range(WARM_UP_REQUESTS):
        ask(target)
    alone = Stream(target, RATE, slices.seconds, connections=CONNECTIONS)
    both = replace(alone, beside=large)
    taken = [
        (generate(alone, layout).figures, generate(both, layout).figures)
        for _ in range(slices.turns)
    ]
    solo, beside = zip(*taken, strict=True)
    return Mixed(model, planned_run_ms(card_of(target, model)), solo, beside)


def card_of(target: Target, model: str) -> Mapping[str, Any]:
    """Read the card of *model* from the server that *target* is on."""
    parts = urlsplit(target.url)
    url = f"http://{parts.netloc}/v1/models/{model}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=ANSWER_WITHIN_S) as answer:
        card: dict[str, Any] = json.loads(answer.read())
    return card


def planned_run_ms(card: Mapping[str, Any]) -> float:
    """Say how long a run is when others wait, by the cost on a model's card.

    A whole batch if it takes less than the 2 ms that are promised, and one row if already that
    takes more; 2 ms where the card does not tell.
    """
    cost = ((card.get("placement") or {}).get("cost") or {}).get(ANOMALY_SCORE)
    if not cost:
        return PLANNED_MS
    shortest, full = float(cost["seconds"][0]), cost["base_s"] + cost["row_s"] * cost["useful_rows"]
    return max(shortest * 1e3, min(full * 1e3, PLANNED_MS))
