"""``infer``: what each output gives, in every form of request and answer; and what is refused."""

import asyncio
import gc
import gzip
import json
import sys
import zlib

import numpy as np
import pytest

from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.specs import TensorSpec
from tests import tiny
from tests.api.asgi import Connection, running, until
from tests.api.conftest import Workshop
from tests.api.tensors import (
    LENGTH,
    arrays,
    as_bytes,
    as_json,
    binary_request,
    error,
    infer_url,
    json_request,
    wanted,
)
from tests.api.wire import JSON, RAW, number, url
from tests.conftest import serve

ROWS = np.random.default_rng(21).random((3, 4), np.float32)
TABULAR = infer_url("tabular")
SECRET = "my-secret-value"  # noqa: S105 - what no answer may repeat


def v1(client, operation, rows, model="tabular", version=None):
    """What the other protocol answers, as an array."""
    headers = {"content-type": RAW, "accept": RAW}
    if any(axis is None for axis in client.get(f"/v1/models/{model}").json()["input"]["shape"]):
        headers["x-shape"] = ",".join(map(str, rows.shape))
    answer = client.post(url(model, operation, version), content=rows.tobytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    shape = [int(axis) for axis in answer.headers["x-shape"].split(",")]
    return np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)


GIVES = {"code": "encode", "reconstruction": "reconstruct", "score": "anomaly-score"}


