"""A server that asks for keys: who is answered what, and what is done for whom who has none."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.errors import ConfigurationError
from service.keys import SCOPES, add_line, line_of, make_key
from tests.api.asgi import Connection, running
from tests.api.conftest import Workshop
from tests.api.line import listening, request
from tests.api.wire import JSON, RAW, problem, sample, url
from tests.conftest import serve

KEYS = {scope: make_key() for scope in SCOPES}
STRANGER = make_key()
ENCODE = url("tabular", "encode")
ROW = [0.25, 0.5, 0.75, 1.0]
DATA = np.array([ROW], np.float32).tobytes()
BODY = {"inputs": [ROW]}
INFER = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}

READERS = {"infer", "manage"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "keys"
    for scope, key in KEYS.items():
        add_line(made, line_of(key, f"of-{scope}", scope))
    return made


@pytest.fixture(scope="module")
def guarded(models: Path, file: Path) -> Iterator[TestClient]:
    with serve(models, api_keys_file=file, access_log=True) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def told(answer: Any) -> str:
    """What an error says, whichever form it has."""
    if answer.headers["content-type"] == JSON:
        assert answer.json().keys() == {"error"}
        return str(answer.json()["error"])
    found = problem(answer)
    return f"{found['detail']} (expected {found['expected']})"


# what is asked, whose key lets it in, and how it is answered then
RULES = [
    ("GET", "/v1/models", READERS, 200),
    ("GET", "/v1/models/tabular", READERS, 200),
    ("GET", "/v1/models/tabular/versions/1", READERS, 200),
    ("GET", "/v1/models/nobody", READERS, 404),
    ("GET", "/nothing", READERS, 404),
    ("POST", ENCODE, {"infer"}, 200),
    ("POST", url("tabular", "decode"), {"infer"}, 422),
    ("POST", url("tabular", "anomaly-score", "1"), {"infer"}, 200),
    ("POST", url("nobody", "encode"), {"infer"}, 404),
    ("GET", ENCODE, {"infer"}, 405),
    ("POST", "/v1/repository/nothing", {"manage"}, 404),
    ("POST", "/v1/models/tabular", {"manage"}, 405),
    ("DELETE", "/v1/models/tabular/versions/1", {"manage"}, 405),
    ("PUT", "/nothing", {"manage"}, 404),
    ("GET", "/metrics", {"metrics"}, 200),
    ("GET", "/v2", READERS, 200),
    ("GET", "/v2/models/tabular", READERS, 200),
    ("GET", "/v2/models/nobody/ready", READERS, 404),
    ("POST", "/v2/repository/index", READERS, 200),
    ("POST", "/v2/models/tabular/infer", {"infer"}, 200),
    ("POST", "/v2/models/nobody/infer", {"infer"}, 404),
]
IDS = [f"{method} {path}" for method, path, *_ in RULES]


def ask(client: TestClient, method: str, path: str, key: str | None) -> Any:
    headers = {} if key is None else bearer(key)
    if method != "POST":
        return client.request(method, path, headers=headers)
    if path.endswith("/index"):
        return client.post(path, headers=headers)
    return client.post(path, json=INFER if path.startswith("/v2") else BODY, headers=headers)


@pytest.mark.parametrize(("method", "path", "scopes", "status"), RULES, ids=IDS)
def test_the_right_key_lets_a_request_in(guarded, method, path, scopes, status):
    for scope in scopes:
        assert ask(guarded, method, path, KEYS[scope]).status_code == status


@pytest.mark.parametrize(("method", "path", "scopes", "status"), RULES, ids=IDS)
def test_a_key_for_something_else_is_403(guarded, method, path, scopes, status):
    for scope in {*SCOPES} - scopes:
        answer = ask(guarded, method, path, KEYS[scope])

        assert answer.status_code == 403
        assert told(answer).startswith("this API key is not for this (expected the scope ")
        assert all(scope in told(answer) for scope in scopes)
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [rule[:2] for rule in RULES], ids=IDS)
@pytest.mark.parametrize("key", [None, STRANGER, ""], ids=["none", "unknown", "empty"])
def test_without_a_key_of_ours_everything_is_the_same_401(guarded, key, method, path):
    answer = ask(guarded, method, path, key)

    what = "is not known" if key else "needs an API key"
    assert answer.status_code == 401
    assert what in told(answer)
    assert "expected Authorization: Bearer KEY" in told(answer)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (answer.headers["content-type"] == JSON) == path.startswith("/v2")


@pytest.mark.parametrize("key", [None, STRANGER, *KEYS.values()], ids=["none", "other", *SCOPES])
@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"),
        *("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"),
    ],
)
def test_health_and_the_documentation_are_open(guarded, path, key):
    assert ask(guarded, "GET", path, key).status_code == 200


def test_the_documents_of_a_server_that_asks_for_keys_say_so(guarded):
    document = guarded.get("/openapi.json").json()

    assert document["security"] == [{"bearer": []}, {"apiKey": []}]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("x-api-key", KEYS["infer"])], id="X-API-Key"),
        pytest.param(
            [("x-api-key", KEYS["infer"]), ("authorization", f"Bearer {KEYS['infer']}")], id="both"
        ),
        pytest.param(
            [("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", KEYS["infer"])],
            id="beside a proxy's",
        ),
    ],
)
def test_a_key_may_come_in_its_own_header(guarded, headers):
    assert guarded.post(ENCODE, json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("authorization", f"Bearer {KEYS['infer']}")] * 2, id="twice"),
        pytest.param(
            [("authorization", f"Bearer {STRANGER}"), ("authorization", f"Bearer {KEYS['infer']}")],
            id="two",
        ),
        pytest.param([("x-api-key", KEYS["infer"])] * 2, id="own header twice"),
        pytest.param(
            [("x-api-key", KEYS["infer"]), ("authorization", f"Bearer {KEYS['manage']}")],
            id="two good ones",
        ),
        pytest.param([(b"x-api-key", b"\xff\xfe\x80" + KEYS["infer"].encode())], id="not ASCII"),
        pytest.param([("authorization", "Bearer " + "a" * 8000)], id="huge"),
        pytest.param([("authorization", "Bearer " + KEYS["infer"] + " x")], id="and more"),
        pytest.param([("cookie", f"x-api-key={KEYS['infer']}")], id="in a cookie"),
    ],
)
def test_a_key_that_is_sent_in_another_way_is_401(guarded, headers):
    answer = guarded.post(ENCODE, json=BODY, headers=headers)

    assert answer.status_code == 401
    assert KEYS["infer"] not in answer.text


def test_a_key_in_the_query_is_none(guarded):
    assert guarded.get(f"/v1/models?x-api-key={KEYS['infer']}").status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize("path", [ENCODE, "/v2/models/tabular/infer", "/v2/repository/index"])
async def test_the_body_of_a_refused_request_is_not_even_read(models, file, path):
    class Unread(Connection):
        async def receive(self) -> dict[str, Any]:
            raise AssertionError("nobody may look at the body")

    async with running(models, api_keys_file=file) as server:
        answer = await server.send("POST", path, Unread())

    assert answer.status_code == 401


def test_an_unreadable_body_is_401_before_it_is_400(guarded):
    headers = {"content-type": JSON, "content-encoding": "gzip", "accept": "nothing/here"}

    assert guarded.post(ENCODE, content=b"{", headers=headers).status_code == 401


def test_refused_requests_count_as_answers_and_as_requests_to_no_model(guarded):
    def counts() -> tuple[float, float]:
        text = guarded.get("/metrics", headers=bearer(KEYS["metrics"])).text
        answers = sample(text, "hourglass_http_responses_total", route="unmatched", status="401")
        return answers, sample(text, "hourglass_requests_total", model="tabular")

    before = counts()
    guarded.post(ENCODE, json=BODY)

    assert counts() == (before[0] + 1, before[1])


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(each) for each in caplog.records if each.name == "service.api.records"]


@pytest.mark.parametrize(
    ("key", "status", "named"),
    [
        (KEYS["infer"], 200, "of-infer"),
        (KEYS["manage"], 403, "of-manage"),
        (STRANGER, 401, None),
        (None, 401, None),
    ],
    ids=["answered", "forbidden", "unknown", "none"],
)
def test_the_log_names_a_key_and_never_repeats_it(guarded, caplog, key, status, named):
    caplog.set_level(logging.INFO)

    ask(guarded, "POST", ENCODE, key)

    (line,) = lines(caplog)
    assert (line["status"], line.get("key")) == (status, named)
    assert line["levelname"] == ("INFO" if status == 200 else "WARNING")
    assert "hg_" not in json.dumps(line, default=str)


def test_a_server_without_keys_lets_everybody_in_and_names_nobody(models, caplog):
    caplog.set_level(logging.INFO)
    with serve(models, access_log=True) as client:
        caplog.clear()
        assert client.post(ENCODE, json=BODY, headers=bearer(STRANGER)).status_code == 200
        assert client.get("/metrics").status_code == 200

    assert "key" not in lines(caplog)[0]


def test_a_file_that_is_wrong_stops_the_start(models, tmp_path):
    (tmp_path / "keys").write_text("nonsense\n")

    with (
        pytest.raises(ConfigurationError, match="line 1"),
        serve(models, api_keys_file=tmp_path / "keys"),
    ):
        raise AssertionError("it has started")


@pytest.mark.anyio
class TestOnAKeptConnection:
    """Heads that were seen before take a short way, on which nobody looks at keys again."""

    @staticmethod
    def sent(key: str | None, **headers: str) -> bytes:
        given = {} if key is None else {"authorization": f"Bearer {key}"}
        return request(ENCODE, DATA, content_type=RAW, accept=RAW, **given, **headers)

    async def test_only_the_head_with_a_good_key_is_learned(self, models, file):
        good, bad = self.sent(KEYS["infer"]), self.sent(STRANGER)
        assert len(good) == len(bad)
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()
            right = [(await line.ask(good)).status_code for _ in range(3)]
            ordinary = port.ordinary
            wrong = [(await line.ask(bad)).status_code for _ in range(4)]
            again = [(await line.ask(good)).status_code for _ in range(2)]

            assert (right, wrong, again) == ([200] * 3, [401] * 4, [200] * 2)
            assert (ordinary, port.ordinary) == (2, 2 + 4)
            assert port.express._heads.keys() == {good[: -len(DATA)]}

    @pytest.mark.parametrize(
        "key",
        [None, STRANGER, KEYS["manage"], KEYS["metrics"]],
        ids=["no key", "strange", "manage", "metrics"],
    )
    async def test_a_refused_head_is_not_learned_though_its_plan_is_known(self, models, file, key):
        refused = self.sent(key)
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()
            await line.ask(self.sent(KEYS["infer"]))
            answers = [(await line.ask(refused)).status_code for _ in range(4)]

            assert set(answers) == {401 if key in {None, STRANGER} else 403}
            assert port.express._heads == {}

    async def test_the_short_way_names_the_key_in_the_log(self, models, file, caplog):
        caplog.set_level(logging.INFO)
        async with listening(models, api_keys_file=file, access_log=True) as port:
            line = port.connect()
            for _ in range(3):
                await line.ask(self.sent(KEYS["infer"]))

            assert port.ordinary == 2
        named = [each.get("key") for each in lines(caplog) if each["method"] == "POST"]
        assert named == ["of-infer"] * 3

    async def test_a_connection_goes_on_after_a_refusal(self, models, file):
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()
            refused = await line.ask(self.sent(None))
            answered = await line.ask(self.sent(KEYS["infer"]))

        assert (refused.status_code, answered.status_code) == (401, 200)

    async def test_pipelined_requests_each_need_a_key(self, models, file):
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()
            line.send(self.sent(KEYS["infer"]) + self.sent(None) + self.sent(KEYS["infer"]))

            assert [each.status_code for each in await line.answers(3)] == [200, 401, 200]

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("Bearer x\r\nAuthorization: Bearer {}", id="a second header"),
            pytest.param("Bearer x\r\n Bearer {}", id="folded"),
            pytest.param("Bearer x\nAuthorization: Bearer {}", id="a bare line feed"),
            pytest.param("Bearer x\rBearer {}", id="a bare carriage return"),
            pytest.param("Bearer {}\0", id="a zero"),
        ],
    )
    async def test_ends_of_lines_within_a_header_let_nobody_in(self, models, file, value):
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()
            sent = request(
                ENCODE, DATA, content_type=RAW, authorization=value.format(KEYS["infer"])
            )

            answer = await line.ask(sent)

        assert answer.status_code in {400, 401}

    async def test_a_key_in_a_trailer_is_none(self, models, file):
        head = f"POST {ENCODE} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n"
        trailer = f"0\r\nX-API-Key: {KEYS['infer']}\r\n\r\n"
        async with listening(models, api_keys_file=file) as port:
            line = port.connect()

            answer = await line.ask(f"{head}Content-Type: {RAW}\r\n\r\n{trailer}".encode())

        assert answer.status_code == 401


@pytest.mark.anyio
async def test_nothing_is_run_for_whom_who_has_no_key(models, file):
    workshop = Workshop()
    async with running(models, sessions=workshop, api_keys_file=file) as server:
        before = len(workshop.batches)
        for key in (None, STRANGER, KEYS["metrics"]):
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            assert (await server.post(ENCODE, [ROW], **headers)).status_code in {401, 403}

        assert len(workshop.batches) == before
