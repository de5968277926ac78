"""The short way gives the answers of the ordinary way, byte for byte.

Every case is sent three times on one connection: the first two requests take the ordinary way,
by which their head is learned, and the third one takes the short way.
"""

import gzip
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tests.api import wire
from tests.api.asgi import until
from tests.api.conftest import Workshop
from tests.api.line import Line, Port, Reply, listening, request
from tests.api.wire import JSON, NPY, PNG, RAW, url

MAX_ROWS = 8
INPUTS = np.random.default_rng(0).random((3, 4), np.float32)
CODES = INPUTS[:, :2]
OPERATIONS = ("encode", "decode", "reconstruct", "anomaly-score")
MEDIA = (JSON, NPY, RAW)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all tests here, so that they can share a running app."""
    return "asyncio"


@pytest.fixture(scope="module")
def models(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("express")
    for name in ("tabular/1", "poison/1", "picture/1", "any-size/1"):
        shutil.copytree(zoo / name, folder / name)
    return folder


@pytest.fixture(scope="module")
async def port(models):
    async with listening(models, max_request_rows=MAX_ROWS) as port:
        yield port


_numbers = count()


def ask_for(path: str, body: bytes, media: str, **headers: str) -> bytes:
    """A request whose head has never been seen."""
    unseen = {"user_agent": f"test/{next(_numbers)}"}
    return request(path, body, content_type=media, **unseen, **headers)


def body_of(rows: object, media: str, **options: object) -> bytes:
    if media == JSON:
        inputs = rows.tolist() if isinstance(rows, np.ndarray) else rows
        return json.dumps({"inputs": inputs} | options).encode()
    array = np.asarray(rows, np.float32)
    return wire.npy(array) if media == NPY else array.tobytes()


def rows_for(operation: str) -> np.ndarray:
    return CODES if operation == "decode" else INPUTS


def plain(reply: Reply) -> bytes:
    """The bytes of an answer without what no two answers share."""
    text = re.sub(rb"(?m)^x-request-id: [0-9a-f]{16}\r$", b"x-request-id: -\r", reply.raw)
    text = re.sub(rb'"request_id":"[0-9a-f]{16}"', b'"request_id":"-"', text)
    text = re.sub(rb"(?m)^date: .*\r$", b"date: -\r", text)
    return re.sub(rb"dur=[0-9.]+", b"dur=-", text)


async def both_ways(port: Port, sent: bytes) -> Reply:
    """Give the answer to *sent*, after a look whether it is the same on both ways."""
    line = port.connect()
    before = port.ordinary
    first, second = await line.ask(sent), await line.ask(sent)
    assert port.ordinary - before == 2

    third = await line.ask(sent)

    assert port.ordinary - before == 2, "the third request took the ordinary way"
    assert plain(third) == plain(second) == plain(first)
    assert len({reply.headers["x-request-id"] for reply in (first, second, third)}) == 3
    line.hang_up()
    return third


async def one_way(port: Port, sent: bytes) -> Reply:
    """Give the answer to what never takes the short way, however often it comes."""
    line = port.connect()
    before = port.ordinary
    replies = [await line.ask(sent) for _ in range(4)]
    assert port.ordinary - before == 4
    assert len({plain(reply) for reply in replies}) == 1
    line.hang_up()
    return replies[0]


@pytest.mark.parametrize("accept", MEDIA)
@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_answer_is_the_same(port, operation, media, accept):
    sent = ask_for(
        url("tabular", operation), body_of(rows_for(operation), media), media, accept=accept
    )

    answer = await both_ways(port, sent)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == accept
    assert answer.headers["x-model-version"] == "1"


@pytest.mark.parametrize("version", [None, "1"])
async def test_with_and_without_a_version(port, version):
    path = url("tabular", "encode", version)

    answer = await both_ways(port, ask_for(path, body_of(INPUTS, JSON), JSON))

    assert np.array_equal(np.array(answer.json()["codes"], np.float32), CODES)


@pytest.mark.parametrize("query", ["?threshold=0.5", "?metric=mse", "?false_positive_rate=0.05"])
async def test_with_options_in_the_query(port, query):
    sent = ask_for(url("tabular", "anomaly-score") + query, body_of(INPUTS, RAW), RAW)

    assert (await both_ways(port, sent)).status_code == 200


@pytest.mark.parametrize("options", [{"threshold": 0.5}, {"metric": "mse"}, {"include": []}])
async def test_with_options_in_the_body(port, options):
    body = body_of(INPUTS, JSON, **options)

    answer = await both_ways(port, ask_for(url("tabular", "anomaly-score"), body, JSON))

    assert answer.json()["threshold"] == options.get("threshold", answer.json()["threshold"])
    assert answer.status_code == 200


BAD = {
    "wrong shape": (np.zeros((1, 3), np.float32), 422),
    "NaN": (np.array([[0, 0, 0, np.nan]] * 2, np.float32), 422),
    "infinite": (np.array([[0, 0, 0, np.inf]] * 2, np.float32), 422),
    "too many rows": (np.zeros((MAX_ROWS + 1, 4), np.float32), 413),
    "no rows": (np.zeros((0, 4), np.float32), 422),
}


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_body_is_refused_alike(port, fault, operation, media):
    rows, status = BAD[fault]
    if operation == "decode" and fault != "wrong shape":
        rows = rows[:, 2:]
    if media == JSON and fault in {"NaN", "infinite"}:
        status = 400  # JSON has no such numbers
    sent = ask_for(url("tabular", operation), body_of(rows, media), media)

    answer = await both_ways(port, sent)

    assert answer.status_code == status
    assert wire.problem(answer)["detail"]


@pytest.mark.parametrize(
    ("media", "body", "status"),
    [
        pytest.param(JSON, b"", 400, id="no JSON"),
        pytest.param(JSON, b"{", 400, id="half of JSON"),
        pytest.param(JSON, b"[]", 422, id="a list"),
        pytest.param(JSON, b'{"inputs": [["1", 0, 0, 0]]}', 422, id="text"),
        pytest.param(JSON, b'{"inputs": [[true, 0, 0, 0]]}', 422, id="a boolean"),
        pytest.param(JSON, b'{"inputs": [[0, 0, 0, 7]]}', 422, id="out of range"),
        pytest.param(JSON, b'{"inputs": [[0, 0, 0, 0]], "x": 1}', 422, id="unknown option"),
        pytest.param(JSON, b'{"inputs": [[0, 0, 0, 0]], "resize": true}', 422, id="resize"),
        pytest.param(NPY, b"", 400, id="no npy"),
        pytest.param(NPY, wire.npy(np.zeros((1, 4)))[:-1], 400, id="npy cut off"),
        pytest.param(NPY, wire.npy(np.array([["a"]])), 422, id="npy of text"),
        pytest.param(RAW, b"", 422, id="no bytes"),
        pytest.param(RAW, b"\0" * 17, 422, id="a byte too many"),
        # what looks like the end of a head or like a request is a body
        pytest.param(RAW, b"\r\n\r\n" * 3, 422, id="ends of heads"),
        pytest.param(JSON, b"POST / HTTP/1.1\r\n\r\n", 400, id="a request"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_alike(port, media, body, status):
    answer = await both_ways(port, ask_for(url("tabular", "encode"), body, media))

    assert answer.status_code == status


@pytest.mark.parametrize("media", MEDIA)
async def test_a_row_on_which_the_model_fails_is_told_alike(port, media):
    rows = np.array([[1, 0, 0, 0], [9, 0, 0, 0]], np.float32)

    answer = await both_ways(port, ask_for(url("poison", "encode"), body_of(rows, media), media))

    assert answer.status_code == 500
    assert wire.problem(answer)["row"] == 1


@pytest.mark.parametrize(
    ("path", "media", "status"),
    [
        (url("nobody", "encode"), RAW, 404),
        (url("tabular", "encode", "7"), RAW, 404),
        (url("tabular", "encode"), "text/plain", 415),
        (url("tabular", "anomaly-score") + "?threshold=x", RAW, 422),
        (url("tabular", "anomaly-score") + "?metric=x", RAW, 409),
        (url("poison", "anomaly-score") + "?false_positive_rate=0.1", RAW, 409),
    ],
)
async def test_what_the_head_alone_rules_out_never_takes_the_short_way(port, path, media, status):
    answer = await one_way(port, ask_for(path, INPUTS.tobytes(), media))

    assert answer.status_code == status


# the option, and what an answer has by it
MORE_THAN_ONE_RUN = pytest.mark.parametrize(
    ("options", "mark"),
    [
        ({"include": ["feature_errors"]}, '"feature_errors":'),
        ({"include": ["domain"]}, '"domain":'),
        ({"explain": 1}, '"explanations":'),
        ({"metric": "rapp"}, '"metric":"rapp"'),
    ],
    ids=str,
)


@MORE_THAN_ONE_RUN
@pytest.mark.parametrize("where", ["query", "body"])
async def test_what_needs_more_than_one_run_takes_the_ordinary_way(port, where, options, mark):
    path = url("tabular", "anomaly-score")
    if where == "query":
        ((name, value),) = options.items()
        text = value[0] if isinstance(value, list) else value
        path, options = f"{path}?{name}={text}", {}

    answer = await one_way(port, ask_for(path, body_of(INPUTS, JSON, **options), JSON))

    assert mark in answer.content.decode()


@pytest.mark.parametrize("operation", ["encode", "decode", "reconstruct"])
async def test_the_domain_takes_the_ordinary_way_for_every_operation(port, operation):
    rows = CODES if operation == "decode" else INPUTS
    path = url("tabular", operation) + "?include=domain"

    answer = await one_way(port, ask_for(path, rows.tobytes(), RAW))

    assert answer.headers["x-domain"].startswith("in=")


@MORE_THAN_ONE_RUN
async def test_the_same_head_with_and_without_such_an_option_in_its_body(port, options, mark):
    long = body_of(INPUTS, JSON, **options)
    short = body_of(INPUTS, JSON)
    sent = ask_for(url("tabular", "anomaly-score"), short.ljust(len(long)), JSON)
    line = port.connect()
    for _ in range(3):
        await line.ask(sent)
    before = port.ordinary

    first, second = await line.ask(sent[: -len(long)] + long), await line.ask(sent)

    assert mark in first.content.decode()
    assert mark not in second.content.decode()
    assert port.ordinary - before == 1


async def test_a_compressed_body_takes_the_ordinary_way(port):
    body = gzip.compress(INPUTS.tobytes())

    answer = await one_way(
        port, ask_for(url("tabular", "encode"), body, RAW, content_encoding="gzip")
    )

    assert answer.status_code == 200


async def test_an_encoding_that_is_none_takes_the_short_way(port):
    sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, content_encoding="identity")

    assert (await both_ways(port, sent)).status_code == 200


async def test_a_small_answer_is_not_compressed(port):
    sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, accept_encoding="gzip, deflate")

    answer = await both_ways(port, sent)

    assert "content-encoding" not in answer.headers
    assert np.array_equal(np.array(answer.json()["codes"], np.float32), CODES)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_large_answer_is_compressed_when_asked(models, operation):
    rows = np.random.default_rng(0).random((2000, len(rows_for(operation)[0])), np.float32)
    path, body = url("tabular", operation), rows.tobytes()

    async with listening(models) as port:
        plain = await both_ways(port, ask_for(path, body, RAW))
        small = await both_ways(port, ask_for(path, body, RAW, accept_encoding="gzip"))

    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["vary"] == plain.headers["vary"] == "Accept, Accept-Encoding"
    assert small.headers["content-length"] == str(len(small.content))
    assert len(small.content) < len(plain.content)
    assert gzip.decompress(small.content) == plain.content


async def test_a_very_large_answer_is_the_same(models):
    rows = np.random.default_rng(0).random((1, 1, 600, 900), np.float32)
    shape = {"x_shape": "1,1,600,900", "accept": JSON}

    async with listening(models) as port:
        answer = await both_ways(
            port, ask_for(url("any-size", "encode"), rows.tobytes(), RAW, **shape)
        )

    codes = answer.json()["codes"]
    assert np.array_equal(np.array(codes, np.float32), rows / 2)


async def test_a_client_that_leaves_while_its_answer_is_compressed_disturbs_nobody(models):
    rows = np.random.default_rng(0).random((2000, 4), np.float32)
    sent = ask_for(url("tabular", "encode"), rows.tobytes(), RAW, accept_encoding="gzip")

    async with listening(models) as port:
        line = port.connect()
        for _ in range(2):
            await line.ask(sent)
        line.send(sent)
        line.reset()
        answer = await port.connect().ask(sent)

    assert len(json.loads(gzip.decompress(answer.content))["codes"]) == 2000


async def test_requests_behind_a_large_answer_are_answered_in_their_order(models):
    rows = np.random.default_rng(0).random((2000, 4), np.float32)
    large = ask_for(url("tabular", "encode"), rows.tobytes(), RAW, accept_encoding="gzip")
    small = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)

    async with listening(models) as port:
        line = port.connect()
        for sent in (large, large, small, small):
            await line.ask(sent)
        before = len(line.replies)
        line.send(large, small, large)
        answers = (await line.answers(before + 3))[before:]

    assert ["content-encoding" in answer.headers for answer in answers] == [True, False, True]


async def test_a_body_above_the_limit_takes_the_ordinary_way(models):
    async with listening(models, max_body_bytes=40) as port:
        answer = await one_way(port, ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW))

    assert answer.status_code == 413


class TestPictures:
    PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4), dtype=np.uint8)

    @pytest.mark.parametrize("accept", [JSON, RAW])
    @pytest.mark.parametrize("operation", ["encode", "reconstruct", "anomaly-score"])
    async def test_a_picture_of_the_model_s_size_is_read_alike(self, port, operation, accept):
        sent = ask_for(url("picture", operation), wire.picture(self.PIXELS), PNG, accept=accept)

        assert (await both_ways(port, sent)).status_code == 200

    @pytest.mark.parametrize("operation", ["decode", "reconstruct"])
    async def test_a_picture_is_drawn_alike(self, port, operation):
        rows = np.random.default_rng(0).random((2, 1, 4, 4), np.float32)
        sent = ask_for(url("picture", operation), rows.tobytes(), RAW, accept=PNG)

        answer = await both_ways(port, sent)

        assert wire.pixels(answer.content).shape == (4, 10)

    async def test_a_heat_map_needs_more_than_one_run(self, port):
        sent = ask_for(url("picture", "anomaly-score"), wire.picture(self.PIXELS), PNG, accept=PNG)

        answer = await one_way(port, sent)

        assert wire.pixels(answer.content).shape == (4, 4)

    async def test_a_picture_that_has_to_be_resized_is_read_in_a_thread(self, port):
        large = wire.picture(np.repeat(self.PIXELS, 2, axis=0))
        sent = ask_for(url("picture", "encode") + "?resize=true", large, PNG)

        assert (await one_way(port, sent)).status_code == 200

    async def test_a_picture_of_another_size_is_refused_alike(self, port):
        sent = ask_for(url("picture", "encode"), wire.picture(self.PIXELS[:3]), PNG)

        assert (await both_ways(port, sent)).status_code == 422

    async def test_a_form_takes_the_ordinary_way(self, port):
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'
            + wire.picture(self.PIXELS)
            + b"\r\n--x--\r\n"
        )
        sent = ask_for(url("picture", "encode"), body, "multipart/form-data; boundary=x")

        assert (await one_way(port, sent)).status_code == 200


class TestHeaders:
    async def test_the_client_s_own_id_comes_back(self, port):
        sent = ask_for(url("tabular", "encode"), b"{", JSON, x_request_id="mine-1")
        line = port.connect()

        replies = [await line.ask(sent) for _ in range(3)]

        assert [reply.headers["x-request-id"] for reply in replies] == ["mine-1"] * 3
        assert {wire.problem(reply)["request_id"] for reply in replies} == {"mine-1"}

    async def test_an_id_that_could_do_harm_is_replaced_each_time(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, x_request_id="a b")

        await both_ways(port, sent)

    async def test_an_id_of_each_request_comes_back_by_the_ordinary_way(self, port):
        line = port.connect()
        before = port.ordinary
        ids = [f"mine-{number}" for number in range(5)]

        replies = [
            await line.ask(
                request(
                    url("tabular", "encode"),
                    INPUTS.tobytes(),
                    content_type=RAW,
                    user_agent="of each request",
                    x_request_id=each,
                )
            )
            for each in ids
        ]

        assert [reply.headers["x-request-id"] for reply in replies] == ids
        assert port.ordinary - before == 5

    async def test_the_headers_of_every_answer_of_the_server_come_first(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
        line = port.connect()
        port.state.default_headers = [(b"date", b"today")]
        try:
            replies = [await line.ask(sent) for _ in range(3)]
        finally:
            port.state.default_headers = []

        assert {reply.raw.split(b"\r\n")[1] for reply in replies} == {b"date: today"}

    @pytest.mark.parametrize("text", ["soon", "0", "-1", "1.5"])
    async def test_a_deadline_that_cannot_be_read_is_refused_each_time_alike(self, port, text):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, x_request_timeout_ms=text)

        answer = await one_way(port, sent)

        assert answer.status_code == 400
        assert "X-Request-Timeout-Ms" in wire.problem(answer)["detail"]

    async def test_a_length_with_more_zeros_than_python_reads_is_read_each_time_alike(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
        long = sent.replace(b"Content-Length: ", b"Content-Length: " + b"0" * 5000)

        assert (await one_way(port, long)).status_code == 200

    async def test_names_of_any_case_and_values_with_blanks_are_the_same(self, port):
        body = INPUTS.tobytes()
        head = (
            f"POST {url('tabular', 'encode')} HTTP/1.1\r\nHOST:x\r\ncontent-TYPE:  {RAW} \r\n"
            f"ACCEPT:\t{RAW}\r\nCONTENT-length:{len(body)}\r\n\r\n"
        )

        answer = await both_ways(port, head.encode() + body)

        assert answer.content == CODES.tobytes()

    async def test_a_header_that_comes_twice_is_one_list(self, port):
        sent = ask_for(
            url("tabular", "encode"), INPUTS.tobytes(), RAW, accept="text/html", ACCEPT=NPY
        )

        answer = await both_ways(port, sent)

        assert answer.headers["content-type"] == NPY


class TestLearning:
    async def test_a_head_is_known_to_every_connection(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
        await both_ways(port, sent)
        before = port.ordinary

        answer = await port.connect().ask(sent)

        assert answer.status_code == 200
        assert port.ordinary == before

    async def test_a_head_that_came_once_on_each_of_two_connections_is_not_known(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
        before = port.ordinary

        for _ in range(3):
            await port.connect().ask(sent)

        assert port.ordinary - before == 3

    async def test_every_length_is_a_head_of_its_own(self, port):
        path, agent = url("tabular", "encode"), f"test/{next(_numbers)}"
        one, two = (
            request(path, INPUTS[:rows].tobytes(), content_type=RAW, accept=RAW, user_agent=agent)
            for rows in (1, 2)
        )
        line = port.connect()
        for _ in range(3):
            await line.ask(one)
        before = port.ordinary

        answer = await line.ask(two)

        assert answer.content == CODES[:2].tobytes()
        assert port.ordinary - before == 1

    async def test_other_rows_under_a_known_head_get_their_own_answer(self, port):
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, accept=RAW)
        line = port.connect()
        for _ in range(2):
            await line.ask(sent)
        before = port.ordinary
        rows = np.random.default_rng(1).random((20, 3, 4), np.float32)

        answers = [await line.ask(sent[:-48] + each.tobytes()) for each in rows]

        assert port.ordinary == before
        for each, answer in zip(rows, answers, strict=True):
            assert answer.content == each[:, :2].tobytes()

    async def test_a_thousand_or_so_heads_are_kept(self, models):
        async with listening(models) as port:
            line = port.connect()
            heads = [
                request(url("tabular", "encode"), b"", content_type=RAW, user_agent=str(number))
                for number in range(1100)
            ]
            for sent in heads:
                for _ in range(2):
                    await line.ask(sent)
            before = port.ordinary
            await line.ask(heads[-1])

        assert port.ordinary == before
        assert len(port.express._heads) <= 1024

    async def test_a_head_far_longer_than_any_honest_one_is_not_kept(self, port):
        """A thousand of them would be as many as a reader's buffer holds, each."""
        junk = {"x_junk": "a" * 8000, "x_more": "a" * 8000}
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, **junk)

        assert (await one_way(port, sent)).status_code == 200