class TestOutputs:
    @pytest.mark.parametrize("name", GIVES)
    @pytest.mark.parametrize("model", ["tabular", "picture", "mixed", "any-size"])
    def test_one_alone_has_the_bits_of_the_operation_that_gives_it(self, client, model, name):
        shape = {"tabular": (3, 4), "mixed": (3, 6)}.get(model, (3, 1, 4, 4))
        rows = np.random.default_rng(3).random(shape, np.float32)

        got = arrays(
            client.post(infer_url(model), content=json_request(rows, outputs=wanted(name)))
        )

        assert list(got) == [name]
        assert np.array_equal(got[name], v1(client, GIVES[name], rows, model))

    @pytest.mark.parametrize("model", ["tabular", "picture", "mixed"])
    def test_all_together_have_the_same_bits(self, client, model):
        shape = {"tabular": (3, 4), "mixed": (3, 6)}.get(model, (3, 1, 4, 4))
        rows = np.random.default_rng(4).random(shape, np.float32)

        got = arrays(client.post(infer_url(model), content=json_request(rows)))

        assert list(got) == list(GIVES)
        for name, operation in GIVES.items():
            assert np.array_equal(got[name], v1(client, operation, rows, model))

    def test_the_decoder_has_the_bits_of_decode(self, client):
        codes = np.random.default_rng(5).random((3, 3), np.float32)

        got = arrays(
            client.post(infer_url("mixed.decoder"), content=json_request(codes, name="code"))
        )

        wanted_rows = client.post(
            url("mixed", "decode"),
            content=codes.tobytes(),
            headers={"content-type": RAW, "accept": RAW},
        )
        assert got["reconstruction"].tobytes() == wanted_rows.content

    def test_they_come_in_the_order_that_was_asked_for(self, client):
        body = json_request(ROWS, outputs=wanted("score", "code"))

        assert list(arrays(client.post(TABULAR, content=body))) == ["score", "code"]

    @pytest.mark.parametrize(
        ("model", "names"),
        [
            ("encoder", ["code"]),
            ("plain", ["code", "reconstruction", "score"]),
            ("other-kind", ["code", "reconstruction"]),
        ],
    )
    def test_a_model_gives_what_it_has(self, client, model, names):
        assert list(arrays(client.post(infer_url(model), content=json_request(ROWS)))) == names

    @pytest.mark.parametrize(
        ("model", "name", "has"),
        [
            ("encoder", "score", "code"),
            ("encoder", "reconstruction", "code"),
            ("other-kind", "score", "code or reconstruction"),
            ("tabular", "input", "code or reconstruction or score"),
        ],
    )
    def test_an_output_that_it_has_not_is_409_and_names_those_that_it_has(
        self, client, model, name, has
    ):
        answer = client.post(
            infer_url(model), content=json_request(ROWS, outputs=wanted("code", name))
        )

        assert answer.status_code == 409
        assert error(answer) == f"the model does not have an output of this name (expected {has})"

    def test_a_score_tells_its_metric_and_the_threshold(self, client):
        answer = client.post(TABULAR, content=json_request(ROWS, outputs=wanted("score")))

        scores = client.post(url("tabular", "anomaly-score"), json={"inputs": ROWS.tolist()}).json()
        told = {"metric": scores["metric"], "threshold": scores["threshold"]}
        assert answer.json()["outputs"][0]["parameters"] == answer.json()["parameters"] == told

    def test_a_client_that_takes_parameters_for_bytes_finds_them_beside_the_outputs(self, client):
        outputs = wanted("code", "score", is_binary=False)

        answer = client.post(TABULAR, content=json_request(ROWS, outputs=outputs)).json()

        assert not any("parameters" in output for output in answer["outputs"])
        assert answer["parameters"].keys() == {"metric", "threshold"}

    def test_without_a_score_there_is_nothing_to_tell(self, client):
        answer = client.post(TABULAR, content=json_request(ROWS, outputs=wanted("code"))).json()

        assert "parameters" not in answer

    def test_without_calibration_there_is_no_threshold(self, client):
        answer = client.post(
            infer_url("plain"), content=json_request(ROWS, outputs=wanted("score"))
        )

        assert answer.json()["outputs"][0]["parameters"] == {"metric": "mse"}

    def test_integers_of_64_bits_come_back_as_they_were(self, client):
        rows = np.array([[2**63 - 1, -(2**63)]])

        for body, headers in ((json_request(rows), {}), binary_request(rows)):
            got = arrays(client.post(infer_url("integers"), content=body, headers=headers))
            assert got["code"].tolist() == rows.tolist()

    def test_a_version_answers_by_its_number(self, client):
        rows = np.ones((1, 6), np.float32)

        for version in ("2", "9", "10"):
            answer = client.post(infer_url("aged", version), content=json_request(rows))
            assert answer.json()["model_version"] == answer.headers["x-model-version"] == version
            assert np.array_equal(
                arrays(answer)["code"], v1(client, "encode", rows, "aged", version)
            )

    def test_without_a_version_the_newest_answers(self, client):
        answer = client.post(infer_url("aged"), content=json_request(np.ones((1, 6), np.float32)))

        assert (answer.json()["model_name"], answer.json()["model_version"]) == ("aged", "10")


