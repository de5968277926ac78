"""What the runner reads of the fuzzer, and says where there is none."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.__main__ import HEAD, main, read_report, write_dictionary
from tests.fuzz.harness import CORPUS, PARSERS, harness_of

LOG = """\
INFO: seed corpus: files: 41 min: 1b max: 1514b total: 5067b rss: 84Mb
#42\tINITED cov: 211 ft: 640 corp: 38/4810b exec/s: 0 rss: 88Mb
#1024\tNEW    cov: 214 ft: 651 corp: 40/4Kb lim: 1514 exec/s: 512 rss: 90Mb L: 9/1514
#2981\tDONE   cov: 230 ft: 702 corp: 51/5Kb lim: 1600 exec/s: 993 rss: 91Mb
stat::number_of_executed_units: 2981
stat::average_exec_per_sec:     993
"""


def test_a_run_is_summed_up_in_a_line():
    report = read_report("json", LOG, [Path("findings/crash-1")])

    assert (report.executions, report.branches, report.inputs) == (2981, 230, 51)
    assert str(report).split() == ["json", "2,981", "230", "51", "1"]
    assert len(str(report)) == len(HEAD)


def test_a_run_that_ended_at_its_first_input_is_a_report_too():
    report = read_report("npy", "", [Path("findings/crash-1")])

    assert (report.executions, report.branches, report.inputs) == (0, 0, 0)


def test_tokens_are_written_as_the_fuzzer_reads_them():
    assert write_dictionary((b'a"\\', b"\xff\n")) == '"\\x61\\x22\\x5c"\n"\\xff\\x0a"\n'


@pytest.mark.skipif(find_spec("atheris") is not None, reason="the fuzzer is here")
def test_without_the_fuzzer_nothing_is_done_and_the_reason_told(capsys):
    assert main([]) == 0

    assert "atheris is not installed here" in capsys.readouterr().out


def test_every_parser_has_tokens_and_a_corpus_and_there_is_no_other():
    folders = {folder.name for folder in CORPUS.iterdir() if folder.is_dir()}

    assert folders == set(PARSERS)
    assert all(all(harness_of(parser).tokens) for parser in PARSERS)
