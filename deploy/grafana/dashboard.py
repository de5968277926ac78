"""Writes ``dashboards/hourglass.json``, the dashboard that Grafana loads.

Run it after a change: ``python deploy/grafana/dashboard.py``. A panel here is its title, its
queries and what is special about it; the JSON repeats everything else thirty times.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
# a query and its legend
Query: TypeAlias = tuple[str, str]

FILE: Final = Path(__file__).parent / "dashboards" / "hourglass.json"
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24

MODEL: Final = 'instance=~"$instance",model=~"$model",version=~"$version"'
OPERATION: Final = f'{MODEL},operation=~"$operation"'
PROCESS: Final = 'job="hourglass",instance=~"$instance"'
ANSWERED: Final = 'outcome=~"ok|rejected|expired|failed|unavailable"'
UNANSWERED: Final = 'outcome=~"rejected|expired|failed|unavailable"'
PHASES: Final = ("request", "parse", "queue", "infer", "render")
# the least serious first, as it is stacked
OUTCOMES: Final = {
    "ok": "green",
    "invalid": "blue",
    "client_gone": "purple",
    "rejected": "yellow",
    "expired": "orange",
    "failed": "red",
    "unavailable": "dark-red",
}
SPLIT: Final = "{{model}}/{{version}} {{operation}}"


def dashboard() -> Json:
    """Put the rows of panels below each other and add the variables."""
    return {
        "annotations": {"list": _annotations()},
        "description": "Traffic, latency, batches, scores and placement of autoencoders.",
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": list(_laid_out()),
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["hourglass"],
        "templating": {"list": _variables()},
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": "Hourglass",
        "uid": "hourglass",
        "version": 1,
        "weekStart": "",
    }


def _laid_out() -> Iterator[Json]:
    """Give every panel its place: side by side, a new line when one does not fit any more."""
    number, top = 0, 0
    for title, panels in _rows().items():
        number += 1
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {
            "collapsed": False,
            "gridPos": place,
            "id": number,
            "panels": [],
            "title": title,
            "type": "row",
        }
        left, top, height = 0, top + 1, 0
        for panel in panels:
            number += 1
            width = panel["gridPos"]["w"]
            if left + width > COLUMNS:
                left, top, height = 0, top + height, 0
            height = max(height, panel["gridPos"]["h"])
            yield {**panel, "id": number, "gridPos": {**panel["gridPos"], "x": left, "y": top}}
            left += width
        top += height


def _rows() -> dict[str, list[Json]]:
    return {
        "Now": _now(),
        "Traffic and outcomes": _traffic(),
        "Latency": _latency(),
        "Batches and queues": _batches(),
        "Scores and anomalies": _scores(),
        "Placement": _placement(),
        "Process": _process(),
    }


def _now() -> list[Json]:
    requests = f"hourglass_requests_total{{{OPERATION}"
    return [
        _stat(
            "Alerts firing",
            'count(ALERTS{alertname=~"Hourglass.+",alertstate="firing"}) or vector(0)',
            steps=[("green", None), ("red", 1)],
            about="What each one means and what to do: docs/runbook.md.",
        ),
        _stat(
            "Versions ready",
            f"sum(hourglass_model_ready{{{MODEL}}})",
            steps=[("red", None), ("green", 1)],
        ),
        _stat("Requests", f"sum(rate({requests}}}[$__rate_interval]))", unit="reqps"),
        _stat(
            "Answered",
            f"1 - sum(rate({requests},{UNANSWERED}}}[$__range]))"
            f" / (sum(rate({requests},{ANSWERED}}}[$__range])) > 0)",
            unit="percentunit",
            decimals=3,
            steps=[("red", None), ("green", 0.999)],
            about="Share of the well-formed requests that got an answer, over the time shown."
            " The objective is 99.9 %.",
        ),
        _stat(
            "Within 0.5 s",
            f'sum(rate(hourglass_request_seconds_bucket{{{OPERATION},le="0.5"}}[$__range]))'
            f" / (sum(rate(hourglass_request_seconds_count{{{OPERATION}}}[$__range])) > 0)",
            unit="percentunit",
            decimals=2,
            steps=[("red", None), ("green", 0.99)],
            about="Over the time shown. The objective is 99 %.",
        ),
        _stat(
            "Fullest queue",
            f"max(operation:hourglass_queue:fill_ratio{{{OPERATION}}})",
            unit="percentunit",
            steps=[("green", None), ("orange", 0.5), ("red", 0.8)],
        ),
        _stat(
            "Anomalies in the last hour",
            'max(version:hourglass_anomalies:share_rate1h{model=~"$model",version=~"$version"})',
            unit="percentunit",
            decimals=2,
            about="Share of the scored rows over the default threshold; the version with the most.",
        ),
        _stat(
            "Shortest uptime",
            f"min(time() - process_start_time_seconds{{{PROCESS}}})",
            unit="s",
        ),
    ]


def _traffic() -> list[Json]:
    requests = f"hourglass_requests_total{{{OPERATION}}}[$__rate_interval]"
    colours = [_coloured(name, colour) for name, colour in OUTCOMES.items()]
    return [
        _series(
            "Requests by outcome",
            [(f"sum by (outcome) (rate({requests}))", "{{outcome}}")],
            unit="reqps",
            stacked=True,
            overrides=colours,
            about="Invalid is the client's fault. Rejected means a full queue, expired a deadline"
            " that passed, unavailable a model that is loading or gone.",
        ),
        _series(
            "Requests by operation",
            [(f"sum by (model, version, operation) (rate({requests}))", SPLIT)],
            unit="reqps",
        ),
        _series(
            "Rows by model",
            [
                (
                    "sum by (model, version) "
                    f"(rate(hourglass_rows_total{{{OPERATION}}}[$__rate_interval]))",
                    "{{model}}/{{version}}",
                )
            ],
            unit="rows/s",
        ),
        _series(
            "HTTP answers by route and status",
            [
                (
                    "sum by (route, status) (rate("
                    'hourglass_http_responses_total{instance=~"$instance"}[$__rate_interval]))',
                    "{{status}} {{route}}",
                )
            ],
            unit="reqps",
            about="Everything, health and metrics included, also what asked for unknown models.",
        ),
        _series(
            "Burn rate of the budget for failures",
            [
                (f'model:hourglass_requests:error_ratio_rate{window}{{model=~"$model"}} / 0.001',
                 f"{{{{model}}}} {window}")
                for window in ("1h", "6h", "3d")
            ],
            steps=[("green", None), ("orange", 1), ("red", 14.4)],
            about="1 spends exactly the 0.1 % of 30 days. 14.4 for an hour or 6 for six hours calls"
            " somebody.",
        ),
        _series(
            "Burn rate of the budget for slowness",
            [
                (f'model:hourglass_requests:slow_ratio_rate{window}{{model=~"$model"}} / 0.01',
                 f"{{{{model}}}} {window}")
                for window in ("1h", "6h", "3d")
            ],
            steps=[("green", None), ("orange", 1), ("red", 14.4)],
            about="1 spends exactly the 1 % of 30 days that may take more than 0.5 s.",
        ),
    ]  # fmt: skip


def _latency() -> list[Json]:
    quantiles = [
        _series(
            f"p{round(100 * quantile)} by phase",
            [(_quantile(quantile, f"hourglass_{phase}_seconds", OPERATION), phase)
             for phase in PHASES],
            unit="s",
            log=True,
            about="request is all requests from their first byte; its phases are those of answered"
            " ones: body read and parsed, waiting for a run, running, answer rendered.",
        )
        for quantile in (0.5, 0.95, 0.99)
    ]  # fmt: skip
    return [
        *quantiles,
        _heat(
            "Requests by duration",
            f"sum by (le) (increase(hourglass_request_seconds_bucket{{{OPERATION}}}"
            "[$__rate_interval]))",
            unit="s",
        ),
        _series(
            "Where the time of a mean request goes",
            [
                (
                    f"sum(rate(hourglass_{phase}_seconds_sum{{{OPERATION}}}[$__rate_interval]))"
                    f" / (sum(rate(hourglass_{phase}_seconds_count{{{OPERATION}}}"
                    "[$__rate_interval])) > 0)",
                    phase,
                )
                for phase in PHASES[1:]
            ],
            unit="s",
            stacked=True,
        ),
        _series(
            "p99 by operation",
            [
                (
                    "histogram_quantile(0.99, sum by (le, model, version, operation) (rate("
                    f"hourglass_request_seconds_bucket{{{OPERATION}}}[$__rate_interval])))",
                    SPLIT,
                )
            ],
            unit="s",
            log=True,
        ),
    ]


def _batches() -> list[Json]:
    return [
        _heat(
            "Batches by rows",
            f"sum by (le) (increase(hourglass_batch_rows_bucket{{{OPERATION}}}[$__rate_interval]))",
            unit="rows",
        ),
        _series(
            "Rows in a batch",
            [
                (
                    "sum by (model, version, operation) (rate("
                    f"hourglass_batch_rows_sum{{{OPERATION}}}[$__rate_interval]))"
                    " / (sum by (model, version, operation) (rate("
                    f"hourglass_batch_rows_count{{{OPERATION}}}[$__rate_interval])) > 0)",
                    SPLIT,
                )
            ],
            unit="rows",
            about="The mean. It grows with the load by itself: batches form while a run is on.",
        ),
        _series(
            "Why batches went",
            [
                (
                    "sum by (reason) "
                    f"(rate(hourglass_batches_total{{{OPERATION}}}[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            unit="batches/s",
            stacked=True,
            about="full: no room for more. idle: the device was free. delay: the time to wait for"
            " company was over. drain: the server stops. Mostly full means a busy device.",
        ),
        _series(
            "Rows waiting",
            [
                (
                    f"sum by (model, version, operation) (hourglass_queue_rows{{{OPERATION}}})",
                    SPLIT,
                ),
                (f"max(hourglass_queue_limit_rows{{{OPERATION}}})", "limit of one queue"),
            ],
            unit="rows",
            overrides=[_coloured("limit of one queue", "red")],
        ),
        _series(
            "How full the queues are",
            [
                (
                    "max by (model, version, operation) "
                    f"(operation:hourglass_queue:fill_ratio{{{OPERATION}}})",
                    SPLIT,
                )
            ],
            unit="percentunit",
            steps=[("green", None), ("orange", 0.5), ("red", 0.8)],
        ),
        _series(
            "Requests turned away",
            [
                (
                    "sum by (model, outcome) (rate(hourglass_requests_total{"
                    f'{OPERATION},outcome=~"rejected|expired"}}[$__rate_interval]))',
                    "{{model}} {{outcome}}",
                )
            ],
            unit="reqps",
        ),
    ]


def _scores() -> list[Json]:
    ratio = "hourglass_anomaly_score_ratio"
    recorded = 'model=~"$model",version=~"$version"'
    return [
        _heat(
            "Scores divided by the threshold",
            f"sum by (le) (increase({ratio}_bucket{{{MODEL}}}[$__rate_interval]))",
            unit="none",
            about="Above 1 a row is an anomaly. Choose one model: shapes of several mix.",
        ),
        _series(
            "Share of anomalies",
            [
                (
                    "sum by (model, version) "
                    f"(rate(hourglass_anomalies_total{{{MODEL}}}[$__rate_interval])) / "
                    f"(sum by (model, version) (rate({ratio}_count{{{MODEL}}}[$__rate_interval]))"
                    " > 0)",
                    "{{model}}/{{version}}",
                ),
                (
                    f"version:hourglass_anomalies:share_rate1h{{{recorded}}}",
                    "{{model}}/{{version}} hour",
                ),
                (
                    f"version:hourglass_anomalies:share_rate1d{{{recorded}}}",
                    "{{model}}/{{version}} day",
                ),
            ],
            unit="percentunit",
            about="By the default threshold, whatever the clients asked for. On normal data it is"
            " the false positive rate that the threshold was calibrated for.",
        ),
        _series(
            "Distribution of the score ratio",
            [
                (
                    f"histogram_quantile({quantile}, sum by (le, model, version) (rate("
                    f"{ratio}_bucket{{{MODEL}}}[$__rate_interval])))",
                    f"{{{{model}}}}/{{{{version}}}} p{round(100 * quantile)}",
                )
                for quantile in (0.5, 0.95, 0.99)
            ],
            unit="none",
            log=True,
        ),
        _series(
            "Shift of the scores, hour against day",
            [(f"version:{ratio}:shift_1h_1d{{{recorded}}}", "{{model}}/{{version}}")],
            unit="percentunit",
            steps=[("green", None), ("red", 0.2)],
            about="Largest difference of the two cumulative distributions. It also rises when rows"
            " become too easy to draw, as those of a blind camera.",
        ),
        _series(
            "Share of rows that are not of the model's kind",
            [
                (
                    "sum by (model, version) "
                    f'(rate(hourglass_domain_rows_total{{{MODEL},domain="out"}}'
                    "[$__rate_interval])) / (sum by (model, version) "
                    f"(rate(hourglass_domain_rows_total{{{MODEL}}}[$__rate_interval])) > 0)",
                    "{{model}}/{{version}}",
                )
            ],
            unit="percentunit",
            about="Of the rows that the domain guard looked at: those of requests that asked, or"
            " all with HOURGLASS_DOMAIN_GUARD=always. On rows of its kind it is 1 %.",
        ),
    ]


def _placement() -> list[Json]:
    return [
        _table(
            "Where the versions run",
            [
                f"sum by (instance, model, version, provider, device, precision) "
                f"(hourglass_model_info{{{MODEL}}})"
            ],
            about="Read from the sessions after they were made, not from the settings.",
        ),
        _table(
            "What the settings ask for",
            ['sum by (instance, device) (hourglass_configured_device_info{instance=~"$instance"})'],
            width=8,
        ),
        _table(
            "Graph nodes by execution provider",
            [
                "max by (instance, model, version, operation, provider) "
                f"(hourglass_graph_nodes{{{OPERATION}}})"
            ],
            width=16,
            value="nodes",
            about="On a GPU a few nodes that compute shapes stay on the CPU. Many mean copies back"
            " and forth.",
        ),
        _series(
            "Servers that serve a version",
            [
                (
                    f"sum by (model, version) (hourglass_model_ready{{{MODEL}}})",
                    "{{model}}/{{version}}",
                )
            ],
        ),
    ]


def _process() -> list[Json]:
    return [
        _series(
            "Memory",
            [(f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}")],
            unit="bytes",
            about="Resident. GPU memory is not in it.",
        ),
        _series(
            "CPU",
            [(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", "{{instance}}")],
            unit="cores",
        ),
        _series(
            "Open files and connections",
            [
                (f"process_open_fds{{{PROCESS}}}", "{{instance}} files"),
                (f"hourglass_connections{{{PROCESS}}}", "{{instance}} connections"),
                (f"min(process_max_fds{{{PROCESS}}})", "limit"),
            ],
            log=True,
            overrides=[_coloured("limit", "red")],
        ),
        _series(
            "Connections cut",
            [
                (
                    "sum by (reason) "
                    f"(rate(hourglass_connections_cut_total{{{PROCESS}}}[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            unit="ops",
            about="Heads and bodies that did not come, answers that nobody read, crowds.",
        ),
        _series(
            "Garbage collections",
            [
                (
                    "sum by (instance, generation) "
                    f"(rate(python_gc_collections_total{{{PROCESS}}}[$__rate_interval]))",
                    "{{instance}} generation {{generation}}",
                )
            ],
            unit="ops",
            about="They stop the event loop; the oldest generation takes longest.",
        ),
        _series(
            "Scrapes",
            [(f"scrape_duration_seconds{{{PROCESS}}}", "{{instance}}")],
            unit="s",
            about="A server whose event loop is held up answers Prometheus late, too.",
        ),
        _series(
            "Uptime",
            [(f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}")],
            unit="s",
        ),
    ]


def _quantile(quantile: float, name: str, labels: str) -> str:
    return (
        f"histogram_quantile({quantile}, "
        f"sum by (le) (rate({name}_bucket{{{labels}}}[$__rate_interval])))"
    )


def _stat(
    title: str,
    query: str,
    *,
    unit: str = "none",
    decimals: int | None = None,
    steps: Sequence[tuple[str, float | None]] = (("text", None),),
    about: str = "",
) -> Json:
    panel = _panel("stat", title, [(query, "")], unit=unit, steps=steps, about=about, size=(3, 4))
    if decimals is not None:
        panel["fieldConfig"]["defaults"]["decimals"] = decimals
    panel["options"] = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    return panel


def _series(
    title: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    stacked: bool = False,
    log: bool = False,
    steps: Sequence[tuple[str, float | None]] = (),
    overrides: Sequence[Json] = (),
    about: str = "",
) -> Json:
    panel = _panel(
        "timeseries",
        title,
        queries,
        unit=unit,
        steps=steps or [("green", None)],
        about=about,
        size=(8, 8),
    )
    defaults = panel["fieldConfig"]["defaults"]
    defaults["color"] = {"mode": "palette-classic"}
    if not log:
        defaults["min"] = 0
    defaults["custom"] = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 0,
        "lineWidth": 1,
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    panel["fieldConfig"]["overrides"] = list(overrides)
    panel["options"] = {
        "legend": {
            "calcs": ["lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def _heat(title: str, query: str, *, unit: str, about: str = "") -> Json:
    panel = _panel("heatmap", title, [(query, "{{le}}")], unit=unit, about=about, size=(8, 8))
    panel["targets"][0]["format"] = "heatmap"
    panel["options"] = {
        # the buckets are those of the histogram, each up to its edge
        "calculate": False,
        "rowsFrame": {"layout": "le"},
        "cellGap": 1,
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Spectral",
            "steps": 64,
        },
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    return panel


def _table(
    title: str, queries: Sequence[str], *, width: int = 16, value: str = "", about: str = ""
) -> Json:
    panel = _panel("table", title, [(query, "") for query in queries], about=about, size=(width, 8))
    for target in panel["targets"]:
        target |= {"format": "table", "instant": True, "range": False}
    panel["options"] = {"cellHeight": "sm", "showHeader": True}
    hidden = {"Time": True} | ({} if value else {"Value": True})
    panel["transformations"] = [
        {
            "id": "organize",
            "options": {"excludeByName": hidden, "renameByName": {"Value": value}},
        }
    ]
    return panel


def _panel(
    kind: str,
    title: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    unit: str = "short",
    steps: Sequence[tuple[str, float | None]] = (("green", None),),
    about: str = "",
) -> Json:
    thresholds = [{"color": colour, "value": value} for colour, value in steps]
    return {
        "datasource": DATASOURCE,
        "description": about,
        "fieldConfig": {
            "defaults": {
                "thresholds": {"mode": "absolute", "steps": thresholds},
                "unit": _unit(unit),
            },
            "overrides": [],
        },
        "gridPos": {"h": size[1], "w": size[0]},
        "targets": [
            {
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query,
                "legendFormat": legend,
                "range": True,
                "refId": chr(ord("A") + place),
            }
            for place, (query, legend) in enumerate(queries)
        ],
        "title": title,
        "type": kind,
    }


def _unit(unit: str) -> str:
    """Units that Grafana does not know are written behind the number."""
    known = {"none", "short", "s", "bytes", "reqps", "ops", "percentunit"}
    return unit if unit in known else f"suffix: {unit}"


def _coloured(series: str, colour: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": series},
        "properties": [{"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}}],
    }


def _variables() -> list[Json]:
    source: Json = {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }
    return [
        source,
        _variable("instance", "Server", 'up{job="hourglass"}'),
        _variable("model", "Model", "hourglass_requests_total"),
        _variable("version", "Version", 'hourglass_requests_total{model=~"$model"}'),
        _variable(
            "operation",
            "Operation",
            'hourglass_requests_total{model=~"$model",version=~"$version"}',
        ),
    ]


def _variable(name: str, label: str, series: str) -> Json:
    query = f"label_values({series}, {name})"
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": "Variable"},
        # as often as the time range changes
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


def _annotations() -> list[Json]:
    return [
        _annotation(
            "Restarts",
            "blue",
            f"changes(process_start_time_seconds{{{PROCESS}}}[$__interval]) > 0",
            "{{instance}} restarted",
        ),
        _annotation(
            "Alerts",
            "red",
            'ALERTS{alertname=~"Hourglass.+",alertstate="firing"}',
            "{{alertname}} {{model}} {{instance}}",
        ),
    ]


def _annotation(name: str, colour: str, query: str, title: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": query,
        "iconColor": colour,
        "name": name,
        "titleFormat": title,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=2) + "\n")