class TestForms:
    @pytest.mark.parametrize("is_flat", [True, False])
    def test_values_in_the_json_are_flat_or_nested(self, client, is_flat):
        body = {"inputs": [as_json(ROWS, is_flat=is_flat)], "outputs": wanted("code")}

        got = arrays(client.post(TABULAR, json=body))

        assert np.array_equal(got["code"], ROWS[:, :2])

    def test_values_behind_the_json(self, client):
        body, headers = binary_request(ROWS, outputs=wanted("code", is_binary=True))

        answer = client.post(TABULAR, content=body, headers=headers)

        assert answer.headers["content-type"] == RAW
        assert arrays(answer)["code"].tobytes() == ROWS[:, :2].tobytes()

    def test_a_client_that_names_no_outputs_gets_all_as_bytes_if_it_says_so(self, client):
        body, headers = binary_request(ROWS, parameters={"binary_data_output": True})

        answer = client.post(TABULAR, content=body, headers=headers)

        document = json.loads(answer.content[: int(answer.headers[LENGTH])])
        assert all("data" not in output for output in document["outputs"])
        assert list(arrays(answer)) == list(GIVES)

    def test_an_answer_may_be_both(self, client):
        outputs = [*wanted("reconstruction", is_binary=True), *wanted("code", is_binary=False)]
        body, headers = binary_request(ROWS, outputs=outputs)

        answer = client.post(TABULAR, content=body, headers=headers)

        document = json.loads(answer.content[: int(answer.headers[LENGTH])])
        assert ["data" in output for output in document["outputs"]] == [False, True]
        assert np.array_equal(arrays(answer)["code"], ROWS[:, :2])

    def test_a_body_of_bytes_alone(self, client):
        answer = client.post(TABULAR, content=ROWS.tobytes(), headers={LENGTH: "0"})

        assert list(arrays(answer)) == list(GIVES)
        assert np.array_equal(arrays(answer)["code"], ROWS[:, :2])

    def test_a_body_of_bytes_alone_says_its_shape_where_axes_are_free(self, client):
        rows = np.random.default_rng(6).random((2, 1, 3, 5), np.float32)
        headers = {LENGTH: "0", "x-shape": "2,1,3,5"}

        answer = client.post(infer_url("any-size"), content=rows.tobytes(), headers=headers)

        assert np.array_equal(arrays(answer)["code"], rows / 2)

    @pytest.mark.parametrize(
        "media",
        [
            None,
            "application/json",
            "application/json; charset=utf-8",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
        ],
    )
    def test_the_content_type_says_nothing(self, client, media):
        body, headers = binary_request(ROWS, outputs=wanted("code"))

        answer = client.post(
            TABULAR, content=body, headers=headers | ({"content-type": media} if media else {})
        )

        assert np.array_equal(arrays(answer)["code"], ROWS[:, :2])

    @pytest.mark.parametrize(
        ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
    )
    def test_a_body_may_be_compressed(self, client, encoding, compress):
        body, headers = binary_request(ROWS, outputs=wanted("code"))

        answer = client.post(
            TABULAR, content=compress(body), headers=headers | {"content-encoding": encoding}
        )

        assert np.array_equal(arrays(answer)["code"], ROWS[:, :2])

    @pytest.mark.parametrize("rows", [1000, 4000])
    def test_a_large_answer_of_json_is_compressed_on_request(self, client, rows):
        sent = np.random.default_rng(7).random((rows, 4), np.float32)
        body = json_request(sent, outputs=wanted("reconstruction"))

        answer = client.post(TABULAR, content=body, headers={"accept-encoding": "gzip"})
        plain = client.post(TABULAR, content=body, headers={"accept-encoding": "identity"})

        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < int(plain.headers["content-length"])
        assert "content-encoding" not in plain.headers
        assert np.array_equal(arrays(answer)["reconstruction"][:, :2], sent[:, :2])

    def test_a_very_large_answer_of_json_has_the_bits_of_one_in_bytes(self, client):
        rows = np.random.default_rng(8).random((1, 1, 512, 520), np.float32)
        got = []
        for is_binary in (False, True):
            body, headers = binary_request(rows, outputs=wanted("code", is_binary=is_binary))
            answer = client.post(infer_url("any-size"), content=body, headers=headers)
            got.append(arrays(answer)["code"])

        assert got[0].tobytes() == got[1].tobytes() == (rows / 2).tobytes()

    def test_a_large_compressed_body_is_read(self, client):
        rows = np.random.default_rng(9).random((4000, 4), np.float32)
        body, headers = binary_request(rows, outputs=wanted("code", is_binary=True))
        headers["content-encoding"] = "gzip"

        answer = client.post(TABULAR, content=gzip.compress(body), headers=headers)

        assert arrays(answer)["code"].tobytes() == rows[:, :2].tobytes()

    def test_a_coding_that_cannot_be_given_is_406(self, client):
        headers = {"accept-encoding": "gzip;q=0, identity;q=0"}

        answer = client.post(TABULAR, content=json_request(ROWS), headers=headers)

        assert answer.status_code == 406
        assert "gzip or identity" in error(answer)

    def test_the_id_comes_back(self, client):
        answer = client.post(TABULAR, content=json_request(ROWS, id="42 é"))

        assert answer.json()["id"] == "42 é"
        assert "id" not in client.post(TABULAR, content=json_request(ROWS)).json()

    def test_an_answer_has_the_headers_of_all_answers(self, client):
        answer = client.post(
            TABULAR, content=json_request(ROWS), headers={"x-request-id": "mine-1"}
        )

        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["x-model-version"] == "1"
        assert [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")] == [
            *("parse", "queue", "infer", "render")
        ]