class TestMetrics:
    async def test_a_request_is_counted_alike(self, models):
        async with listening(models) as port:
            line = port.connect()
            server = port.server

            async def counted():
                return [
                    await server.number(name, model="tabular", operation="encode", **labels)
                    for name, labels in (
                        ("hourglass_requests_total", {"outcome": "ok"}),
                        ("hourglass_requests_total", {"outcome": "invalid"}),
                        ("hourglass_rows_total", {}),
                        ("hourglass_request_seconds_count", {}),
                        ("hourglass_parse_seconds_count", {}),
                        ("hourglass_queue_seconds_count", {}),
                        ("hourglass_infer_seconds_count", {}),
                        ("hourglass_render_seconds_count", {}),
                        ("hourglass_batches_total", {}),
                    )
                ]

            good = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            bad = ask_for(url("tabular", "encode"), b"", RAW)
            steps = []
            for _ in range(3):
                before = await counted()
                await line.ask(good)
                await line.ask(good)
                await line.ask(bad)
                await line.ask(bad)
                steps.append(np.subtract(await counted(), before).tolist())

        assert steps == [[2, 2, 6, 4, 4, 2, 2, 2, 2]] * 3

    async def test_an_answer_is_counted_by_its_route_and_status(self, models):
        labels = {"route": "/v1/models/{model}/encode"}
        async with listening(models) as port:
            line = port.connect()
            for sent in (
                ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW),
                ask_for(url("tabular", "encode"), b"", RAW),
            ):
                for _ in range(3):
                    await line.ask(sent)
            counts = [
                await port.server.number("hourglass_http_responses_total", status=status, **labels)
                for status in ("200", "422")
            ]

        assert counts == [3, 3]
        assert port.state.total_requests == 6

    async def test_scores_are_observed_alike(self, models):
        async with listening(models) as port:
            line = port.connect()
            sent = ask_for(url("tabular", "anomaly-score"), INPUTS.tobytes(), RAW)
            for _ in range(4):
                await line.ask(sent)
            scores = await port.server.number("hourglass_anomaly_score_ratio_count")

        assert scores == 12


