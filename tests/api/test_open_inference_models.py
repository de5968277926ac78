"""The Open Inference Protocol without inference: health, metadata, configuration, repository."""

import asyncio
import shutil

import pytest

from service import __version__
from service.api.runtime import STATE
from tests.api.asgi import Connection, running
from tests.api.tensors import error
from tests.conftest import serve

FP32 = {"datatype": "FP32"}


def test_the_server_says_what_it_is_and_what_it_can(client):
    answer = client.get("/v2").json()

    assert answer["name"] == "hourglass"
    assert answer["version"] == __version__
    assert set(answer["extensions"]) == {
        *("binary_tensor_data", "model_configuration", "model_repository", "statistics")
    }


def test_a_server_that_is_well_says_so_in_words(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.anyio
async def test_a_server_that_is_not_ready_says_so_by_its_status(tabular):
    async with running(tabular) as server:
        lifecycle = server.state[STATE].lifecycle
        lifecycle.is_draining = True
        stopping = await server.send("GET", "/v2/health/ready")
        lives = await server.send("GET", "/v2/health/live")
        lifecycle.is_draining = False
        lifecycle.is_device_lost = True
        lost = [await server.send("GET", f"/v2/health/{name}") for name in ("ready", "live")]
        index = await server.send("POST", "/v2/repository/index")
        lifecycle.is_device_lost = False

    assert (stopping.status_code, stopping.json()) == (503, {"ready": False})
    assert stopping.headers["retry-after"]
    assert (lives.status_code, lives.json()) == (200, {"live": True})
    assert [answer.status_code for answer in lost] == [503, 503]
    assert [answer.json() for answer in lost] == [{"ready": False}, {"live": False}]
    assert [(each["state"], each["reason"]) for each in index.json()] == [
        ("UNAVAILABLE", "the device is lost")
    ]


class TestMetadata:
    def test_shapes_begin_with_the_batch_and_a_score_is_one_number_a_row(self, client):
        assert client.get("/v2/models/picture").json() == {
            "name": "picture",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "input", "shape": [-1, 1, 4, 4], **FP32}],
            "outputs": [
                {"name": "code", "shape": [-1, 1, 4, 4], **FP32},
                {"name": "reconstruction", "shape": [-1, 1, 4, 4], **FP32},
                {"name": "score", "shape": [-1], **FP32},
            ],
        }

    def test_the_decoder_is_a_model_of_its_own(self, client):
        answer = client.get("/v2/models/mixed.decoder").json()

        assert answer["name"] == "mixed.decoder"
        assert answer["inputs"] == [{"name": "code", "shape": [-1, 3], **FP32}]
        assert answer["outputs"] == [{"name": "reconstruction", "shape": [-1, 6], **FP32}]

    def test_free_axes_are_minus_one(self, client):
        answer = client.get("/v2/models/any-size").json()

        assert answer["inputs"][0]["shape"] == [-1, 1, -1, -1]

    def test_datatypes_are_the_graphs(self, client):
        answer = client.get("/v2/models/integers").json()

        assert answer["inputs"][0]["datatype"] == answer["outputs"][0]["datatype"] == "INT64"

    @pytest.mark.parametrize(
        ("model", "names"),
        [
            ("encoder", ["code"]),
            ("other-kind", ["code", "reconstruction"]),
            ("plain", ["code", "reconstruction", "score"]),
        ],
    )
    def test_a_model_has_the_outputs_that_it_can_give(self, client, model, names):
        outputs = client.get(f"/v2/models/{model}").json()["outputs"]

        assert [output["name"] for output in outputs] == names

    def test_every_version_that_serves_is_listed_by_number(self, client):
        assert client.get("/v2/models/aged").json()["versions"] == ["2", "9", "10"]
        assert client.get("/v2/models/aged/versions/9").json()["versions"] == ["2", "9", "10"]

    @pytest.mark.parametrize("rest", ["", "/ready", "/config", "/stats"])
    @pytest.mark.parametrize(
        ("model", "status"),
        [
            ("nobody", 404),
            ("nobody.decoder", 404),
            ("encoder.decoder", 404),
            ("aged/versions/3", 404),
            ("aged/versions/stable", 409),
        ],
    )
    def test_what_is_not_there_is_404_and_an_unknown_label_409(self, client, model, rest, status):
        answer = client.get(f"/v2/models/{model}{rest}")

        assert answer.status_code == status
        assert model.partition("/")[0] not in error(answer)


