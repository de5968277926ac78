"""The report, from samples that are made up."""

from benchmarks.cases import CONV, DENSE, JSON_1, RAW_1, RAW_64, Case
from benchmarks.closed_loop import Samples
from benchmarks.coldstart import ColdStart
from benchmarks.generator import Figures
from benchmarks.hotpath import Cost, Trial
from benchmarks.open_loop import OpenRun
from benchmarks.report import Results, make_charts, write_report
from benchmarks.servers import BARE, HOURGLASS, USUAL
from benchmarks.slow import SLOW
from benchmarks.stats import Sample
from tests.benchmarks.made_up import a_mixed, an_overload

CASE = Case("pinned", CONV, RAW_1, 8)


def sample(rate: float, *, share: float = 0.1, cpu_us: float = 100) -> Sample:
    return Sample(rate, 1.5, 2.5, cpu_us, share)


def results(bare_share: float = 0.1) -> Results:
    samples = Samples(others_shares=[0.0, 0.2, 0.1], memory_mib={HOURGLASS: 150.4})
    samples.served = {
        (CASE, HOURGLASS): [sample(2000), sample(3000), sample(2500)],
        (CASE, USUAL): [sample(500, cpu_us=400), sample(500, cpu_us=400), sample(500, cpu_us=400)],
        (CASE, BARE): [sample(10_000, share=bare_share)] * 3,
    }
    samples.direct = {("pinned", CONV, 1, 1): [sample(5000)] * 3}
    return Results({"Machine": "a quiet one"}, samples, {HOURGLASS: ColdStart(1.23, 99.6)})


def rows(text: str) -> list[list[str]]:
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_ratios_stand_beside_the_figure():
    row = next(row for row in rows(write_report(results(), {})) if row[0] == CONV)

    assert row == [
        CONV, "raw-1", "8", "2,500", "5.0 (4.0 to 6.0)", "0.25 (0.20 to 0.30)",
        "0.50 (0.40 to 0.60)", "0.50 (0.40 to 0.60)", "0.25", "0", "1.7",
    ]  # fmt: skip


def test_a_generator_at_its_limit_voids_figure_and_ratio():
    text = write_report(results(bare_share=0.95), {})

    assert "0.25 (0.20 to 0.30), void" in text
    assert "10,000 (void)" in text
    assert "5.0 (4.0 to 6.0) |" in text


def test_a_contender_that_was_not_measured_is_a_dash():
    given = results()
    del given.samples.served[CASE, USUAL]
    row = next(row for row in rows(write_report(given, {})) if row[0] == CONV)

    assert (row[4], row[8]) == ("-", "-")


def test_large_bodies_are_compared_with_all_threads_and_with_one():
    given = results()
    case = Case("unpinned", CONV, RAW_64, 8)
    given.samples.served = {(case, HOURGLASS): [sample(90), sample(80)]}
    given.samples.direct = {
        ("unpinned", CONV, 64, 2): [sample(180), sample(160)],
        ("unpinned", CONV, 64, 1): [sample(100), sample(100)],
    }
    row = next(row for row in rows(write_report(given, {})) if row[0] == CONV)

    assert row[6:8] == ["0.50 (0.50 to 0.50)", "0.85 (0.80 to 0.90)"]


def test_cpu_time_above_the_bare_application_is_in_microseconds():
    given = results()
    given.samples.served[CASE, HOURGLASS] = [sample(2000, cpu_us=cpu) for cpu in (340, 360, 350)]
    row = next(row for row in rows(write_report(given, {})) if row[0] == CONV)

    assert row[9] == "250"


def test_cells_are_in_the_order_of_the_grid():
    given = results()
    taken = given.samples.served[CASE, HOURGLASS]
    for kind, concurrency in ((JSON_1, 1), (RAW_1, 32), (RAW_1, 1)):
        given.samples.served[Case("pinned", CONV, kind, concurrency), HOURGLASS] = taken
    found = [row[1:3] for row in rows(write_report(given, {})) if row[0] == CONV][:4]

    assert found == [["raw-1", "1"], ["raw-1", "8"], ["raw-1", "32"], ["json-1", "1"]]