async def start(port: Port, workshop, rows: int = 1) -> Line:
    """Begin a request whose run is held."""
    line = port.connect()
    workshop.hold()
    line.send(ask_for(url("tabular", "encode"), INPUTS[:rows].tobytes(), RAW))
    await until(lambda: bool(workshop.batches))
    return line


@asynccontextmanager
async def busy(models: Path, workshop: Workshop, **settings: int) -> AsyncIterator[Port]:
    """Run the app with sessions that can be held, and let them go before it ends."""
    async with listening(models, sessions=workshop, **settings) as port:
        try:
            yield port
        finally:
            workshop.release()


class TestWaiting:
    """What keeps a request from its run, on both ways."""

    async def test_a_full_queue_is_told_alike(self, tabular, workshop):
        limits = {"max_queue_rows": 2, "max_request_rows": 2}
        async with busy(tabular, workshop, **limits) as port:
            await start(port, workshop)
            await fill(port, 2)

            one = await both_ways(
                port, ask_for(url("tabular", "encode"), INPUTS[:1].tobytes(), RAW)
            )
            two = await both_ways(
                port, ask_for(url("tabular", "encode"), INPUTS[:2].tobytes(), RAW)
            )

        assert (one.status_code, two.status_code) == (429, 429)
        assert int(one.headers["retry-after"]) >= 1

    async def test_a_full_queue_refuses_a_bad_body_alike(self, tabular, workshop):
        """At the door: parsing for a queue that is full would cost those who are in it."""
        bad = b"{".ljust(len(body_of(INPUTS[:1], JSON)))
        limits = {"max_queue_rows": 2, "max_request_rows": 2}
        async with busy(tabular, workshop, **limits) as port:
            known, unseen = (
                ask_for(url("tabular", "encode"), body_of(INPUTS[:1], JSON), JSON)[: -len(bad)]
                for _ in range(2)
            )
            line = port.connect()
            for _ in range(3):
                await line.ask(known + body_of(INPUTS[:1], JSON))
            await start(port, workshop)
            await fill(port, 2)
            before = port.ordinary

            short = await line.ask(known + bad)
            was_short = port.ordinary == before
            ordinary = await line.ask(unseen + bad)

        assert was_short
        assert ordinary.status_code == 429
        assert plain(short) == plain(ordinary)

    async def test_a_deadline_in_the_queue_is_told_alike(self, tabular, workshop):
        async with busy(tabular, workshop) as port:
            await start(port, workshop)

            answer = await both_ways(
                port,
                ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, x_request_timeout_ms="30"),
            )

        assert answer.status_code == 504
        assert wire.problem(answer)["detail"] == "the deadline passed in the queue"

    async def test_the_deadline_of_the_server_holds_on_both_ways(self, tabular, workshop):
        async with busy(tabular, workshop, request_timeout_ms=100) as port:
            workshop.hold()
            line = port.connect()
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)

            replies = [await line.ask(sent) for _ in range(3)]

        assert [reply.status_code for reply in replies] == [504] * 3
        assert port.ordinary == 2

    async def test_requests_of_both_ways_share_a_run(self, tabular, workshop):
        async with busy(tabular, workshop) as port:
            known = ask_for(url("tabular", "encode"), INPUTS[:1].tobytes(), RAW, accept=RAW)
            await both_ways(port, known)
            await start(port, workshop)
            lines = [port.connect() for _ in range(4)]
            for line in lines[:2]:
                line.send(known)
            for line in lines[2:]:
                line.send(ask_for(url("tabular", "encode"), INPUTS[1:].tobytes(), RAW, accept=RAW))
            await port.server.until_rows_wait(6)
            workshop.release()
            replies = [(await line.answers(1))[0] for line in lines]

        assert [len(batch) for batch in workshop.batches] == [1, 6]
        assert [reply.content for reply in replies] == (
            [CODES[:1].tobytes()] * 2 + [CODES[1:].tobytes()] * 2
        )


