"""The calls that the page on migrating shows, against the bundled models."""

import re
import subprocess
import sys

import pytest

from tests.e2e import documents
from tests.e2e.documents import SHOWN_URL
from tests.e2e.server import ROOT, process

DOCS = ROOT / "docs"
PAGE = (DOCS / "migrating.md").read_text(encoding="utf-8")
SESSIONS = documents.sessions(PAGE)
PROGRAMS = documents.python(PAGE)

_LINK = re.compile(r"\]\((?!https://)([^)#]*)(?:#([^)]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TABLE = re.compile(r"^\| theirs \|.*\n(?:\|.*\n)+", re.MULTILINE)


@pytest.fixture(scope="module")
def server():
    with process("--device", "cpu", models=ROOT / "models") as server:
        yield server


@pytest.mark.parametrize("session", SESSIONS, ids=range(len(SESSIONS)))
def test_a_call_that_replaces_theirs_gives_what_the_page_shows(server, tmp_path, session):
    documents.check(session, server.url, tmp_path)


def test_the_threshold_of_the_python_lets_as_many_rows_through_as_the_page_says(server):
    (program,) = PROGRAMS
    shown = re.findall(r"^print\(.*# (.+)$", program, re.MULTILINE)

    done = subprocess.run(
        [sys.executable, "-c", program.replace(SHOWN_URL, server.url)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )

    alarms, rate = done.stdout.splitlines()
    assert alarms == shown[0]
    assert float(rate) == pytest.approx(float(shown[1].split(":")[0]), abs=0.001)


@pytest.mark.parametrize("table", _TABLE.findall(PAGE), ids=lambda table: table.split("`")[1])
def test_a_table_has_theirs_ours_and_the_difference_in_every_row(table):
    head, _, *rows = table.splitlines()

    assert head == "| theirs | ours | difference |"
    assert {row.count(" |") for row in rows} == {3}


@pytest.mark.parametrize(("file", "anchor"), sorted(set(_LINK.findall(PAGE))))
def test_every_place_that_the_page_links_is_there(file, anchor):
    target = DOCS / (file or "migrating.md")

    assert target.is_file()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(document: str) -> set[str]:
    """Name every heading as GitHub does."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(document))
    return {word.replace(" ", "-") for word in words}
