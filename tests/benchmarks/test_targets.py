"""Whether a target is met, from samples that are made up."""

from typing import Any

import pytest

from benchmarks import targets
from benchmarks.cases import CONV, DENSE, JSON_1, RAW_1, RAW_64, Case, Kind
from benchmarks.closed_loop import Samples
from benchmarks.mixed import Mixed
from benchmarks.overload import Overload
from benchmarks.servers import BARE, HOURGLASS, USUAL
from benchmarks.stats import Sample
from benchmarks.targets import Finding
from tests.benchmarks.made_up import a_mixed, an_overload


def sample(rate: float = 1000, *, p99_ms: float = 2, cpu_us: float = 100, **more: Any) -> Sample:
    return Sample(rate, 1, p99_ms, cpu_us, **more)


def served(*cells: tuple[str, str, Kind, int, str, Sample]) -> Samples:
    samples = Samples()
    for layout, model, kind, concurrency, name, taken in cells:
        samples.served[Case(layout, model, kind, concurrency), name] = [taken] * 3
    return samples


def find(start: str, samples: Samples, mixed: tuple[Mixed, ...] = ()) -> Finding:
    """Find the one target that begins like this."""
    (found,) = (f for f in targets.find(samples, (), mixed) if f.target.startswith(start))
    return found


def dense(name: str, rate: float, **more: Any) -> tuple[str, str, Kind, int, str, Sample]:
    return ("pinned", DENSE, RAW_1, 32, name, sample(rate, **more))


def test_nothing_measured_is_nothing_met_and_nothing_missed():
    found = targets.find(Samples(), (), ())

    assert {finding.judgement for finding in found} == {"not measured"}
    assert len({finding.target for finding in found}) == len(found) == 18


@pytest.mark.parametrize(("rate", "judgement"), [(700, "met"), (690, "**missed**")])
def test_requests_beside_the_bare_application(rate, judgement):
    samples = served(dense(HOURGLASS, rate), dense(BARE, 1000))
    found = find("requests/s, pinned/dense-784-128-32/raw-1/32, of the bare", samples)

    assert (found.wanted, found.judgement) == ("at least 0.7", judgement)
    assert found.measured.startswith(f"{rate / 1000:.2f} (")


@pytest.mark.parametrize(
    ("model", "kind", "times"),
    [(DENSE, RAW_1, 5), (DENSE, JSON_1, 5), (CONV, RAW_1, 2), (CONV, JSON_1, 4)],
)
def test_requests_beside_the_usual_service(model, kind, times):
    cells = [("pinned", model, kind, 32, USUAL, sample(100))]
    for rate, judgement in ((100 * times, "met"), (100 * times - 1, "**missed**")):
        ours = ("pinned", model, kind, 32, HOURGLASS, sample(rate))
        start = f"requests/s, pinned/{model}/{kind.name}/32, times"

        assert find(start, served(*cells, ours)).judgement == judgement


def test_a_generator_at_its_limit_judges_nothing():
    samples = served(dense(HOURGLASS, 900), dense(BARE, 1000, generator_share=0.95))

    found = find("requests/s, pinned/dense-784-128-32/raw-1/32, of the bare", samples)
    assert found.judgement == "void"


def test_large_requests_count_with_the_clients_that_suit_them_best():
    cells = [
        ("unpinned", CONV, RAW_64, clients, HOURGLASS, sample(rate))
        for clients, rate in ((1, 99), (8, 80), (32, 86))
    ]
    samples = served(*cells)
    samples.direct["unpinned", CONV, 64, 1] = [sample(100)] * 3
    found = find("rows/s, unpinned/mnist-conv/raw-64", samples)

    assert (found.measured, found.judgement) == ("0.86 (0.86 to 0.86) with 32 clients", "met")


def test_large_requests_are_not_judged_by_refusals():
    refused = sample(500, error_share=0.8)
    samples = served(
        ("unpinned", CONV, RAW_64, 8, HOURGLASS, sample(80)),
        ("unpinned", CONV, RAW_64, 128, HOURGLASS, refused),
    )
    samples.direct["unpinned", CONV, 64, 1] = [sample(100)] * 3

    assert find("rows/s, unpinned/mnist-conv/raw-64", samples).judgement == "**missed**"


