"""Names that would lead somewhere else if anybody opened them, and one process that meets all.

``python -m tests.hostile.names FOLDER`` runs the commands and a server over a repository that
*write_repository* has written, and asks for every name; under strace it shows what was opened.
"""

import json
import os
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from service.cli import main
from tests import tiny
from tests.e2e.server import process

OUTSIDE: Final = "the-outside"
"""In the names of all that lies outside."""

_TARGETS: Final = ("etc/passwd", OUTSIDE, f"{OUTSIDE}/1/model.json", "model.json", "proc/self/maps")
_WAYS_UP: Final = (
    *("../", "../../", "../../../", "../../../../../../../../", "/", "//", "/./", "./../", "\t/"),
    *("..\\", "\\\\", "C:\\", "c:/", "..%2f..%2f", "%2e%2e/", "%252e%252e%252f", "..;/", "%00/"),
    *("..\u2215", "\uff0e\uff0e/", "\u2024\u2024/", "x/../../", "file:///", "~/", "~root/"),
    *("\0/", "x\0/../", "\n/", "\x1b[31m", "\u202e", "..././", "....//", "$HOME/"),
)
_WORDS: Final = (
    *("", ".", "..", "...", " ", "\0", "CON", "NUL", "AUX", "COM1", "LPT1.onnx", "con.npz", "~"),
    *("-", "--help", "-rf", "*", "?", "[a-z]*", "{a,b}", "$(id)", "`id`", "|id", ";id", "&"),
    *("a" * 256, "a" * 5000, "\u00e9" * 200, "\U0001f4a3", "\u0130", "\u017f", "\u212a", "\ufeffa"),
    *("a/b", "a\\b", "a:b", ".hidden", "model.json", "../model.json", "x.onnx::$DATA", "a\rb"),
    *("e\u0301ncoder.onnx", "encoder.onnx ", "encoder.onnx.", "encoder.onnx/", "ENCODER.ONNX"),
    *("0", "01", "-1", "1e3", "9" * 30, "1/../../1", "latest", "None", "null", "true", ">out"),
)
NAMES: Final = tuple(
    dict.fromkeys([*(way + target for way, target in product(_WAYS_UP, _TARGETS)), *_WORDS])
)
"""All of them, each once."""


def write_repository(models: Path) -> None:
    """Write a package for every name, which it bears in one of many places, and links outside."""
    outside = models.parent / OUTSIDE
    tiny.write_tabular(outside, name="tabular")
    good = tiny.write_tabular(models, name="good")
    content = json.loads((good.folder / "model.json").read_text())
    del content["seal"]
    for number, name in enumerate(NAMES):
        folder = models / f"named-{number}" / "1"
        folder.mkdir(parents=True)
        for path in good.folder.iterdir():
            os.link(path, folder / path.name)
        (folder / "model.json").unlink()
        manifest = _named(content | {"name": f"named-{number}"}, name, number)
        (folder / "model.json").write_text(json.dumps(manifest))
    tiny.write_tabular(models / "small", name="good")
    _write_links(models, outside)
    _write_folders(models)


def _named(content: dict[str, Any], name: str, number: int) -> dict[str, Any]:
    """Put *name* where a name of a file, a tensor or a model stands, the place by *number*."""
    record = {"sha256": sha256(b"").hexdigest(), "bytes": 0}
    files = content["files"]
    layer = {"file": "encoder", "tensor": name, "dtype": "float32", "shape": [2]}
    changes: list[dict[str, Any]] = [
        {"graphs": {"encoder": name, "decoder": "decoder.onnx"}, "files": files | {name: record}},
        {"golden": {"file": name}, "files": files | {name: record}},
        {"calibration": content["calibration"] | {"file": name}},
        {"files": files | {name: record}},
        {"layers": {"inner": layer}},
        {"layers": {name: layer | {"tensor": "z"}}},
        {"name": name},
        {"output_kind": name, "title": name},
        {"graphs": {"autoencoder": "encoder.onnx", "code_tensor": name}},
    ]
    return content | changes[number % len(changes)]


def _write_links(models: Path, outside: Path) -> None:
    (models / "linked-model").symlink_to(outside / "tabular")
    for name, target in {
        "linked-version": outside / "tabular" / "1",
        "linked-to-root": Path("/"),
        "linked-to-nowhere": outside / "nowhere",
    }.items():
        (models / name).mkdir()
        (models / name / "1").symlink_to(target)
    for path in (outside / "tabular" / "1").iterdir():
        linked = tiny.write_tabular(models, name=f"links-{path.stem}").folder / path.name
        linked.unlink()
        linked.symlink_to(path)


def _write_folders(models: Path) -> None:
    """Make folders of every name that a file system takes."""
    for name in NAMES:
        if name and not {"/", "\0"} & set(name) and len(os.fsencode(name)) < 256:
            (models / name / "1").mkdir(parents=True, exist_ok=True)
            (models / "good" / name).mkdir(exist_ok=True)


def meet_all(models: Path) -> dict[str, Any]:
    """Let the commands and a server meet every name, and tell how they ended."""
    commands = [["models", str(models)], ["check", str(models), "--device", "cpu", "--json"]]
    statuses = [_run(command) for command in commands]
    small = str(models / "small")  # every command lists its whole repository
    for name in NAMES:
        if not name.startswith("-") and "\0" not in name:  # as no shell could give it either
            statuses.append(_run(["check", small, "--model", name]))
            statuses.append(_run(["seal", name, "--models", small]))
    with process("--device", "cpu", models=models, ready=False) as server:
        port = int(server.url.rpartition(":")[2])
        while not {"ready", "not ready"} & {line["message"] for line in server.lines}:
            pass
        answers = [_ask(port, path) for name in NAMES for path in _paths(name)]
        server.terminate()
        status = server.wait()
    return {"commands": statuses, "answers": answers, "server": status}


def _run(arguments: list[str]) -> int:
    """Run a command in this process; its output is not what is looked at here."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            return main(arguments)
        except SystemExit as end:
            return int(end.code or 0)


def _paths(name: str) -> list[bytes]:
    """Targets of requests with *name* in the place of a model and of a version, escaped and not."""
    plain = "".join(letter for letter in name if letter.isprintable() and letter != " ").encode()
    escaped = quote(name, safe="").encode()
    return [
        b"/v1/models/" + plain,
        b"/v1/models/" + escaped + b"/encode",
        b"/v2/models/good/versions/" + escaped,
    ]


def _ask(port: int, path: bytes) -> int:
    """Send a request that no client library would, and give the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


if __name__ == "__main__":
    print(json.dumps(meet_all(Path(sys.argv[1]))))  # noqa: T201 - for the test