def test_the_report_begins_with_the_facts_and_shows_the_charts():
    text = write_report(results(), {"a chart": "chart.svg"})

    assert "* **Machine:** a quiet one" in text
    assert "other processes used 0.10 cores in the median slice, 0.20 in the worst" in text
    assert "![a chart](chart.svg)" in text


def test_cold_start_and_memory():
    assert [HOURGLASS, "1.23", "100", "150"] in rows(write_report(results(), {}))


def test_an_open_loop_says_when_it_is_void_or_overloaded():
    given = results()
    given.open_runs = [
        OpenRun(CONV, HOURGLASS, 1000, Figures(999, 1, 2, 0.1, 0)),
        OpenRun(CONV, HOURGLASS, 2000, Figures(1500, 90, 200, 0.1, 0)),
        OpenRun(CONV, USUAL, 1000, Figures(999, 1, 2, 1.1, 0)),
    ]
    remarks = [row[-1] for row in rows(write_report(given, {})) if len(row) == 9][2:]

    assert remarks == ["", "overloaded", "void"]


def test_there_is_a_chart_for_each_model_and_one_for_the_open_loop():
    given = results()
    given.open_runs = [OpenRun(CONV, HOURGLASS, 1000, Figures(999, 1, 2, 0.1, 0))]

    charts = make_charts(given)

    assert list(charts) == ["mnist-conv pinned", "open loop"]
    assert all(svg.startswith("<svg ") for svg in charts.values())


def test_the_targets_stand_before_everything_that_was_measured():
    text = write_report(results(), {"a chart": "chart.svg"})

    assert text.index("## Targets") < text.index("chart.svg") < text.index("## Closed loop")


def test_the_hot_path_is_compared_with_its_floor():
    given = results()
    trial = Trial(DENSE, RAW_1, 32)
    given.hot_path = {
        trial.floor: [Cost(20, 20), Cost(30, 30), Cost(40, 40)],
        trial: [Cost(80, 70), Cost(90, 60), Cost(100, 80)],
    }
    found = {row[0]: row for row in rows(write_report(given, {})) if row[2:4] == ["raw-1", "32"]}

    assert found["bare"] == ["bare", "-", "raw-1", "32", "30.0", "20.0", "30.0", "-"]
    assert found[HOURGLASS][4:] == ["90.0", "80.0", "70.0", "3.00 (2.50 to 4.00)"]


def test_an_overload_says_what_became_of_every_request():
    given = results()
    given.overloads = [an_overload(in_time=950, others={"504": 1200}, unsent=3)]
    answered, cost = (row for row in rows(write_report(given, {})) if row[0] == SLOW)

    assert answered == [
        SLOW, "25.0", "100.0 (90.0, 110.0)", "300", "10", "95.0", "0.95", "5", "2,000",
        "1,200 x 504", "6", "7", "3",
    ]  # fmt: skip
    assert cost == [
        SLOW, "2.0", "8.0", "49.0", "0.10", "0.90", "100.0", "120.0", "110.0", "4.0", "26.0",
        "0.70",
    ]  # fmt: skip


def test_an_overload_that_was_not_sent_whole_is_void():
    given = results()
    given.overloads = [an_overload(unsent=31)]

    assert next(row for row in rows(write_report(given, {})) if row[0] == SLOW)[-1] == "31 (void)"


def test_small_requests_beside_large_ones():
    given = results()
    given.mixed = [a_mixed()]

    assert "## One row beside 512" in write_report(given, {})
    row = [row for row in rows(write_report(given, {})) if len(row) == 10][-1]
    assert row == [CONV, "2.00", "1.00", "3.00", "2.00", "5.00", "6.00", "60", "3", "0.10"]
