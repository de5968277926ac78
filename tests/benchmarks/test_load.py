"""What wrk says, and what is asked of it."""

import pytest

from benchmarks import cases, machine
from benchmarks.load import WrkResult, parse

OUTPUT = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 8 connections
result {"requests": 200, "duration_us": 1000000, "p50_us": 40, "p99_us": 90, "errors": 1}
"""


def test_the_result_is_found_among_what_wrk_says():
    expected = WrkResult(requests=200, duration_us=1_000_000, p50_us=40, p99_us=90, errors=1)

    assert parse(OUTPUT) == expected


def test_output_without_a_result_is_shown():
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1")


def test_the_whole_grid_has_every_model_body_and_concurrency():
    found = list(cases.grid("pinned", cases.CONCURRENCIES, []))

    assert len({case.name for case in found}) == len(found) == 2 * 3 * 4


def test_models_are_neighbours_in_time():
    first, second, *_ = cases.grid("pinned", cases.CONCURRENCIES, [])

    assert (first.kind, first.concurrency) == (second.kind, second.concurrency)


def test_patterns_choose_cells():
    found = list(cases.grid("pinned", (1, 8), ["*/dense*/raw-1/8", "unpinned/*"]))

    assert [case.name for case in found] == ["pinned/dense-784-128-32/raw-1/8"]


def test_the_processor_is_read_from_cpuinfo():
    assert machine.processor("processor\t: 0\nmodel name\t: Some CPU @ 2\n") == "Some CPU @ 2"


def test_a_machine_makes_a_file_name():
    assert machine.slug(2, "AMD EPYC(TM) 7B13") == "2-cores-amd-epyc-tm-7b13"
