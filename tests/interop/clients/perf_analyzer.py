"""perf_analyzer: its own load, its table, its comparison of outputs, its reading of statistics."""

import base64
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.checks import DECODER, MODEL, Checks, NotSoError, Task, equal, main, must

OUTPUTS = ("code", "reconstruction", "score")
CONCURRENCY = range(1, 9)
# what is asked is whether it works, so a run need not be steady for long
WINDOW = ("--measurement-interval", "1000", "--stability-percentage", "100")
LEVELS = ("--concurrency-range", f"{CONCURRENCY.start}:{CONCURRENCY.stop - 1}")
WITHIN_S = 240.0


def check_client(checks: Checks, task: Task) -> None:
    """Run it over concurrencies, formats, batches and both models."""
    rows = _write(task, "input", task.wanted["rows"], OUTPUTS)
    codes = _write(task, "code", task.wanted["code"], ("reconstruction",))
    with checks.check("binary, concurrency 1 to 8, every output compared"):
        found = _run(task, MODEL, rows, *LEVELS)
        equal([int(row["Concurrency"]) for row in found], [*CONCURRENCY], "the table")
    with checks.check("JSON requests, concurrency 1 to 8"):
        found = _run(task, MODEL, rows, *LEVELS, "--input-tensor-format", "json")
        equal([int(row["Concurrency"]) for row in found], [*CONCURRENCY], "the table")
    with checks.check("JSON requests and answers, the decoder alone"):
        json_ = ("--input-tensor-format", "json", "--output-tensor-format", "json")
        _run(task, DECODER, codes, "--concurrency-range", "2", *json_)
    with checks.check("the asynchronous client, and a version"):
        _run(task, MODEL, rows, "--concurrency-range", "4", "--async", "-x", "1")
    with checks.check("batches of 8 rows"):
        _run(task, MODEL, "zero", "--concurrency-range", "2", "-b", "8")
    with checks.check("an output that is not what was wanted is found"):
        flipped = _write(task, "input", task.wanted["rows"][::-1], OUTPUTS)
        done = _call(task, MODEL, flipped, *WINDOW)
        must(done.returncode and "doesn't match expected" in done.stdout, done.stdout[-1000:])
    with checks.check("an error reaches its user: a body above the limit"):
        done = _call(task, MODEL, "zero", "-b", "20000")
        must(done.returncode and "at most 33554432 bytes" in done.stdout, done.stdout[-1000:])


def _write(task: Task, name: str, rows: Any, outputs: Sequence[str]) -> str:
    """Write rows, and what has to come out for each, as perf_analyzer reads them."""
    file = task.folder / f"{name}.json"
    document = {
        "data": [{name: _tensor(row)} for row in rows],
        "validation_data": [
            {output: _tensor(task.wanted[output][n]) for output in outputs}
            for n in range(len(rows))
        ],
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    return str(file)


def _tensor(values: Any) -> dict[str, Any]:
    return {"b64": base64.b64encode(values.tobytes()).decode(), "shape": list(values.shape)}


def _run(task: Task, model: str, data: str, *options: str) -> list[dict[str, str]]:
    """Run it, print what it found, and give the rows of its table."""
    table = task.folder / "table.csv"
    table.unlink(missing_ok=True)
    done = _call(task, model, data, "-f", str(table), "--verbose-csv", *WINDOW, *options)
    if done.returncode or not table.exists():
        raise NotSoError(f"it ended with {done.returncode}\n{done.stdout[-1500:]}")
    with table.open(newline="", encoding="utf-8") as file:
        # the fastest comes last
        found = sorted(csv.DictReader(file), key=lambda row: int(row["Concurrency"]))
    must(found, "its table is empty")
    print(_render(found), flush=True)
    for row in found:
        must(float(row["Inferences/Second"]) > 0, "nothing was inferred")
        # from the server's statistics
        must(int(row["Server Compute Infer"]) > 0, "the server's statistics say nothing")
    return found


def _call(task: Task, model: str, data: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [f"{sys.prefix}/bin/perf_analyzer", "-m", model, "-u", task.address]
    return subprocess.run(
        [*command, "-i", "http", "--input-data", data, *options],
        env=os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, _libraries()))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def _libraries() -> list[Path]:
    """Where the wheel of the CUDA runtime and Debian's package were unpacked."""
    found = Path(sys.prefix).glob("**/lib*.so.*")
    return sorted({file.parent for file in found if file.name.startswith(("libcudart", "libb64"))})


COLUMNS = (
    "Concurrency",
    "Inferences/Second",
    "p50 latency",
    "p99 latency",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
)


def _render(rows: list[dict[str, str]]) -> str:
    """Lay its table out in columns; times are in microseconds."""
    lines = [[column for column in COLUMNS if column in rows[0]]]
    lines += [[row[column] for column in lines[0]] for row in rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "    " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


if __name__ == "__main__":
    main(check_client)