def with_input(**changes):
    """A request of one row whose input differs."""
    tensor = as_json(ROWS[:1]) | changes
    inputs = [{name: value for name, value in tensor.items() if value is not ...}]
    return json.dumps({"inputs": inputs}).encode()


REFUSED = {
    "no JSON": (b"", 400),
    "cut off": (b'{"inputs": [', 400),
    "NaN": (with_input(data=[float("nan"), 0, 0, 0]), 400),
    "beyond double": (b'{"inputs": [{"data": [1e400]}]}', 400),
    "no object": (b"[]", 422),
    "no inputs": (b"{}", 422),
    "two inputs": (json.dumps({"inputs": [as_json(ROWS), as_json(ROWS)]}).encode(), 422),
    "another input": (with_input(name="code"), 422),
    "another datatype": (with_input(datatype="FP64"), 422),
    "texts": (with_input(datatype="BYTES", data=[SECRET] * 4), 422),
    "a text": (with_input(data=[SECRET, 0, 0, 0]), 422),
    "a boolean": (with_input(data=[True, 0, 0, 0]), 422),
    "ragged": (with_input(data=[[0, 0, 0]]), 422),
    "no shape": (with_input(shape=...), 422),
    "a shape that lies": (with_input(shape=[2, 4]), 422),
    "zero rows": (with_input(shape=[0, 4], data=[]), 422),
    "too large for its type": (with_input(data=[1e39, 0, 0, 0]), 422),
    "out of range": (with_input(data=[7, 0, 0, 0]), 422),
    "too many rows": (with_input(shape=[5000, 4], data=[0] * 20_000), 413),
    "an unknown output": (json_request(ROWS, outputs=wanted(SECRET)), 409),
    "a doubled output": (json_request(ROWS, outputs=wanted("code", "code")), 422),
    "a classification": (
        json_request(ROWS, outputs=[{"name": "code", "parameters": {"classification": 2}}]),
        422,
    ),
    "shared memory": (with_input(data=..., parameters={"shared_memory_region": SECRET}), 422),
    "bytes that do not come": (with_input(data=..., parameters={"binary_data_size": 16}), 400),
}


