"""The dashboard and the rules: everything that they ask for is there, and every alert is tested."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deploy.grafana.dashboard import FILE, dashboard
from service.metrics import Metrics
from tests.deploy.load import LIMITS, load, write_models
from tests.deploy.prometheus import PROMETHEUS, PROMTOOL, RULES, prometheus, promtool
from tests.e2e.server import process

DOCS = RULES.parents[1] / "docs"
RULE_FILES = ("recording.yml", "alerts.yml")
RULE_TESTS = sorted((RULES / "tests").glob("*.yml"))
PANELS = [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]

# what Prometheus and Grafana put in
INSTEAD = {"__rate_interval": "10s", "__range": "1m", "__interval": "5s", "datasource": "p"}
ELSEWHERE = {"scrape_duration_seconds", "up", "ALERTS"}
NOT_SHOWN = {
    "process_virtual_memory_bytes": "address space that is not used costs nothing",
    "python_gc_objects_collected": "what was collected does not stop anybody, collecting does",
    "python_gc_objects_uncollectable": "always 0 since Python 3.4",
    "python_info": "does not change while a process lives",
}

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")


def expressions() -> list[str]:
    """Everything that the dashboard asks Prometheus for: panels, variables, annotations."""
    board = json.loads(FILE.read_text())
    variables = [each.get("definition", "") for each in board["templating"]["list"]]
    annotations = [each["expr"] for each in board["annotations"]["list"]]
    panels = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [*panels, *annotations, *variables]


def rule_text() -> str:
    text = "\n".join((RULES / name).read_text() for name in RULE_FILES)
    return re.sub(r"#.*|- name: .*", "", text)


def alerts() -> dict[str, str]:
    """The text of each alert by its name."""
    _, *blocks = re.split(r"- alert: ", (RULES / "alerts.yml").read_text())
    return {block.split()[0]: block for block in blocks}


def metric_names(text: str) -> set[str]:
    """Names of metrics in PromQL; the labels' values may look like some."""
    plain = re.sub(r'"[^"]*"', "", text)
    return set(re.findall(r"(?<![\w:])(?:hourglass|process|python|scrape)_\w+(?![\w:])", plain))


def recorded_names(text: str) -> set[str]:
    return set(re.findall(r"\b[a-z]+:[a-z_]+:\w+", text))


def started() -> CollectorRegistry:
    """A registry in which every series has begun."""
    metrics = Metrics(CollectorRegistry())
    metrics.configure("auto")
    metrics.operation("m", "1", "encode")
    metrics.model("m", "1", thresholds={"mse": 1.0})
    metrics.http_responses.take(("/livez", 200))
    placement = {"encode": {"CPUExecutionProvider": 1}}
    metrics.place(
        "m", "1", provider="CPUExecutionProvider", device="cpu", precision="f", nodes=placement
    )
    return metrics.registry


def filled_in(expression: str) -> str:
    """The expression as Grafana sends it, with "All" chosen everywhere."""
    return re.sub(r"\$(\w+)", lambda found: INSTEAD.get(found[1], ".*"), expression)


def test_the_dashboard_file_is_what_its_script_writes():
    assert json.loads(FILE.read_text()) == dashboard()


def test_every_panel_has_a_place_of_its_own():
    board = dashboard()
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_has_a_title_a_unit_and_asks_the_chosen_data_source(panel):
    references = [target["refId"] for target in panel["targets"]]

    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert len(set(references)) == len(references) > 0
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


def test_every_metric_of_the_service_is_shown_or_watched_or_left_out_for_a_reason():
    used = metric_names(rule_text() + "\n".join(expressions()))
    families = {family.name for family in started().collect()}

    endings = ("", "_total", "_bucket", "_sum", "_count")
    unseen = {name for name in families if not any(name + end in used for end in endings)}
    assert unseen == set(NOT_SHOWN)


def test_every_metric_that_is_asked_for_is_on_the_metrics_page():
    page = generate_latest(started()).decode()
    there = set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE))

    asked = metric_names(rule_text() + "\n".join(expressions()))

    assert asked - there - ELSEWHERE == set()


def test_every_edge_of_a_bucket_that_is_asked_for_exists():
    page = generate_latest(started()).decode()

    edges = re.findall(r'_bucket\{[^}]*le="([^"]+)"', rule_text() + "\n".join(expressions()))

    assert edges
    assert all(f'hourglass_request_seconds_bucket{{le="{edge}",model' in page for edge in edges)


