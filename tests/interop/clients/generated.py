"""A client that openapi-python-client writes from the server's OpenAPI document."""

import importlib
import io
import re
import shutil
import subprocess
import sys
import typing
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from tests.interop.checks import MODEL, PICTURES, Checks, Task, equal, main, must, same_bits

PACKAGE = "hourglass_client"
UNKNOWN = "Unsupported content type"


def check_client(checks: Checks, task: Task) -> None:
    """Write the client, and encode, decode, reconstruct and score with it."""
    with checks.check("the client is written, without a warning that is not about a content type"):
        _generate(task)
    sys.path.insert(0, str(task.folder))
    client = importlib.import_module(PACKAGE).Client(base_url=task.url)
    for operation, field, wanted in (
        ("encode", "codes", "code"),
        ("reconstruct", "reconstructions", "reconstruction"),
        ("anomaly_score", "scores", "score"),
    ):
        with checks.check(f"{operation}, JSON, parsed into the answer's class"):
            answer = _ask(client, operation, _body(operation, task.wanted["rows"]))
            must(answer.status_code == 200, answer.content)
            got = np.array(getattr(answer.parsed, field), np.float32)
            same_bits(got, task.wanted[wanted])
    with checks.check("decode, JSON, parsed into the answer's class"):
        answer = _ask(client, "decode", _body("decode", task.wanted["code"]))
        got = np.array(answer.parsed.reconstructions, np.float32)
        same_bits(got, task.wanted["reconstruction"])
    with checks.check("the score's fields have their types"):
        parsed = _ask(client, "anomaly_score", _body("anomaly_score", task.wanted["rows"])).parsed
        equal(parsed.metric, task.wanted["metric"])
        equal(np.float32(parsed.threshold), np.float32(task.wanted["threshold"]))
        equal(parsed.anomalies, [False] * len(task.wanted["rows"]))
    with checks.check("raw rows are sent as a file, pictures in a form"):
        _check_files(client, task)
    with checks.check("an error is parsed into the class of problem details"):
        answer = _ask(client, "encode", _body("encode", task.wanted["rows"][:, :, :7]))
        equal((answer.status_code, answer.parsed.status), (422, 422))
        must("28" in answer.parsed.detail, answer.parsed.detail)


def _generate(task: Task) -> None:
    document, folder = task.folder / "openapi.json", task.folder / PACKAGE
    with urllib.request.urlopen(f"{task.url}/openapi.json") as answer:
        document.write_bytes(answer.read())
    shutil.rmtree(folder, ignore_errors=True)
    tool = Path(sys.prefix) / "bin" / "openapi-python-client"
    done = subprocess.run(
        [tool, "generate", "--meta", "none", "--path", document, "--output-path", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    must(done.returncode == 0, output)
    warnings = re.findall(r"^WARNING (.*)\n+(.*)$", output, re.MULTILINE)
    # it knows JSON, forms and application/octet-stream, and leaves out all other bodies
    found = [warning for warning in warnings if not warning[1].startswith(UNKNOWN)]
    must(not found, found)


def _ask(client: Any, operation: str, body: Any) -> Any:
    module = importlib.import_module(f"{PACKAGE}.api.operations.{operation}")
    return module.sync_detailed(MODEL, client=client, body=body)


def _body(operation: str, rows: np.ndarray) -> Any:
    models = importlib.import_module(f"{PACKAGE}.models")
    kinds = {"anomaly_score": models.ScoreBody, "encode": models.EncodeBody}
    kind = kinds.get(operation, models.RowsBody)
    return kind.from_dict({"inputs": rows.tolist()})


def _check_files(client: Any, task: Task) -> None:
    types = importlib.import_module(f"{PACKAGE}.types")
    answer = _ask(client, "encode", types.File(io.BytesIO(task.wanted["rows"].tobytes())))
    must(answer.status_code == 200, answer.content)
    same_bits(np.array(answer.parsed.codes, np.float32), task.wanted["code"])
    files = [
        types.File(io.BytesIO(picture.read_bytes()), picture.name, "image/png")
        for picture in PICTURES
    ]
    answer = _ask(client, "encode", _form("encode")(file=files))
    must(answer.status_code == 200, answer.content)
    equal(np.shape(answer.parsed.codes), (2, 32))


def _form(operation: str) -> Any:
    """Find the class of a form with pictures, whatever it is called."""
    function = importlib.import_module(f"{PACKAGE}.api.operations.{operation}").sync_detailed
    kinds = typing.get_args(typing.get_type_hints(function)["body"])
    return next(kind for kind in kinds if hasattr(kind, "to_multipart"))


if __name__ == "__main__":
    main(check_client)