class TestRefusals:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_what_is_wrong_has_its_status_and_its_words(self, client, kind):
        body, status = REFUSED[kind]

        answer = client.post(TABULAR, content=body)

        assert answer.status_code == status
        assert SECRET not in error(answer)

    @pytest.mark.parametrize(
        "length",
        ["-1", "x", "", "1.0", "0x10", "9" * 19, "99999999", "7", "0, 0"],
    )
    def test_a_length_of_json_that_lies_is_400_or_413(self, client, length):
        body, _ = binary_request(ROWS)

        answer = client.post(TABULAR, content=body, headers={LENGTH: length})

        assert answer.status_code == (413 if length == "99999999" else 400)
        error(answer)

    def test_a_length_longer_than_the_body_is_400(self, client):
        body = json_request(ROWS)

        answer = client.post(TABULAR, content=body, headers={LENGTH: str(len(body) + 1)})

        assert answer.status_code == 400
        assert "longer than the body" in error(answer)

    def test_a_body_of_bytes_that_are_no_rows_is_422(self, client):
        answer = client.post(TABULAR, content=ROWS.tobytes()[:-1], headers={LENGTH: "0"})

        assert answer.status_code == 422
        assert "whole number of rows" in error(answer)

    @pytest.mark.parametrize("media", ["image/png", "application/x-npy", "text/plain", "x"])
    def test_another_content_type_is_415(self, client, media):
        answer = client.post(TABULAR, content=json_request(ROWS), headers={"content-type": media})

        assert answer.status_code == 415
        error(answer)

    def test_another_content_encoding_is_415(self, client):
        answer = client.post(
            TABULAR, content=json_request(ROWS), headers={"content-encoding": "br"}
        )

        assert answer.status_code == 415
        error(answer)

    def test_what_is_not_of_its_content_encoding_is_400(self, client):
        answer = client.post(
            TABULAR, content=json_request(ROWS), headers={"content-encoding": "gzip"}
        )

        assert answer.status_code == 400
        error(answer)

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            (infer_url("nobody"), 404),
            (infer_url("tabular", "7"), 404),
            (infer_url("tabular", "stable"), 409),
            (infer_url("encoder.decoder"), 404),
            (infer_url("nobody.decoder"), 404),
            (infer_url("tabular.decoder.decoder"), 404),
            (infer_url(".decoder"), 404),
            (infer_url(""), 404),
            (TABULAR + "/", 404),
            ("/v2/models/tabular/infer/more", 404),
        ],
    )
    def test_what_is_not_there_is_404_and_an_unknown_label_409(self, client, path, status):
        answer = client.post(path, content=json_request(ROWS))

        assert answer.status_code == status
        error(answer)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_another_method_is_405_and_names_the_right_one(self, client, method):
        answer = client.request(method, TABULAR)

        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        error(answer)

    def test_a_row_that_fails_is_500_with_its_row_and_harms_nobody(self, client):
        rows = np.zeros((3, 4), np.float32)
        rows[1, 0] = 9

        answer = client.post(infer_url("poison"), content=json_request(rows))
        good = client.post(infer_url("poison"), content=json_request(rows[:1]))

        assert answer.status_code == 500
        assert error(answer) == "the model failed on these rows (row 1)"
        assert good.status_code == 200

    @pytest.mark.parametrize("timeout", ["0", "-1", "soon"])
    def test_a_broken_deadline_is_400(self, client, timeout):
        answer = client.post(
            TABULAR, content=json_request(ROWS), headers={"x-request-timeout-ms": timeout}
        )

        assert answer.status_code == 400
        error(answer)

    def test_other_paths_of_the_protocol_have_its_errors_and_paths_like_it_have_not(self, client):
        assert client.get("/v2/nothing").status_code == 404
        error(client.get("/v2/nothing"))
        error(client.post("/v2", content=b""))
        assert client.get("/v22").headers["content-type"] == "application/problem+json"
        assert client.get("/v1/models/nobody").headers["content-type"] == "application/problem+json"


@pytest.fixture(scope="module")
def narrow(models):
    """A server with small limits."""
    with serve(models, max_body_bytes=400, max_json_bytes=300, max_request_rows=8) as client:
        yield client


