"""Which scope a path asks for, and which key a request is taken to carry."""

import pytest

from service.api.gate import Gate, is_open, scopes_for
from service.errors import ForbiddenError, UnauthorizedError
from service.keys import Holder, digest_of

INFER = {"infer"}
READ = {"infer", "manage"}
MANAGE = {"manage"}
METRICS = {"metrics"}

RULES = [
    ("GET", "/livez", None),
    ("HEAD", "/livez", None),
    ("GET", "/readyz", None),
    ("HEAD", "/readyz", None),
    ("GET", "/v2/health/live", None),
    ("GET", "/v2/health/ready", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
    ("GET", "/static-offline-docs/swagger-ui.css", None),
    ("POST", "/livez", MANAGE),
    ("DELETE", "/openapi.json", MANAGE),
    ("GET", "/livez/", READ),
    ("GET", "/livez/more", READ),
    ("GET", "//livez", READ),
    ("GET", "/LIVEZ", READ),
    ("GET", "/static-offline-docs", READ),
    ("GET", "/docs/oauth2-redirect", READ),
    ("GET", "/metrics", METRICS),
    ("HEAD", "/metrics", METRICS),
    ("POST", "/metrics", METRICS),
    ("GET", "/v1/models", READ),
    ("GET", "/v1/models/m", READ),
    ("HEAD", "/v1/models/m", READ),
    ("GET", "/v1/models/m/versions/2", READ),
    ("GET", "/v1/models/m/versions/2/calibrations", READ),
    ("POST", "/v1/models/m/encode", INFER),
    ("POST", "/v1/models/m/decode", INFER),
    ("POST", "/v1/models/m/reconstruct", INFER),
    ("POST", "/v1/models/m/anomaly-score", INFER),
    ("POST", "/v1/models/m/versions/2/encode", INFER),
    ("POST", "/v1/models/m/versions/canary/anomaly-score", INFER),
    ("GET", "/v1/models/m/encode", INFER),
    ("POST", "/v1/models/m/classify", MANAGE),
    ("POST", "/v1/models/m/encode/", MANAGE),
    ("POST", "/v1/models/m/encode/more", MANAGE),
    ("POST", "/v1/repository/rescan", MANAGE),
    ("POST", "/v1/models/m/versions/2/load", MANAGE),
    ("POST", "/v1/models/m/versions/2/unload", MANAGE),
    ("PUT", "/v1/models/m/labels/encode", MANAGE),
    ("POST", "/v1/models/m/versions/2/calibrations", MANAGE),
    ("PUT", "/v1/models/m/versions/2/calibrations/line", MANAGE),
    ("DELETE", "/v1/models/m/versions/2/calibrations/encode", MANAGE),
    ("PATCH", "/v1/models/m", MANAGE),
    ("OPTIONS", "/v1/models/m", MANAGE),
    ("get", "/v1/models/m", MANAGE),
    ("GET", "/v2", READ),
    ("GET", "/v2/models/m", READ),
    ("GET", "/v2/models/m/ready", READ),
    ("GET", "/v2/models/m/versions/2/config", READ),
    ("GET", "/v2/models/stats", READ),
    ("POST", "/v2/models/m/infer", INFER),
    ("POST", "/v2/models/m.decoder/versions/2/infer", INFER),
    ("POST", "/v2/repository/index", READ),
    ("POST", "/v2/repository/models/m/load", MANAGE),
    ("POST", "/v2/repository/models/m/unload", MANAGE),
    ("POST", "/v2/repository/models/infer", MANAGE),
    ("POST", "/v2/models/m", MANAGE),
    ("POST", "/nothing", MANAGE),
    ("GET", "/nothing", READ),
    ("GET", "/", READ),
    ("GET", "", READ),
]


def said(value: str | set[str] | None) -> str:
    """The name of a case, the same in every process."""
    return "+".join(sorted(value)) if isinstance(value, set) else str(value)


@pytest.mark.parametrize(("method", "path", "scopes"), RULES, ids=said)
def test_what_a_path_asks_for(method, path, scopes):
    assert scopes_for({"method": method, "path": path}) == scopes


def test_what_a_mount_puts_before_a_path_does_not_count():
    mounted = {"method": "GET", "path": "/mounted/livez", "root_path": "/mounted"}

    assert scopes_for(mounted) is None


def test_the_document_asks_by_the_path_alone():
    assert is_open("/readyz")
    assert not is_open("/v1/models/{model}")


GATE = Gate(
    {
        digest_of(b"a-key"): Holder("reader", frozenset({"infer"})),
        digest_of(b"other"): Holder("watcher", frozenset({"metrics"})),
        digest_of(b"\xff\xfe"): Holder("odd", frozenset({"infer"})),
    }
)
CARD = {"method": "GET", "path": "/v1/models/m"}


def headers(**given):
    return {name.replace("_", "-").encode(): value for name, value in given.items()}


@pytest.mark.parametrize(
    "sent",
    [
        headers(authorization=b"Bearer a-key"),
        headers(authorization=b"bearer a-key"),
        headers(authorization=b"BEARER   a-key "),
        headers(x_api_key=b"a-key"),
        headers(authorization=b"Bearer a-key", x_api_key=b"a-key"),
        headers(authorization=b"Basic dXNlcjpwYXNz", x_api_key=b"a-key"),
        headers(authorization=b"", x_api_key=b"a-key"),
    ],
    ids=str,
)
def test_a_key_is_found_in_either_header(sent):
    assert GATE.admit(CARD, sent) == "reader"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({}, id="nothing"),
        pytest.param(headers(authorization=b""), id="empty"),
        pytest.param(headers(x_api_key=b""), id="empty key"),
        pytest.param(headers(authorization=b"Bearer"), id="scheme alone"),
        pytest.param(headers(authorization=b"Bearer   "), id="scheme and blanks"),
        pytest.param(headers(authorization=b"a-key"), id="no scheme"),
        pytest.param(headers(authorization=b"Basic a-key"), id="another scheme"),
        pytest.param(headers(authorization=b"Bearera-key"), id="no blank"),
        pytest.param(headers(authorization=b"Bearer\ta-key"), id="tab"),
        pytest.param(headers(authorization=b"Bearer wrong"), id="unknown"),
        pytest.param(headers(authorization=b"Bearer A-KEY"), id="capitals"),
        pytest.param(headers(authorization=b"Bearer a-key2"), id="longer"),
        pytest.param(headers(authorization=b"Bearer a-ke"), id="shorter"),
        pytest.param(headers(authorization=b'Bearer "a-key"'), id="quoted"),
        pytest.param(headers(authorization=b"Bearer a-key, Bearer a-key"), id="twice"),
        pytest.param(headers(authorization=b"Bearer wrong, Bearer a-key"), id="two keys"),
        pytest.param(headers(authorization=b"Basic x, Bearer a-key"), id="two schemes"),
        pytest.param(headers(x_api_key=b"a-key, a-key"), id="own header twice"),
        pytest.param(headers(authorization=b"Bearer wrong", x_api_key=b"a-key"), id="disagree"),
        pytest.param(headers(authorization=b"Bearer a-key", x_api_key=b"wrong"), id="or so"),
        pytest.param(headers(authorization=b"Bearer a-key", x_api_key=b""), id="one empty"),
        pytest.param(headers(authorization=b"Bearer", x_api_key=b"a-key"), id="other empty"),
        pytest.param(headers(authorization=b"Bearer a-key", x_api_key=b"other"), id="both good"),
        pytest.param(headers(x_api_key=digest_of(b"a-key")), id="the digest"),
        pytest.param(headers(x_api_key=digest_of(b"a-key").hex().encode()), id="what the file has"),
        pytest.param(headers(authorization=b"Bearer " + b"a" * 8000), id="huge"),
        pytest.param(headers(authorization=b"Bearer \xc3\xa4\x80\xff"), id="not ASCII"),
        pytest.param(headers(proxy_authorization=b"Bearer a-key"), id="for a proxy"),
    ],
)
def test_what_is_no_key_of_ours_is_refused(sent):
    with pytest.raises(UnauthorizedError):
        GATE.admit(CARD, sent)


def test_bytes_that_are_no_text_are_a_key_like_any_other():
    assert GATE.admit(CARD, headers(authorization=b"Bearer \xff\xfe")) == "odd"


def test_what_is_open_asks_for_no_key_and_looks_at_none():
    assert GATE.admit({"method": "GET", "path": "/livez"}, headers(x_api_key=b"wrong")) is None


def test_a_key_for_something_else_is_refused_by_its_name():
    with pytest.raises(ForbiddenError) as caught:
        GATE.admit(CARD, headers(x_api_key=b"other"))

    assert (caught.value.key, caught.value.expected) == ("watcher", "the scope infer or manage")