class TestReadiness:
    @pytest.mark.parametrize("path", ["aged", "aged/versions/2", "aged.decoder"])
    def test_a_model_that_serves_is_ready(self, client, path):
        answer = client.get(f"/v2/models/{path}/ready")

        assert answer.json() == {"name": path.partition("/")[0], "ready": True}

    def test_a_model_that_could_not_be_loaded_is_not(self, zoo, tmp_path):
        shutil.copytree(zoo / "tabular" / "1", tmp_path / "tabular" / "1")
        (tmp_path / "tabular" / "1" / "encoder.onnx").write_bytes(b"damaged")
        shutil.copytree(zoo / "plain" / "1", tmp_path / "plain" / "1")
        with serve(tmp_path, required_models=("plain",)) as client:
            answer = client.get("/v2/models/tabular/ready")
            metadata = client.get("/v2/models/tabular")
            index = client.post("/v2/repository/index", content=b"").json()
            ready = client.post("/v2/repository/index", content=b'{"ready": true}').json()

        assert answer.status_code == metadata.status_code == 503
        assert answer.json() == {"name": "tabular", "ready": False}
        assert answer.headers["retry-after"]
        error(metadata)
        states = {entry["name"]: (entry["state"], entry["reason"]) for entry in index}
        assert states["tabular"] == ("UNAVAILABLE", "it could not be loaded")
        assert states["plain"] == ("READY", "")
        assert {entry["name"] for entry in ready} == {"plain", "plain.decoder"}


class TestConfig:
    def test_it_says_what_a_load_generator_asks_for(self, client):
        assert client.get("/v2/models/picture/config").json() == {
            "name": "picture",
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": 4096,
            "input": [{"name": "input", "data_type": "TYPE_FP32", "dims": [1, 4, 4]}],
            "output": [
                {"name": "code", "data_type": "TYPE_FP32", "dims": [1, 4, 4]},
                {"name": "reconstruction", "data_type": "TYPE_FP32", "dims": [1, 4, 4]},
                {"name": "score", "data_type": "TYPE_FP32", "dims": []},
            ],
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
        }

    def test_the_limits_are_the_servers(self, models):
        with serve(models, max_request_rows=7, queue_delay_ms=1.5) as client:
            config = client.get("/v2/models/tabular/versions/1/config").json()

        assert config["max_batch_size"] == 7
        assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 1500}

    def test_the_decoder_has_its_own(self, client):
        config = client.get("/v2/models/integers/config").json()
        decoder = client.get("/v2/models/mixed.decoder/config").json()

        assert config["input"] == [{"name": "input", "data_type": "TYPE_INT64", "dims": [2]}]
        assert decoder["input"] == [{"name": "code", "data_type": "TYPE_FP32", "dims": [3]}]


class TestRepository:
    @pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": false}', b'{"ready": true}'])
    def test_the_index_lists_every_version_and_every_decoder(self, client, body):
        entries = client.post("/v2/repository/index", content=body).json()

        names = {(entry["name"], entry["version"]) for entry in entries}
        assert {("aged", "2"), ("aged", "10"), ("aged.decoder", "9"), ("encoder", "1")} <= names
        assert ("encoder.decoder", "1") not in names
        assert {entry["state"] for entry in entries} == {"READY"}

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"[]", 422),
            (b'{"ready": 1}', 422),
            (b'{"ready": "true"}', 422),
            (b" " * 5000, 413),
        ],
    )
    def test_a_broken_request_for_the_index_is_refused(self, client, body, status):
        answer = client.post("/v2/repository/index", content=body)

        assert answer.status_code == status
        error(answer)

    @pytest.mark.anyio
    async def test_a_request_for_the_index_that_does_not_end_is_504(self, tabular):
        slow = Connection([b'{"ready"'], is_complete=False)
        async with running(tabular, request_timeout_ms=30) as server:
            answer = await server.send("POST", "/v2/repository/index", slow)

        assert answer.status_code == 504
        error(answer)

    @pytest.mark.anyio
    async def test_a_client_that_leaves_during_its_request_harms_nobody(self, tabular):
        left = Connection([b'{"ready"'], is_complete=False)
        async with running(tabular) as server:
            waiting = asyncio.create_task(server.send("POST", "/v2/repository/index", left))
            left.leave()
            await waiting
            answer = await server.send("POST", "/v2/repository/index")

        assert answer.status_code == 200

    @pytest.mark.parametrize("model", ["tabular", "nobody"])
    @pytest.mark.parametrize("what", ["load", "unload"])
    def test_models_are_not_managed_over_http(self, client, model, what):
        answer = client.post(f"/v2/repository/models/{model}/{what}", content=b"{}")

        assert answer.status_code == 403
        assert error(answer) == "this server does not load or unload models over HTTP"
        assert client.get("/v2/models/tabular/ready").status_code == 200

    def test_another_method_is_405(self, client):
        answer = client.get("/v2/repository/index")

        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        error(answer)
