"""``hourglass bench``, on slices that are too short to mean anything."""

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

from service.benching.child import get, serving
from service.benching.load import Sample, ask, make_request
from service.benching.measuring import Case, DirectCase, Samples, ServedCase, summarise
from service.cli import main
from service.commands.console import EXIT_USAGE
from service.errors import HourglassError
from service.repository.packages import find_location
from service.settings import Settings
from tests import tiny
from tests.unit.test_logs import untouched_logging

__all__ = ["untouched_logging"]

pytestmark = pytest.mark.usefixtures("untouched_logging")

SHORT = ["--seconds", "0.3", "--concurrency", "1,3", "--rows", "2", "--device", "cpu"]


def children():
    """Processes whose parent this one is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
def test_it_measures_every_case_says_on_what_and_leaves_nothing_behind(models, capsys):
    before = children()

    assert main(["bench", "tabular", "--models", str(models), "--json", *SHORT]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["operation"] == "anomaly-score"
    assert {"processor", "cores", "onnxruntime"} <= document["machine"].keys()
    cases = document["cases"]
    assert [case["kind"] for case in cases] == ["direct"] * 6 + ["served"] * 4
    for case in cases:
        assert case["requests_per_s"] > 0
        assert 0 < case["p50_ms"] <= case["p99_ms"]
        assert case["rows_per_s"] == pytest.approx(case["requests_per_s"] * case["case"]["rows"])
        assert case["rows_per_run"] >= (case["case"]["rows"] if case["kind"] == "direct" else 2)
        assert case["failures"] == 0
    assert max(case["share"] for case in cases if case["kind"] == "direct") == 1
    assert children() == before


@pytest.mark.slow
def test_it_prints_a_table_for_people(models, capsys):
    flags = ["--seconds", "0.05", "--concurrency", "1", "--rows", "1", "--format", "raw"]
    more = ["--operation", "encode", "--device", "cpu"]

    assert main(["bench", "picture/1", "--models", str(models), *flags, *more]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("picture/1 encode on cpu; ")
    assert "ONNX Runtime" in lines[0]
    assert lines[3].startswith("direct, 1 thread, batch 1 ")
    assert lines[-1].startswith("raw, 1 a request, 1 client ")
    assert len({len(line) for line in lines[2:]}) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nobody"], "there is no model nobody"),
        (["tabular", "--format", "xml"], "--format is raw or json"),
        (["tabular", "--seconds", "0"], "--seconds"),
        (["tabular", "--concurrency", "5000"], "--concurrency"),
        (["tabular", "--rows", "5000"], "a request may hold 4096 rows"),
    ],
)
def test_what_cannot_be_measured_ends_with_2(models, capsys, flags, said):
    assert main(["bench", *flags, "--models", str(models), "--device", "cpu"]) == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_an_operation_that_the_model_lacks_ends_with_2(tmp_path, capsys):
    golden = np.zeros((1, 4), np.float32)
    tiny.write(tmp_path, (tiny.keeping(4, 2)[0], None), golden)

    flags = ["--operation", "reconstruct", "--models", str(tmp_path), "--device", "cpu"]
    assert main(["bench", "tiny", *flags]) == EXIT_USAGE
    assert "'reconstruct' cannot be measured, but encode" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_measured_asks_for_no_key(models, monkeypatch):
    monkeypatch.setenv("HOURGLASS_API_KEYS_FILE", "of the server that is not measured")

    with serving(find_location(models, "tabular"), Settings(device="cpu")) as port:
        status, _ = get(port, "/v1/models")

    assert status == 200


@pytest.mark.slow
def test_a_server_that_cannot_start_is_told_and_ended(tmp_path):
    location = tiny.write_tabular(tmp_path)
    (location.folder / "encoder.onnx").write_bytes(b"damaged")
    before = children()

    settings = Settings(models=tmp_path, device="cpu")
    with (
        pytest.raises(HourglassError, match="did not become ready"),
        serving(find_location(tmp_path, "tabular"), settings, within_s=3),
    ):
        raise AssertionError("it is not ready")
    assert children() == before


ANSWERS = {
    "good": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "refused": b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
}


async def talk(kind, clients):
    """Let clients ask a server that answers in two pieces, or hangs up."""
    asked, handlers = [], []

    async def answer(reader, writer):
        handlers.append(asyncio.current_task())
        while data := await reader.read(1 << 16):
            asked.append(data)
            if kind == "gone":
                break
            writer.write(ANSWERS[kind][:20])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(ANSWERS[kind][20:])
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = make_request("/x", np.zeros((2, 3), np.float32), "raw")
        try:
            return await ask(port, request, clients=clients, seconds=0.05), asked
        finally:
            await asyncio.wait_for(asyncio.gather(*filter(None, handlers)), 5)


@pytest.mark.anyio
async def test_clients_ask_again_as_soon_as_they_are_answered():
    sample, asked = await talk("good", 2)

    assert len(sample.latencies) == len(asked) > 2
    assert sample.failures == 0
    assert sample.seconds >= 0.05
    assert asked[0].endswith(b"\r\nX-Shape: 2,3\r\n\r\n" + b"\0" * 24)


@pytest.mark.anyio
async def test_refused_requests_are_counted_apart():
    sample, asked = await talk("refused", 1)

    assert sample.latencies == []
    assert sample.failures == len(asked)


@pytest.mark.anyio
async def test_a_server_that_hangs_up_is_an_error():
    with pytest.raises(HourglassError, match="closed a connection"):
        await talk("gone", 1)


def test_a_rate_is_the_median_of_its_slices_and_a_share_that_of_the_best_direct_run():
    direct, served = DirectCase(1, 8), ServedCase("raw", 4, 2)
    slices: dict[Case, list[Sample]] = {
        direct: [Sample(1.0, [0.01] * n) for n in (10, 100, 20)],
        served: [Sample(2.0, [0.1, 0.3], failures=1) for _ in range(3)],
    }

    taken: dict[Case, Samples] = {case: Samples(each, 6, 24) for case, each in slices.items()}
    figures = summarise(taken)

    assert figures[0].requests_per_s == 20
    assert figures[0].rows_per_s == 160
    assert figures[0].share == 1
    assert figures[0].rows_per_run == 8
    assert figures[1].requests_per_s == 1
    assert figures[1].share == 4 / 160
    assert figures[1].p50_ms == pytest.approx(200)
    assert figures[1].rows_per_run == 4
    assert figures[1].failures == 3
