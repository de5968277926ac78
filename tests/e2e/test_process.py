"""The real process: start, signals, exit status, logs."""

import shutil
import subprocess
import threading

import httpx2
import numpy as np
import pytest

from tests import tiny
from tests.e2e.server import process

PROMTOOL = shutil.which("promtool")

ROWS = [[0.0, 1.0, 0.5, 1.0]]


@pytest.fixture(scope="module")
def slow_models(tmp_path_factory):
    """A model whose encoder takes some hundreds of milliseconds a run, whatever the machine."""
    folder = tmp_path_factory.mktemp("slow")
    tiny.write(folder, tiny.slow(turns=60_000), np.ones((1, 4), np.float32), code_shape=(4,))
    return folder


@pytest.mark.slow
def test_a_request_in_flight_is_answered_after_sigterm_and_the_exit_status_is_0(slow_models):
    answers = []
    with process("--max-batch-rows", "1", models=slow_models) as server, server.client() as client:

        def post():
            answers.append(client.post("/v1/models/tiny/encode", json={"inputs": [[1, 2, 3, 4]]}))

        sender = threading.Thread(target=post)
        sender.start()
        server.terminate()
        while client.get("/readyz").status_code == 200:
            pass
        not_ready = client.get("/readyz")
        sender.join(20)
        status = server.wait()

    assert not_ready.status_code == 503
    assert answers[0].json()["codes"] == [[1, 2, 3, 4]]
    assert status == 0


@pytest.mark.slow
def test_requests_are_answered_while_readiness_is_already_gone(models):
    with process("--drain-delay-ms", "2000", models=models) as server, server.client() as client:
        server.terminate()
        while client.get("/readyz").status_code == 200:
            pass
        late = client.post("/v1/models/tabular/anomaly-score", json={"inputs": ROWS})
        status = server.wait()

    assert late.status_code == 200
    assert late.headers["connection"] == "close"
    assert status == 0


@pytest.mark.slow
def test_a_second_sigterm_does_not_wait(models):
    with process("--drain-delay-ms", "600000", models=models) as server:
        server.terminate()
        with server.client() as client:
            while client.get("/readyz").status_code == 200:
                pass
        server.terminate()
        status = server.wait()

    assert status == 0


@pytest.mark.slow
def test_no_request_is_lost_when_sigterm_comes_under_load(models):
    statuses: list[int | str] = []
    go_on = threading.Event()
    go_on.set()
    with process("--drain-delay-ms", "300", models=models) as server:
        url = server.url

        def send():
            while go_on.is_set():
                with server.client() as client:
                    try:
                        answer = client.post(
                            f"{url}/v1/models/tabular/anomaly-score", json={"inputs": ROWS}
                        )
                    except (httpx2.ConnectError, httpx2.ReadError):
                        return  # refused or reset: the connection was never accepted
                    except httpx2.HTTPError as error:
                        statuses.append(type(error).__name__)
                        return
                    statuses.append(answer.status_code)

        senders = [threading.Thread(target=send) for _ in range(8)]
        for sender in senders:
            sender.start()
        while len(statuses) < 50:
            pass
        server.terminate()
        status = server.wait()
        go_on.clear()
        for sender in senders:
            sender.join(20)

    assert status == 0
    assert set(statuses) == {200}


def test_cuda_that_does_not_work_stops_the_start(models):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")

    with process("--device", "cuda", models=models, ready=False) as server:
        status = server.wait()

    assert status != 0
    assert any("was asked for and does not work" in line["message"] for line in server.lines)


def test_a_missing_repository_stops_the_start(tmp_path):
    with process(models=tmp_path / "nothing", ready=False) as server:
        status = server.wait()

    assert status != 0
    assert any("is not a folder" in line["message"] for line in server.lines)


def test_an_empty_repository_serves_nothing_and_is_ready(tmp_path):
    with process(models=tmp_path) as server, server.client() as client:
        answer = client.get("/v1/models")

    assert answer.json() == {"models": []}


def test_failures_are_logged_with_their_request_id_and_successes_are_not(models):
    with process(models=models) as server, server.client() as client:
        client.post("/v1/models/tabular/encode", json={"inputs": ROWS})
        client.post(
            "/v1/models/tabular/encode", json={"inputs": [[1]]}, headers={"X-Request-ID": "bad-one"}
        )
        server.terminate()
        server.wait()

    # while it was not ready, /readyz said so, and that is logged as well
    lines = [line for line in server.lines if line.get("route", "").endswith("/encode")]
    assert [(line["request_id"], line["status"]) for line in lines] == [("bad-one", 422)]
    assert lines[0]["fault"] == "rows have the wrong shape: [4] each"


def test_promtool_accepts_the_metrics(models):
    if PROMTOOL is None:
        pytest.skip("promtool is not installed")

    with process(models=models) as server, server.client() as client:
        client.post("/v1/models/tabular/anomaly-score", json={"inputs": ROWS})
        text = client.get("/metrics").text

    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