def test_every_recorded_series_is_used_and_every_used_one_is_recorded():
    text = rule_text()
    recorded = set(re.findall(r"- record: (\S+)", text))

    used = recorded_names(re.sub(r"- record: .*", "", text) + "\n".join(expressions()))

    assert used == recorded


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on(name):
    text = alerts()[name]
    runbook = (DOCS / "runbook.md").read_text()

    assert re.search(r"severity: (page|ticket)\n", text)
    assert re.search(r"summary: \S", text)
    assert re.search(r"description: \S", text)
    assert f"runbook: docs/runbook.md#{name.lower()}\n" in text
    assert f"\n## {name}\n" in runbook


def test_the_runbook_has_no_section_of_an_alert_that_is_gone():
    sections = re.findall(r"^## (Hourglass\w+)$", (DOCS / "runbook.md").read_text(), re.MULTILINE)

    assert sections == list(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_a_tested_case_in_which_it_fires_and_one_in_which_it_is_silent(name):
    text = "\n".join(path.read_text() for path in RULE_TESTS)

    cases = re.findall(rf"alertname: {name}\n\s+exp_alerts:(.*)\n", text)

    assert {case.strip() for case in cases} == {"", "[]"}


@needs_promtool
def test_promtool_finds_the_configuration_and_the_rules_valid():
    config = promtool("check", "config", "prometheus.yml")
    rules = promtool("check", "rules", "--lint-fatal", *RULE_FILES)

    assert config.returncode == 0, config.stdout + config.stderr
    assert rules.returncode == 0, rules.stdout + rules.stderr


@needs_promtool
@pytest.mark.slow
@pytest.mark.parametrize("path", RULE_TESTS, ids=[path.stem for path in RULE_TESTS])
def test_the_rules_do_what_their_tests_say(path: Path):
    result = promtool("test", "rules", str(path))

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A Prometheus that scrapes a real server, and goes on while that is kept busy."""
    models = write_models(tmp_path_factory.mktemp("watched-models"))
    folder = tmp_path_factory.mktemp("prometheus")
    with process(*LIMITS, models=models) as server:
        with prometheus(server.url.removeprefix("http://"), folder) as watcher, load(server):
            # a rate needs two scrapes, and the load has to be in both
            refused = (
                'rate(hourglass_requests_total{model="slow",outcome=~"rejected|expired"}[10s]) > 0'
            )
            assert len(watcher.wait_for(refused, at_least=2)) == 2
            yield watcher
        server.terminate()
        assert server.wait() == 0


@needs_prometheus
@pytest.mark.slow
def test_every_query_of_the_dashboard_has_data_under_load(watched):
    asked = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

    counts = {
        (title, expression): len(watched.wait_for(filled_in(expression)))
        for title, expression in asked
    }

    for (title, expression), series in counts.items():
        print(f"{title} | {expression} | {series}")  # noqa: T201 - for pytest -s
    assert [panel for panel, series in counts.items() if not series] == []


@needs_prometheus
@pytest.mark.slow
def test_the_variables_offer_what_is_served(watched):
    offered = {}
    for variable in dashboard()["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert found
        offered[variable["name"]] = watched.values_of(found[2], filled_in(found[1]))

    assert offered["model"] == ["slow", "tabular"]
    assert offered["version"] == ["1"]
    assert {"anomaly-score", "decode", "encode", "reconstruct"} <= set(offered["operation"])
    assert len(offered["instance"]) == 1


@needs_prometheus
@pytest.mark.slow
def test_every_recording_rule_gives_series_and_no_rule_fails(watched):
    rules = watched.rules()
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]

    empty = [name for name in recorded if not watched.wait_for(name)]

    assert recorded
    assert empty == []
    assert {
        rule["name"]: rule["lastError"] for rule in watched.rules() if rule.get("lastError")
    } == {}


@needs_prometheus
@pytest.mark.slow
def test_every_route_that_an_alert_names_is_one_that_the_service_counts(watched):
    routes = set(re.findall(r'route="([^"]+)"', rule_text()))

    assert routes <= set(watched.values_of("route", "hourglass_http_responses_total"))


@needs_prometheus
@pytest.mark.slow
def test_the_annotations_are_questions_that_prometheus_understands(watched):
    for annotation in dashboard()["annotations"]["list"]:
        watched.query(filled_in(annotation["expr"]))
