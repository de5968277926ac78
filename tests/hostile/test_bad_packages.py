"""Bad packages: each is named with the right reason, and the good ones beside them are served."""

import json
import re
import time

import pytest

from service.assembly import Engine, assemble
from service.cli import main
from service.commands.console import EXIT_FAULT
from service.errors import PackageError
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.repository.packages import read_package
from tests import tiny
from tests.e2e.server import START_WITHIN_S, process
from tests.hostile.bad import ALL, GREEDY, write_all

GOOD = ("a-good", "z-good")


def wait_for(server, message):
    """Wait until the server has logged a message."""
    deadline = time.monotonic() + 2 * START_WITHIN_S
    while message not in [line["message"] for line in server.lines]:
        assert time.monotonic() < deadline, server.lines
        time.sleep(0.01)


@pytest.fixture
def engine(lanes, metrics):
    return Engine(device=Device(), lanes=lanes, make_session=OrtSession, metrics=metrics)


@pytest.mark.parametrize("way", ALL)
def test_a_bad_package_is_refused_for_what_is_wrong_with_it(tmp_path, engine, way):
    location = tiny.write_tabular(tmp_path / "models", name=way)
    ALL[way].spoil(location.folder)

    with pytest.raises(PackageError) as caught:
        assemble(read_package(location), engine)

    reason = str(caught.value)
    assert re.match(ALL[way].reason, reason)
    assert len(reason) < 160
    # neither where it lies nor what our code calls things
    assert str(tmp_path) not in reason
    assert not re.search("[a-z]{2}[A-Z][a-z]", reason)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A package bad in each way, and two good ones: the first and the last by name."""
    models = tmp_path_factory.mktemp("bad") / "models"
    write_all(models, ALL)
    for name in GOOD:
        tiny.write_tabular(models, name=name)
    (models / "linked-model").symlink_to(models / "a-good")
    return models


def test_the_command_names_every_bad_package_and_ends_with_1(capsys, repository):
    status = main(["check", str(repository), "--device", "cpu", "--json"])

    told = {line["model"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert status == EXIT_FAULT
    assert set(told) == {*ALL, *GOOD, "linked-model"}
    assert {name for name, line in told.items() if line["ok"]} == set(GOOD)
    assert told["linked-model"]["reason"] == "the folder is a link"
    for name, way in ALL.items():
        assert re.match(way.reason, told[name]["reason"]), name


@pytest.mark.slow
def test_the_server_leaves_every_bad_package_out_loudly_and_serves_the_good_ones(repository):
    with process(models=repository, ready=False) as server, server.client() as client:
        wait_for(server, "not ready")
        not_ready = client.get("/readyz")
        listed = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
        answers = [
            client.post(f"/v1/models/{name}/encode", json={"inputs": [[0, 0.5, 0.25, 1]]})
            for name in GOOD
        ]
        refused = client.post("/v1/models/truncated/encode", json={"inputs": [[0, 0, 0, 0]]})
        server.terminate()
        status = server.wait()

    assert [answer.json()["codes"] for answer in answers] == [[[0, 0.5]]] * len(GOOD)
    assert not_ready.status_code == 503
    assert refused.status_code == 503
    assert status == 0
    logged = [line["message"] for line in server.lines if line["level"] == "error"]
    for name, way in ALL.items():
        assert f"{name}/1" in not_ready.text
        assert [m for m in logged if re.match(f"model {name}/1 is left out: {way.reason}", m)], name
    assert "linked-model" in not_ready.text
    assert "linked-model" not in listed
    assert set(GOOD) <= set(listed)


@pytest.mark.slow
def test_a_package_that_is_greedy_costs_its_own_line_only(capsys, tmp_path):
    write_all(tmp_path / "models", GREEDY)
    for name in GOOD:
        tiny.write_tabular(tmp_path / "models", name=name)

    limits = ["--memory-mib", "256", "--timeout-s", "4"]
    status = main(["check", str(tmp_path / "models"), "--device", "cpu", *limits])

    first, *greedy, last = capsys.readouterr().out.splitlines()
    assert status == EXIT_FAULT
    assert [line.split()[1] for line in (first, last)] == ["ok", "ok"]
    for line, (name, way) in zip(greedy, sorted(GREEDY.items()), strict=True):
        assert re.fullmatch(rf"{name}/1  BAD  {way.reason}.*", line)


@pytest.mark.slow
def test_a_package_that_never_ends_keeps_no_server_from_serving_the_others(tmp_path):
    write_all(tmp_path / "models", {"never-ends": GREEDY["never-ends"]})
    for name in GOOD:
        tiny.write_tabular(tmp_path / "models", name=name)
    limit = ["--load-timeout-ms", "2000"]

    with process(*limit, models=tmp_path / "models", ready=False) as server:
        wait_for(server, "not ready")
        with server.client() as client:
            ready = [client.get(f"/v1/models/{name}").status_code for name in GOOD]
            said = client.get("/readyz").text
        server.terminate()
        status = server.wait()

    assert ready == [200, 200]
    assert "never-ends/1" in said
    assert status == 0
    errors = [line["message"] for line in server.lines if line["level"] == "error"]
    assert errors == ["model never-ends/1 is left out: it was not loaded within 2 s"]
