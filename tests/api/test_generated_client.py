"""A client that openapi-python-client makes of the document encodes, scores and reads errors."""

import asyncio
import importlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.api.examples import ANSWERS, MODEL, PROBLEMS, REQUESTS
from tests import tiny
from tests.api import wire
from tests.api.wire import NPY
from tests.e2e import documents
from tests.e2e.server import ROOT, process

NAME = "hourglass_client"
ROW = REQUESTS["encode"]["inputs"][0]
WITHIN_S = 120.0

# bodies that the generator has no code for; the same rows can be sent raw, and pictures as a form
UNSUPPORTED = {NPY, "image/png", "image/jpeg", "image/webp"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    tiny.write_tabular(folder, name=MODEL)
    tiny.write_picture(folder)
    with process("--device", "cpu", models=folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def generated(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))  # no formatting
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    where = ["--config", str(folder / "config.json"), "--output-path", str(folder / NAME)]
    done = subprocess.run(
        [*command, "--url", f"{url}/openapi.json", *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    done.args = folder
    return done


class Package:
    """The generated package, imported for the tests of this module."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))

    def close(self) -> None:
        sys.path.pop(0)
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{NAME}.{name}")

    def model(self, name: str) -> Any:
        return getattr(self.module("models"), name)

    def operation(self, name: str) -> Any:
        return self.module(f"api.operations.{name}")

    def file(self, content: bytes, name: str = "rows.bin") -> Any:
        return self.module("types").File(payload=io.BytesIO(content), file_name=name)


@pytest.fixture(scope="module")
def package(generated: subprocess.CompletedProcess[str]) -> Iterator[Package]:
    made = Package(generated.args)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(package: Package, url: str) -> Iterator[Any]:
    made = package.module("client").Client(base_url=url, raise_on_unexpected_status=True)
    with made as client:
        yield client


def rows_body(package: Package, operation: str) -> Any:
    kinds = {"anomaly-score": "ScoreBody", "encode": "EncodeBody"}
    kind = package.model(kinds.get(operation, "RowsBody"))
    return kind.from_dict(REQUESTS[operation])


def test_the_code_of_the_document_runs(generated, url):
    document = (ROOT / "docs" / "api.md").read_text()
    (code,) = (code for code in documents.python(document) if NAME in code)
    # the model has fewer features here
    there = code.replace(documents.SHOWN_URL, url).replace("784", str(len(ROW)))
    there = there.replace("mnist-conv", MODEL)

    done = subprocess.run(
        [sys.executable, "-c", there],
        cwd=generated.args,
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(r"\[[0-9.e-]+\]\n", done.stdout)


def test_the_generator_warns_of_nothing_but_bodies_that_it_never_makes(generated):
    skipped = re.findall(r"^Unsupported content type (\S+)", generated.stdout, re.MULTILINE)

    assert {*skipped} == UNSUPPORTED
    assert generated.stdout.count("WARNING") == len(skipped)


@pytest.mark.parametrize(
    ("operation", "function", "answer"),
    [
        ("encode", "encode", "CodesAnswer"),
        ("decode", "decode", "ReconstructionsAnswer"),
        ("reconstruct", "reconstruct", "ReconstructionsAnswer"),
        ("anomaly-score", "anomaly_score", "ScoresAnswer"),
    ],
)
def test_every_operation_takes_a_typed_body_and_gives_a_typed_answer(
    package, client, operation, function, answer
):
    given = package.operation(function).sync(
        MODEL, client=client, body=rows_body(package, operation)
    )

    assert isinstance(given, package.model(answer))
    assert given.to_dict().keys() == ANSWERS[operation].keys()
    assert given.model == MODEL


def test_scores_are_plain_attributes(package, client):
    body = package.model("ScoreBody")(
        inputs=REQUESTS["anomaly-score"]["inputs"], false_positive_rate=0.05
    )

    answer = package.operation("anomaly_score").sync(MODEL, client=client, body=body)

    assert answer.anomalies == [False, True]
    assert answer.scores == pytest.approx(ANSWERS["anomaly-score"]["scores"])
    assert not answer.feature_errors


def test_an_option_may_stand_in_the_query(package, client):
    body = package.model("ScoreBody")(inputs=[[0.25, 0.5, 0.0, 0.125]])

    answer = package.operation("anomaly_score").sync(
        MODEL, client=client, body=body, threshold=0.001
    )

    assert (answer.threshold, answer.anomalies) == (0.001, [True])


def test_a_version_may_be_named(package, client):
    answer = package.operation("encode_version").sync(
        MODEL, "1", client=client, body=rows_body(package, "encode")
    )

    assert (answer.version, answer.codes) == ("1", ANSWERS["encode"]["codes"])


def test_rows_go_as_raw_bytes_too(package, client):
    rows = np.array(REQUESTS["encode"]["inputs"], np.float32)

    answer = package.operation("encode").sync(
        MODEL, client=client, body=package.file(rows.tobytes()), x_shape="2,4"
    )

    assert answer.codes == ANSWERS["encode"]["codes"]


def test_pictures_go_as_a_form(package, client):
    pictures = [wire.picture(np.full((4, 4), level, np.uint8)) for level in (0, 255)]
    form = package.model("PictureForm")(file=[package.file(data, "p.png") for data in pictures])

    answer = package.operation("encode").sync("picture", client=client, body=form)

    assert np.asarray(answer.codes)[:, 0, 0, 0].tolist() == [0.0, 0.5]


def test_the_answer_may_be_an_array(package, client):
    """The generator knows only the first format of an answer; the others come as their bytes."""
    kwargs = package.operation("encode")._get_kwargs(MODEL, body=rows_body(package, "encode"))
    kwargs["headers"]["Accept"] = NPY

    answer = client.get_httpx_client().request(**kwargs)

    codes = np.load(io.BytesIO(answer.content))
    np.testing.assert_array_equal(codes, np.asarray(ANSWERS["encode"]["codes"], np.float32))


def test_an_error_is_a_typed_problem_with_all_its_faults(package, client):
    body = package.model("EncodeBody")(inputs=[[0, 0, 0, 0], [0, 0, 0, 2], [0] * 4, [-1, 0, 0, 0]])

    answer = package.operation("encode").sync_detailed(MODEL, client=client, body=body)

    assert answer.status_code == 422
    problem = answer.parsed
    assert isinstance(problem, package.model("ProblemDetails"))
    assert (problem.detail, problem.row) == (PROBLEMS[422]["detail"], 1)
    assert [(fault.row, fault.received) for fault in problem.faults] == [
        (1, "a larger value"),
        (3, "a smaller value"),
    ]


def test_the_asynchronous_functions_work_too(package, url):
    async def encode() -> Any:
        async with package.module("client").Client(base_url=url) as client:
            return await package.operation("encode").asyncio(
                MODEL, client=client, body=rows_body(package, "encode")
            )

    assert asyncio.run(encode()).codes == ANSWERS["encode"]["codes"]


def test_models_cards_and_health_are_typed(package, client):
    models = package.module("api.models.list_models").sync(client=client)
    card = package.module("api.models.show_model").sync(MODEL, client=client)
    live = package.module("api.system.live").sync(client=client)
    metrics = package.module("api.system.metrics").sync(client=client)

    assert [model.name for model in models.models] == ["picture", MODEL]
    assert (card.input_.shape, card.code.shape) == ([4], [2])
    assert live.status == "ok"
    assert "hourglass_rows_total" in metrics