class TestLimits:
    def padded(self, size):
        body = json_request(ROWS[:1], outputs=wanted("code"))
        return body + b" " * (size - len(body))

    @pytest.mark.parametrize(("size", "status"), [(300, 200), (301, 413)])
    def test_json_may_have_the_bytes_of_json(self, narrow, size, status):
        assert narrow.post(TABULAR, content=self.padded(size)).status_code == status

    @pytest.mark.parametrize(("size", "status"), [(300, 200), (301, 413)])
    def test_json_in_front_of_bytes_may_have_no_more(self, narrow, size, status):
        body, headers = binary_request(ROWS, outputs=wanted("code"))
        head = body[: int(headers[LENGTH])]
        padded = head + b" " * (size - len(head))

        answer = narrow.post(TABULAR, content=padded + ROWS.tobytes(), headers={LENGTH: str(size)})

        assert answer.status_code == status

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_body_may_have_the_bytes_of_bodies(self, narrow, is_chunked):
        body = b"\0" * 416

        answer = narrow.post(
            TABULAR, content=iter([body]) if is_chunked else body, headers={LENGTH: "0"}
        )

        assert answer.status_code == 413
        assert "at most 400 bytes" in error(answer)

    def test_what_comes_out_of_compression_counts(self, narrow):
        headers = {LENGTH: "0", "content-encoding": "gzip"}

        answer = narrow.post(TABULAR, content=gzip.compress(bytes(100_000)), headers=headers)

        assert answer.status_code == 413

    @pytest.mark.parametrize(("rows", "status"), [(8, 200), (9, 413)])
    def test_a_request_may_have_so_many_rows(self, narrow, rows, status):
        answer = narrow.post(TABULAR, content=bytes(16 * rows), headers={LENGTH: "0"})

        assert answer.status_code == status


