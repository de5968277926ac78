"""The report, from samples that are made up."""

from benchmarks.cases import CONV, JSON_1, RAW_1, Case
from benchmarks.closed_loop import Samples
from benchmarks.coldstart import ColdStart
from benchmarks.open_loop import Figures, OpenRun
from benchmarks.report import Results, make_charts, table, write_report
from benchmarks.servers import BARE, HOURGLASS, USUAL
from benchmarks.stats import Sample

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
    samples.direct = {("pinned", CONV, 1): [sample(5000)] * 3}
    return Results({"Machine": "a quiet one"}, samples, {HOURGLASS: ColdStart(1.23, 99.6)})


def rows(text: str) -> list[list[str]]:
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_is_markdown():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_ratios_stand_beside_the_figure():
    row = next(row for row in rows(write_report(results(), {})) if row[0] == CONV)

    assert row == [
        CONV, "raw-1", "8", "2,500", "5.0 (4.0 to 6.0)", "0.25 (0.20 to 0.30)",
        "0.50 (0.40 to 0.60)", "0.25",
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

    assert (row[4], row[7]) == ("-", "-")


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
