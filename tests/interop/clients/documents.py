"""curl: the lines of the README and of docs/api.md, as they stand there."""

from tests.e2e import documents
from tests.e2e.server import ROOT
from tests.interop.checks import Checks, Task, main


def check_client(checks: Checks, task: Task) -> None:
    """Run every command, and compare its answer with the one that is shown below it."""
    for name in ("README.md", "docs/api.md"):
        found = documents.sessions((ROOT / name).read_text(encoding="utf-8"))
        with checks.check(f"{name} shows something to run"):
            assert found
        for session in found:
            line = " ".join(session.command.replace("\\\n", "").split())
            with checks.check(f"{name}: {line if len(line) < 120 else line[:116] + ' ...'}"):
                documents.check(session, task.url, task.folder)


if __name__ == "__main__":
    main(check_client)