async def fill(port: Port, rows: int) -> None:
    port.connect().send(ask_for(url("tabular", "encode"), INPUTS[:rows].tobytes(), RAW))
    await port.server.until_rows_wait(rows)


class TestChange:
    """The models change, or the server is about to end."""

    async def test_a_model_that_is_gone_is_gone_on_both_ways(self, tabular):
        async with listening(tabular) as port:
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            line = port.connect()
            for _ in range(3):
                await line.ask(sent)
            before = port.ordinary
            port.server.registry.close()

            answer = await line.ask(sent)

        assert answer.status_code == 503
        assert port.ordinary - before == 1

    async def test_nothing_is_kept_of_a_model_that_is_gone(self, tabular):
        async with listening(tabular) as port:
            line = port.connect()
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            for _ in range(3):
                await line.ask(sent)
            port.server.registry.close()

            await line.ask(sent)

        assert not port.express._heads

    async def test_a_model_whose_queues_are_closed_just_now_takes_the_ordinary_way(self, tabular):
        async with listening(tabular) as port:
            line = port.connect()
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            for _ in range(3):
                await line.ask(sent)
            before = port.ordinary
            port.server.registry.resolve("tabular").autoencoder.close()

            answer = await line.ask(sent)

        assert answer.status_code == 503
        assert port.ordinary - before == 1

    async def test_queues_that_end_refuse_alike(self, tabular):
        async with listening(tabular) as port:
            line = port.connect()
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            for _ in range(3):
                await line.ask(sent)
            before = port.ordinary
            await port.server.registry.drain()

            short = await line.ask(sent)
            was_short = port.ordinary == before
            ordinary = await line.ask(ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW))

        assert was_short
        assert short.status_code == 503
        assert plain(short) == plain(ordinary)

    async def test_while_the_server_drains_every_answer_ends_its_connection(self, tabular):
        async with listening(tabular) as port:
            sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW)
            short_line, ordinary_line = port.connect(), port.connect()
            for _ in range(3):
                await short_line.ask(sent)
            before = port.ordinary
            port.server.app.state.lifecycle.is_draining = True

            short_line.send(sent)
            await short_line.closed()
            was_short = port.ordinary == before
            ordinary_line.send(ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW))
            await ordinary_line.closed()
            short = short_line.replies[3]
            ordinary = ordinary_line.replies[0]

        assert was_short
        assert short.headers["connection"] == "close"
        assert plain(short) == plain(ordinary)

    async def test_a_failure_that_nobody_foresaw_is_told_alike(self, tabular, workshop):
        async with listening(tabular, sessions=workshop) as port:
            for session in workshop.sessions:
                # finite, a row for each row, and nothing that JSON can write
                session.compute = lambda rows: (rows.astype(np.complex64),)

            answer = await both_ways(
                port, ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, accept=JSON)
            )

        assert answer.status_code == 500
        assert wire.problem(answer)["detail"] == "the server failed on this request"


async def test_the_log_line_of_a_failure_is_the_same(port, caplog):
    caplog.set_level(logging.INFO)
    sent = ask_for(url("tabular", "encode"), b"{", JSON, x_request_id="logged")
    line = port.connect()
    for _ in range(3):
        await line.ask(sent)

    lines = [
        {
            name: getattr(record, name)
            for name in ("levelname", "method", "route", "status", "fault")
        }
        | {"model": record.__dict__["model"], "rows": record.__dict__["rows"]}
        for record in caplog.records
        if record.__dict__.get("request_id") == "logged"
    ]
    assert len(lines) == 3
    assert lines[0] == lines[1] == lines[2]


async def test_successes_are_logged_when_that_was_asked_for(tabular, caplog):
    caplog.set_level(logging.INFO)
    async with listening(tabular, access_log=True) as port:
        line = port.connect()
        sent = ask_for(url("tabular", "encode"), INPUTS.tobytes(), RAW, x_request_id="logged")
        for _ in range(3):
            await line.ask(sent)

    logged = [record for record in caplog.records if "request_id" in record.__dict__]
    assert [record.__dict__["status"] for record in logged if record.request_id == "logged"] == [
        200,
        200,
        200,
    ]
