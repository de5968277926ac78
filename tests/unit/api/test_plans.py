"""Plans: kept by what the head says, and forgotten when the models change."""

from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from service.api.inputs import Body
from service.api.options import Options
from service.api.plans import Plan, Plans, Route, Wish, route_of
from service.assembly import LiveModel
from service.bodies.negotiation import JSON, NPY, RAW
from service.metrics import Metrics
from service.settings import Settings
from service.specs import ImageSpec, TensorSpec

SPEC = TensorSpec("float32", (1, 4, 4), (0, 1), ImageSpec())
CHANGES = 3


Head = tuple[dict[str, Any], dict[bytes, bytes]]


def head(
    path: str = "/v1/models/m/encode", query: bytes = b"", content_type: str = JSON, **headers: str
) -> Head:
    """A scope and its headers; underscores in the names of headers stand for hyphens."""
    sent = {"content-type": content_type}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {"path": path, "query_string": query}
    return scope, {name.encode(): value.encode() for name, value in sent.items()}


def plan_of(headers: dict[bytes, bytes]) -> Plan:
    return Plan(
        template="/v1/models/{model}/encode",
        model=("m", "1"),
        metrics=Metrics(CollectorRegistry()).operation("m", "1", "encode"),
        version_header=(b"x-model-version", b"1"),
        operation="encode",
        queue="encode",
        live=cast("LiveModel", object()),  # kept and never looked at
        body=Body(headers, SPEC, Settings(models=Path("models"))),
        media=JSON,
        compress_from=None,
        query={},
        wish=Wish(Options(), None),
        guards=False,
    )


def find(plans: Plans, what: Head, changes: int = CHANGES) -> Plan | None:
    scope, headers = what
    return plans.find(scope, headers, changes)


def keep(plans: Plans, what: Head, changes: int = CHANGES) -> Plan:
    """Make a plan and keep it, as it is done where none is found."""
    scope, headers = what
    plans.find(scope, headers, changes)
    plan = plan_of(headers)
    plans.keep(scope, headers, plan)
    return plan


def test_a_plan_that_was_kept_is_found():
    plans = Plans()
    plan = keep(plans, head())

    assert find(plans, head()) is plan


def test_nothing_is_found_where_nothing_was_kept():
    assert find(Plans(), head()) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(head("/v1/models/n/encode"), id="model"),
        pytest.param(head("/v1/models/m/versions/1/encode"), id="version"),
        pytest.param(head("/v1/models/m/decode"), id="operation"),
        pytest.param(head(query=b"threshold=1"), id="options"),
        pytest.param(head(content_type=NPY), id="content type"),
        pytest.param(head(content_type=f"{JSON}; charset=utf-8"), id="content type with more"),
        pytest.param(head(accept=NPY), id="accept"),
        pytest.param(head(content_encoding="gzip"), id="encoding"),
        pytest.param(head(accept_encoding="gzip"), id="encoding of the answer"),
        pytest.param(head(x_shape="1,4,4"), id="shape"),
    ],
)
def test_what_changes_the_answer_has_a_plan_of_its_own(other):
    plans = Plans()
    plan = keep(plans, head())

    assert find(plans, other) is None
    another = keep(plans, other)
    assert find(plans, other) is another
    assert find(plans, head()) is plan


def test_a_head_without_a_content_type_does_not_find_the_plan_of_one_with_it():
    plans = Plans()
    keep(plans, head())

    assert find(plans, (head()[0], {})) is None


def test_a_value_in_another_header_is_another_plan():
    plans = Plans()
    keep(plans, head(content_type=RAW, accept=JSON, x_shape="1"))

    assert find(plans, head(content_type=JSON, accept=RAW, x_shape="1")) is None
    assert find(plans, head(content_type=RAW, accept="1", x_shape=JSON)) is None


@pytest.mark.parametrize(
    "other",
    [
        head(user_agent="1"),
        head(x_request_id="1"),
        head(x_request_timeout_ms="1"),
        head(host="1"),
    ],
)
def test_what_does_not_change_the_plan_finds_the_same(other):
    plans = Plans()
    plan = keep(plans, head())

    assert find(plans, other) is plan


def test_when_the_models_change_every_plan_is_forgotten():
    plans = Plans()
    keep(plans, head())

    assert find(plans, head(), CHANGES + 1) is None
    assert find(plans, head()) is None


def test_plans_that_are_kept_after_a_change_stay():
    plans = Plans()
    keep(plans, head())
    plan = keep(plans, head(), CHANGES + 1)

    assert find(plans, head(), CHANGES + 1) is plan


def test_a_form_is_never_kept():
    """Its content type has another boundary every time."""
    plans = Plans()
    form = head(content_type="multipart/form-data; boundary=1")
    keep(plans, form)

    assert find(plans, form) is None


def test_no_more_than_a_thousand_or_so_are_kept():
    plans = Plans()
    for number in range(1_100):
        keep(plans, head(query=b"%d" % number))

    assert len(plans._plans) <= 1024
    assert find(plans, head(query=b"1099")) is not None


@pytest.mark.parametrize(
    "long",
    [
        pytest.param(head(accept="a" * 1_000_000), id="accept"),
        pytest.param(head("/v1/models/m/encode", b"a" * 1_000_000), id="query"),
    ],
)
def test_a_head_far_longer_than_any_honest_one_is_not_kept(long):
    """A thousand of them would be a gigabyte."""
    plans = Plans()
    keep(plans, long)

    is_kept = find(plans, long) is not None
    assert not is_kept


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/models/m/encode", Route("m", None, "encode")),
        ("/v1/models/m/versions/7/anomaly-score", Route("m", "7", "anomaly-score")),
        ("/v1/models/m", None),
        ("/v1/models/m/", None),
        ("/v1/models/m/ENCODE", None),
        ("/v1/models/m/encode/", None),
        ("/v1/models/m/labels/7/encode", None),
        ("/v1/models/m/versions/7/8/encode", None),
        ("/v2/models/m/encode", None),
        ("/livez", None),
    ],
)
def test_a_path_names_model_version_and_operation(path, route):
    assert route_of({"path": path}) == route


def test_a_path_behind_a_proxy_s_prefix_is_the_same():
    scope = {"path": "/ml/v1/models/m/decode", "root_path": "/ml"}

    assert route_of(scope) == Route("m", None, "decode")


@pytest.mark.parametrize(
    ("route", "template"),
    [
        (Route("m", None, "encode"), "/v1/models/{model}/encode"),
        (Route("m", "7", "encode"), "/v1/models/{model}/versions/{version}/encode"),
    ],
)
def test_a_template_holds_nothing_that_a_client_chose(route, template):
    assert route.template == template