@pytest.mark.parametrize("layout", ["pinned", "unpinned"])
def test_the_worst_cell_says_how_steady_latency_is(layout):
    samples = served(
        (layout, DENSE, RAW_1, 32, HOURGLASS, sample(p99_ms=2.5)),
        (layout, DENSE, RAW_1, 128, HOURGLASS, sample(p99_ms=9)),
        (layout, DENSE, RAW_1, 32, USUAL, sample(p99_ms=9)),
    )
    start = f"p99 by p50 at concurrency 32, {layout}"
    assert find(start, samples).judgement == "met"

    samples.served |= served((layout, CONV, JSON_1, 32, HOURGLASS, sample(p99_ms=2.6))).served
    samples.served |= served((layout, CONV, JSON_1, 32, BARE, sample(p99_ms=3.1))).served
    found = find(start, samples)
    assert found.measured == "2.6 (mnist-conv/json-1), the bare application 3.1"
    assert found.judgement == "**missed**"


@pytest.mark.parametrize(("cpu_us", "judgement"), [(350, "met"), (351, "**missed**")])
def test_cpu_time_above_the_bare_application(cpu_us, judgement):
    samples = served(
        ("pinned", CONV, JSON_1, 1, HOURGLASS, sample(cpu_us=cpu_us)),
        ("pinned", CONV, JSON_1, 1, BARE, sample(cpu_us=100)),
    )
    samples.direct["pinned", CONV, 1, 1] = [sample(cpu_us=150)]
    found = find("CPU us a request above the bare application, pinned/mnist-conv/json-1/1", samples)

    assert found.judgement == judgement
    assert found.measured == f"{cpu_us - 100} (150 of it ONNX Runtime alone)"


def overload_findings(run: Overload) -> list[str]:
    found = targets.find(Samples(), (run,), ())
    return [f.judgement for f in found if f.target.startswith(run.model)]


def test_an_overload_that_is_survived():
    assert overload_findings(an_overload()) == ["met"] * 4


@pytest.mark.parametrize(
    ("place", "run"),
    [
        (0, an_overload(in_time=899)),
        (1, an_overload(refused_max_ms=50.1)),
        (2, an_overload(growth=8.1)),
        (3, an_overload(recovered_s=2.1)),
    ],
)
def test_each_promise_of_an_overload_is_judged_by_itself(place, run):
    expected = ["met"] * 4
    expected[place] = "**missed**"

    assert overload_findings(run) == expected


def test_an_overload_without_refusals_shows_nothing_about_them():
    assert overload_findings(an_overload(refused=0, refused_max_ms=0.0))[1] == "not measured"


def test_an_overload_that_was_not_sent_whole_judges_nothing():
    assert overload_findings(an_overload(unsent=31)) == ["void"] * 4


def test_the_dense_models_overload_is_no_target():
    found = targets.find(Samples(), (an_overload(model=DENSE),), ())

    assert {finding.judgement for finding in found} == {"not measured"}


@pytest.mark.parametrize(
    ("beside_p99_ms", "planned_ms", "judgement"),
    [(6.0, 2.0, "met"), (6.1, 2.0, "**missed**"), (3.0, 0.4, "**missed**")],
)
def test_small_requests_may_wait_for_two_planned_runs(beside_p99_ms, planned_ms, judgement):
    run = a_mixed(beside_p99_ms=beside_p99_ms, planned_ms=planned_ms)
    found = find("p99 of one row beside 512, mnist-conv", Samples(), mixed=(run,))

    assert found.judgement == judgement
    assert found.wanted.startswith(f"at most {2 + 2 * planned_ms:.1f} (solo 2.0 + 2 x")


def test_a_late_generator_judges_no_neighbours():
    run = a_mixed(lag_ms=1.1)

    assert find("p99 of one row beside 512, mnist", Samples(), mixed=(run,)).judgement == "void"


def test_the_table_has_a_line_for_each_target():
    text = targets.render([Finding("a", "at least 1", "2", is_met=True), Finding("b", "c", "-")])

    assert text.splitlines()[2:] == ["| a | at least 1 | 2 | met |", "| b | c | - | not measured |"]