@pytest.mark.anyio
class TestQueue:
    async def test_requests_of_both_protocols_share_a_run(self, tabular, workshop: Workshop):
        body, headers = binary_request(ROWS, outputs=wanted("code", is_binary=True))
        async with running(tabular, sessions=workshop) as server:
            workshop.hold()
            first = asyncio.create_task(server.post(url("tabular", "encode"), [[0] * 4]))
            await until(lambda: bool(workshop.batches))
            tasks = [
                asyncio.create_task(server.post(url("tabular", "encode"), ROWS.tolist())),
                asyncio.create_task(server.send("POST", TABULAR, Connection([body]), headers)),
            ]
            await server.until_rows_wait(6)
            workshop.release()
            _, old, new = await asyncio.gather(first, *tasks)

        assert [len(batch) for batch in workshop.batches] == [1, 6]
        assert np.array_equal(arrays(new)["code"], np.array(old.json()["codes"], np.float32))

    async def test_only_what_is_wanted_is_computed(self, tabular, workshop: Workshop):
        async with running(tabular, sessions=workshop) as server:
            opened = len(workshop.sessions)
            for session in workshop.sessions:
                session.batches.clear()
            for name in GIVES:
                body = json_request(ROWS, outputs=wanted(name))
                arrays(await server.send("POST", TABULAR, Connection([body])))
            assert len(workshop.sessions) == opened
            assert [len(session.batches) for session in workshop.sessions] == [1, 0, 1, 1]

            body = json_request(ROWS, outputs=wanted("code", "score"))
            arrays(await server.send("POST", TABULAR, Connection([body])))

            assert len(workshop.sessions) == opened + 1
            assert [len(each.batches) for each in workshop.sessions[:-1]] == [1, 0, 1, 1]

    async def test_a_full_queue_is_429_and_says_when_to_come_back(self, tabular, workshop):
        body = json_request(ROWS[:2], outputs=wanted("code"))
        async with running(
            tabular, sessions=workshop, max_queue_rows=3, max_request_rows=3
        ) as server:
            workshop.hold()
            first = asyncio.create_task(server.post(url("tabular", "encode"), [[0] * 4]))
            await until(lambda: bool(workshop.batches))
            waits = asyncio.create_task(server.send("POST", TABULAR, Connection([body])))
            await server.until_rows_wait(2)

            refused = await server.send("POST", TABULAR, Connection([body]))
            workshop.release()
            await asyncio.gather(first, waits)
            counted = await server.number(
                "hourglass_requests_total", operation="infer", outcome="rejected"
            )

        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "2 of at most 3 rows" in error(refused)
        assert counted == 1

    @pytest.mark.parametrize(
        ("parameters", "headers"),
        [({"timeout": 20_000}, {}), ({}, {"x-request-timeout-ms": "20"})],
        ids=["parameter", "header"],
    )
    @pytest.mark.parametrize("names", [("code",), ("code", "score")], ids=["one", "two"])
    async def test_a_deadline_that_passes_is_504(
        self, tabular, workshop, names, parameters, headers
    ):
        warm = json_request(ROWS)
        body = json_request(ROWS, outputs=wanted(*names), parameters=parameters)
        async with running(tabular, sessions=workshop) as server:
            await server.send("POST", TABULAR, Connection([warm]))
            workshop.hold()
            answer = await server.send("POST", TABULAR, Connection([body]), headers)
            workshop.release()

        assert answer.status_code == 504
        assert "deadline" in error(answer)

    async def test_a_body_that_does_not_come_is_504(self, tabular):
        slow = Connection([b'{"inputs": ['], is_complete=False)
        async with running(tabular) as server:
            answer = await server.send("POST", TABULAR, slow, {"x-request-timeout-ms": "30"})

        assert answer.status_code == 504
        error(answer)

    async def test_a_client_that_leaves_is_not_computed_for(self, tabular, workshop: Workshop):
        body = json_request(ROWS, outputs=wanted("code"))
        async with running(tabular, sessions=workshop) as server:
            workshop.hold()
            first = asyncio.create_task(server.post(url("tabular", "encode"), [[0] * 4]))
            await until(lambda: bool(workshop.batches))
            connection = Connection([body])
            leaver = asyncio.create_task(server.send("POST", TABULAR, connection))
            await server.until_rows_wait(3)

            connection.leave()
            left = await leaver
            workshop.release()
            await first
            gone = await server.number(
                "hourglass_requests_total", operation="infer", outcome="client_gone"
            )

        assert (left.status_code, left.content) == (0, b"")
        assert gone == 1
        assert [len(batch) for batch in workshop.batches] == [1]

    async def test_a_fault_of_ours_is_a_bare_500_and_counted(self, tabular, workshop: Workshop):
        body = json_request(ROWS, outputs=wanted("code"))
        async with running(tabular, sessions=workshop) as server:
            for session in workshop.sessions:  # of a type that the protocol has no word for here
                session.compute = lambda rows: (np.ones((len(rows), 2), np.uint16),)
            answer = await server.send("POST", TABULAR, Connection([body]))
            counted = await server.number(
                "hourglass_requests_total", operation="infer", outcome="failed"
            )

        assert answer.status_code == 500
        assert error(answer) == "the server failed on this request"
        assert counted == 1

    @pytest.mark.parametrize("path", [TABULAR, url("tabular", "encode")])
    async def test_nothing_is_kept_of_a_refused_body(self, tabular, path):
        body = json.dumps({"inputs": [as_json(ROWS) | {"data": [SECRET] * 12}]}).encode()
        async with running(tabular) as server:
            connection = Connection([body])
            gc.disable()  # nor until the collector comes
            try:
                before = sys.getrefcount(body)
                answer = await server.send("POST", path, connection, {"content-type": JSON})
                after = sys.getrefcount(body)
            finally:
                gc.enable()

        assert answer.status_code == 422
        assert after < before  # the connection has let go of it too

    async def test_while_a_model_loads_it_is_503(self, tabular):
        async with running(tabular) as server:
            entry = server.registry.entries()[0]
            live, entry.live, entry.state = entry.live, None, "loading"
            server.registry.changes += 1
            try:
                answer = await server.send("POST", TABULAR, Connection([json_request(ROWS)]))
            finally:
                entry.live = live

        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        error(answer)


