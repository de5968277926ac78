"""The real process: start, signals, exit status, logs."""

import shutil
import subprocess
import threading

import httpx2
import numpy as np
import pytest

from service.server import EXIT_DEVICE_LOST
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


@pytest.fixture(scope="module")
def open_models(tmp_path_factory):
    """A model whose rows may be any numbers, the codes of errors too; see ``losing.py``."""
    folder = tmp_path_factory.mktemp("open")
    tiny.write(folder, tiny.keeping(4, 2), np.ones((1, 4), np.float32))
    return folder


@pytest.mark.slow
def test_a_lost_device_fails_liveness_answers_503_and_ends_the_process(open_models):
    encode, decode = "/v1/models/tiny/encode", "/v1/models/tiny/decode"
    with (
        process(
            "--drain-delay-ms", "2000", models=open_models, module="tests.e2e.losing"
        ) as server,
        server.client() as client,
    ):
        before = client.post(encode, json={"inputs": [[1, 2, 3, 4]]})
        live_before = client.get("/livez")
        breaking = client.post(encode, json={"inputs": [[700, 0, 0, 0]]})
        others = [client.post(path, json={"inputs": [[1, 2]]}) for path in (encode, decode)]
        live, ready = client.get("/livez"), client.get("/readyz")
        status = server.wait()

    assert (before.status_code, live_before.status_code) == (200, 200)
    assert breaking.status_code == 503
    assert int(breaking.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in others] == [503, 503]
    assert (live.status_code, ready.status_code) == (503, 503)
    assert status == EXIT_DEVICE_LOST
    critical = [line for line in server.lines if line["level"] == "critical"]
    assert "CUDA failure 700" in critical[0]["exception"]
    assert critical[-1]["exit_status"] == EXIT_DEVICE_LOST


@pytest.mark.slow
def test_requests_in_flight_when_the_device_is_lost_are_all_answered(open_models):
    answers: list[int | str] = []
    with process(
        "--drain-delay-ms", "500", models=open_models, module="tests.e2e.losing"
    ) as server:
        url = server.url

        def send(rows):
            with server.client() as client:
                try:
                    answer = client.post(f"{url}/v1/models/tiny/encode", json={"inputs": rows})
                except httpx2.HTTPError as error:
                    answers.append(type(error).__name__)
                else:
                    answers.append(answer.status_code)

        rows = [[[number, 0, 0, 0]] * 50 for number in range(15)] + [[[700, 0, 0, 0]]]
        senders = [threading.Thread(target=send, args=(each,)) for each in rows]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(20)
        status = server.wait()

    assert status == EXIT_DEVICE_LOST
    assert len(answers) == 16
    assert set(answers) <= {200, 503}
    assert 503 in answers


@pytest.mark.slow
def test_a_signal_after_the_loss_of_the_device_ends_at_once_with_the_same_status(open_models):
    with process(
        "--drain-delay-ms", "600000", models=open_models, module="tests.e2e.losing"
    ) as server:
        with server.client() as client:
            client.post("/v1/models/tiny/encode", json={"inputs": [[700, 0, 0, 0]]})
            while not any("exit_status" in line for line in server.lines):
                pass
        server.terminate()
        status = server.wait()

    assert status == EXIT_DEVICE_LOST


@pytest.mark.slow
def test_a_device_that_is_lost_while_models_are_loaded_ends_the_process_too(tmp_path):
    tiny.write(tmp_path, tiny.keeping(4, 2), np.full((1, 4), 700, np.float32))

    with process(
        "--drain-delay-ms", "0", models=tmp_path, ready=False, module="tests.e2e.losing"
    ) as server:
        status = server.wait()

    assert status == EXIT_DEVICE_LOST


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
