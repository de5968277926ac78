"""What the documents promise is there, and what is there is in the documents."""

import argparse
import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.api.errors import STATUS
from service.api.examples import PROBLEMS
from service.api.schemas import Fault, ProblemDetails
from service.cli import _parser
from service.inference import operations
from service.keys import SCOPES
from service.metrics import CUTS, OUTCOMES, REASONS, Metrics
from service.settings import ENVIRONMENT_PREFIX, Settings

DOCS = Path(__file__).parents[2] / "docs"

# "hourglass_" and a counter's "_total", as a client sees them
METRICS = sorted(
    f"{family.name}_total" if family.type == "counter" else family.name
    for family in Metrics(CollectorRegistry()).registry.collect()
    if family.name.startswith("hourglass_")
)


@pytest.fixture(scope="module")
def operating():
    return (DOCS / "operating.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands():
    return (DOCS / "commands.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def api():
    return (DOCS / "api.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_table_with_its_flag_and_default(operating, name):
    variable, flag = ENVIRONMENT_PREFIX + name.upper(), "--" + name.replace("_", "-")

    found = [row for row in rows(operating) if row[0] == f"`{variable}`"]
    assert len(found) == 1
    assert found[0][1] == f"`{flag}`"
    assert found[0][2] in {f"`{shown(name)}`", "all found"}
    assert found[0][3]


def shown(name: str) -> str:
    default = Settings.model_fields[name].default
    return str(default).lower() if isinstance(default, bool | None) else str(default)


def test_the_table_names_no_setting_that_there_is_not(operating):
    named = {row[0].strip("`") for row in rows(operating) if ENVIRONMENT_PREFIX in row[0]}

    assert named == {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_in_the_table(operating, name):
    assert [row[0] for row in rows(operating)].count(f"`{name}`") == 1


def test_the_table_names_no_metric_that_there_is_not(operating):
    named = {row[0].strip("`") for row in rows(operating) if row[0].startswith("`hourglass_")}

    assert named == set(METRICS)


@pytest.mark.parametrize("word", [*OUTCOMES, *REASONS, *CUTS])
def test_every_outcome_and_reason_is_explained(operating, word):
    told = " ".join(row[2] for row in rows(operating) if len(row) > 2 and "counter" in row[1])

    assert re.search(rf"\b{word}\b", told)


@pytest.mark.parametrize("status", sorted({405, *STATUS.values()} - {499}))
def test_every_status_is_in_the_table_of_errors(api, status):
    told = [row[0] for row in rows(api)]

    assert any(re.search(rf"\b{status}\b", cell) for cell in told)


@pytest.mark.parametrize("status", PROBLEMS)
def test_what_is_said_with_a_status_is_what_the_example_says(api, status):
    problem = PROBLEMS[status]
    said = [problem["detail"], problem.get("expected", ""), problem.get("received", "")]

    assert [str(status), *said] in [[*row, "", ""][:4] for row in rows(api)]


def test_the_problem_in_the_documents_is_the_example(api):
    problems = [text for text in re.findall(r"```json\n(.*?)```", api, re.DOTALL) if "urn:" in text]

    assert [json.loads(text) for text in problems] == [PROBLEMS[422]]


@pytest.mark.parametrize("field", sorted({*Fault.model_fields, *ProblemDetails.model_fields}))
def test_every_field_of_a_problem_is_explained(api, field):
    assert any(f"`{field}`" in row[0] for row in rows(api))


@pytest.mark.parametrize("operation", operations.ALL)
def test_every_operation_is_in_the_documents(api, operation):
    assert f"`{operation}`" in [row[0] for row in rows(api)]


@pytest.mark.parametrize(
    "header",
    [
        *("X-Request-ID", "X-Request-Timeout-Ms", "Server-Timing", "X-Model-Version"),
        *("X-Shape", "X-Dtype", "X-Metric", "X-Threshold", "Retry-After"),
        *("Inference-Header-Content-Length", "X-API-Key"),
    ],
)
def test_every_header_is_in_the_documents(api, header):
    assert f"`{header}" in api


@pytest.mark.parametrize(
    "path",
    [
        *("GET /v2", "/v2/health/live", "/v2/health/ready", "GET /v2/models/{model}"),
        *("/ready", "/config", "/stats", "POST /v2/models/{model}/infer"),
        *("POST /v2/repository/index", "POST /v2/repository/models/{model}/load", "/unload"),
    ],
)
def test_every_path_of_the_open_inference_protocol_is_in_the_documents(api, path):
    assert path in api


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_every_path_of_the_system_is_in_the_documents(api, path):
    assert path in api


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_of_a_key_is_explained(operating, scope):
    assert [row[0] for row in rows(operating)].count(f"`{scope}`") == 1


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command of the command line."""
    actions = _parser()._actions
    (found,) = (each for each in actions if isinstance(each, argparse._SubParsersAction))
    return dict(found.choices)


def test_the_page_of_commands_names_every_command_and_no_other(commands):
    named = {match[1] for row in rows(commands) if (match := re.match(r"`hourglass (.*)`", row[0]))}

    assert named == parsers().keys()


@pytest.mark.parametrize("command", ["score", "encode", "reconstruct", "calibrate", "bench"])
def test_every_flag_of_the_offline_commands_that_is_no_setting_is_explained(commands, command):
    flags = {
        option
        for action in parsers()[command]._actions
        for option in action.option_strings
        if option.startswith("--") and action.dest not in {*Settings.model_fields, "help"}
    }

    told = {flag for flag in flags if re.search(rf"{flag}\b", commands)}
    assert told == flags