class TestMetrics:
    LABELS = {"model": "tabular", "version": "1", "operation": "infer"}  # noqa: RUF012

    def test_a_request_is_counted_as_infer_and_its_run_where_it_was_made(self, models):
        with serve(models) as client:
            arrays(client.post(TABULAR, content=json_request(ROWS, outputs=wanted("code"))))
            client.post(TABULAR, content=b"{}")
            codes = ROWS[:1, :2].copy()
            arrays(
                client.post(infer_url("tabular.decoder"), content=json_request(codes, name="code"))
            )
            client.get(TABULAR)

            requests = "hourglass_requests_total"
            assert number(client, requests, **self.LABELS, outcome="ok") == 2
            assert number(client, requests, **self.LABELS, outcome="invalid") == 1
            assert number(client, "hourglass_rows_total", **self.LABELS) == 4
            assert number(client, "hourglass_request_seconds_count", **self.LABELS) == 3
            assert number(client, "hourglass_infer_seconds_count", **self.LABELS) == 2
            assert number(client, requests, operation="encode") == 0
            runs = "hourglass_batches_total"
            assert number(client, runs, model="tabular", operation="encode") == 1
            assert number(client, runs, model="tabular", operation="decode") == 1
            assert number(client, runs, model="tabular", operation="infer") == 0

    def test_every_answer_is_counted_under_its_template(self, models):
        with serve(models) as client:
            client.post(TABULAR, content=json_request(ROWS))
            client.post(infer_url("tabular", "1"), content=b"{}")
            client.post(infer_url("nobody"), content=b"{}")
            client.get("/v2/models/tabular/versions/1/ready")
            client.get("/v2/nothing")

            def answers(route, status):
                return number(
                    client, "hourglass_http_responses_total", route=route, status=str(status)
                )

            assert answers("/v2/models/{model}/infer", 200) == 1
            assert answers("/v2/models/{model}/versions/{version}/infer", 422) == 1
            assert answers("/v2/models/{model}/infer", 404) == 1
            assert answers("/v2/models/{model}/versions/{version}/ready", 200) == 1
            assert answers("unmatched", 404) == 1

    def test_scores_feed_their_metrics(self, models):
        odd = np.array([[0, 0, 1, 1], [0, 0, 0, 0]], np.float32)
        with serve(models) as client:
            for outputs in (wanted("score"), wanted("code", "score"), wanted("code")):
                arrays(client.post(TABULAR, content=json_request(odd, outputs=outputs)))

            assert number(client, "hourglass_anomalies_total", model="tabular") == 2
            assert number(client, "hourglass_anomaly_score_ratio_count", model="tabular") == 4


@pytest.fixture(scope="module")
def codeless(tmp_path_factory):
    """A model in one file without a named code."""
    folder = tmp_path_factory.mktemp("codeless")
    spec = TensorSpec("float32", (4,))
    write_package(
        folder,
        Description(
            name="codeless",
            version=1,
            graphs=GraphFiles(autoencoder="autoencoder.onnx"),
            input=spec,
            output=spec,
        ),
        {"autoencoder.onnx": tiny.whole()},
        golden_rows=ROWS,
    )
    with serve(folder) as client:
        yield client


class TestAModelWithoutACode:
    def test_it_gives_reconstruction_and_score(self, codeless):
        got = arrays(codeless.post(infer_url("codeless"), content=json_request(ROWS)))

        assert list(got) == ["reconstruction", "score"]
        error_of_rows = np.square(got["reconstruction"] - ROWS).mean(axis=1)
        np.testing.assert_allclose(got["score"], error_of_rows, rtol=1e-5)

    def test_it_has_no_decoder(self, codeless):
        assert codeless.get("/v2/models/codeless.decoder").status_code == 404

    def test_a_code_is_409(self, codeless):
        body = json_request(ROWS, outputs=wanted("code"))

        answer = codeless.post(infer_url("codeless"), content=body)

        assert answer.status_code == 409
        assert "reconstruction or score" in error(answer)


def test_the_tensors_of_a_request_are_told_apart_by_their_bytes():
    """The helpers of these tests write what the protocol says, not what this server reads."""
    body, headers = binary_request(ROWS)

    assert body[int(headers[LENGTH]) :] == ROWS.tobytes()
    assert as_bytes(ROWS)["parameters"] == {"binary_data_size": 48}
