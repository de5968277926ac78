"""The commands of the README and of the interface's document, against the bundled models."""

import re
import subprocess
import sys

import pytest

from tests.e2e import documents
from tests.e2e.documents import SHOWN_URL, Session
from tests.e2e.server import ROOT, process

README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = "hourglass_client"
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

SESSIONS = [
    pytest.param(session, id=f"{name}-{number}")
    for name, text in (("readme", README), ("api", API))
    for number, session in enumerate(documents.sessions(text))
]


@pytest.fixture(scope="module")
def server():
    with process("--device", "cpu", models=ROOT / "models") as server:
        yield server


@pytest.mark.parametrize("session", SESSIONS)
def test_a_curl_line_of_a_document_gives_what_the_document_shows(server, tmp_path, session):
    documents.check(session, server.url, tmp_path)


@pytest.mark.parametrize("text", [README, API], ids=["readme", "api"])
def test_both_documents_show_something_to_run(text):
    assert documents.sessions(text)


def test_the_python_of_the_interfaces_document_runs(server):
    for code in documents.python(API):
        if GENERATED in code:  # tests/api/test_generated_client.py has that package
            continue
        there = code.replace(SHOWN_URL, server.url)
        subprocess.run([sys.executable, "-c", there], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    "session",
    [
        Session("curl -s http://127.0.0.1:8000/v1/models/nobody", ""),
        Session("curl -s http://127.0.0.1:8000/v1/models", '{"models":[]}'),
        Session("curl -s http://127.0.0.1:8000/docs -o page.png", ""),
    ],
    ids=["error", "other answer", "no picture"],
)
def test_a_line_whose_document_is_wrong_is_found(server, tmp_path, session):
    with pytest.raises(AssertionError):
        documents.check(session, server.url, tmp_path)


def test_commands_are_found_in_consoles_and_scripts_with_all_their_lines():
    text = (
        "```console\n$ make serve\n$ curl a \\\n    b\n{\n}\n```\n"
        "```sh\n# it's a comment\ncurl c\nmake d | curl e \\\n  -d '{\n  }'\n```\n"
        "```python\ncurl g\n```\n"
    )

    assert documents.sessions(text) == [
        Session("curl a \\\n    b", "{\n}"),
        Session("curl c", ""),
        Session("make d | curl e \\\n  -d '{\n  }'", ""),
    ]


LINKS = re.findall(r"\]\(([^)#:]+)|src=\"([^\"]+)", README)


@pytest.mark.parametrize("link", sorted({link or picture for link, picture in LINKS}))
def test_every_file_that_the_readme_links_exists(link):
    assert (ROOT / link).exists()
