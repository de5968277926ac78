"""What the head of a request asks for: model, operation, formats, options.

Clients ask the same again and again, so a plan is made once and kept. It holds no more than the
head says; whatever lies in the body is read afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from service.api.inputs import FORM, Body
from service.api.options import EncodeOptions, Options, ScoreOptions, read_options
from service.api.outputs import offered
from service.api.requests import query_of
from service.api.runtime import Scope, path_of
from service.assembly import LiveModel
from service.bodies.negotiation import choose, compress_from
from service.inference import operations
from service.metrics import OperationMetrics
from service.scoring.verdicts import Rule, choose_rule
from service.settings import Settings
from service.specs import TensorSpec

PREFIX: Final = "/v1/models/"

# heads of honest clients are few; this bounds what the others can make the server keep
_KEPT_MAX: Final = 1024
_KEY_MAX_LENGTH: Final = 2048

_Key: TypeAlias = tuple[str | bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Which operation of which model a path asks for."""

    model: str
    version: str | None
    operation: str

    @property
    def template(self) -> str:
        versions = "" if self.version is None else "/versions/{version}"
        return f"{PREFIX}{{model}}{versions}/{self.operation}"


class Wish(NamedTuple):
    """What a request wants beside the operation.

    Attributes:
        options: Of query and body together.
        rule: What they say of the threshold, for scores.
        layer: What is wanted instead of the code.
    """

    options: Options
    rule: Rule | None = None
    layer: str | None = None

    @property
    def wants_features(self) -> bool:
        """Whether the answer needs the error of every feature and not the scores alone."""
        return isinstance(self.options, ScoreOptions) and bool(self.options.include)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one kind of request is answered.

    Attributes:
        template: The route's.
        model: Name and version.
        metrics: The operation's series.
        version_header: Names the version that answers.
        queue: Of the graph that answers, unless the body has more options.
        body: How its body is read.
        media: The format of the answer.
        compress_from: Bytes of an answer from which on it goes out as gzip, if it may.
        query: Options in the query.
        wish: What follows from them, unless the body has more.
    """

    template: str
    model: tuple[str, str]
    metrics: OperationMetrics
    version_header: tuple[bytes, bytes]
    operation: str
    queue: str
    live: LiveModel
    body: Body
    media: str
    compress_from: int | None
    query: Mapping[str, str]
    wish: Wish

    def wish_with(self, fields: Mapping[str, Any]) -> Wish:
        """Join the options of the query with those in the body.

        Raises:
            InvalidRowsError: One is unknown, wrong, given twice, or excludes another.
            UnsupportedOperationError: The model is not calibrated for what is asked.
        """
        return _wish(self.live, self.operation, self.query, fields)


class Plans:
    """The plans of the heads that were asked lately; forgotten when the models change."""

    def __init__(self) -> None:
        self._plans: dict[_Key, Plan] = {}
        self._changes = -1

    def find(self, scope: Scope, headers: Mapping[bytes, bytes], changes: int) -> Plan | None:
        """Find the plan of a head that was kept since the last of *changes* of the registry."""
        if changes != self._changes:
            self._plans.clear()
            self._changes = changes
        return self._plans.get(_key(scope, headers))

    def keep(self, scope: Scope, headers: Mapping[bytes, bytes], plan: Plan) -> None:
        key = _key(scope, headers)
        # the content type of a form has another boundary every time
        if plan.body.media == FORM or sum(map(len, filter(None, key))) > _KEY_MAX_LENGTH:
            return
        if len(self._plans) >= _KEPT_MAX:
            self._plans.clear()
        self._plans[key] = plan


def _key(scope: Scope, headers: Mapping[bytes, bytes]) -> _Key:
    get = headers.get
    return (
        scope["path"],
        scope["query_string"],
        get(b"content-type"),
        get(b"accept"),
        get(b"accept-encoding"),
        get(b"content-encoding"),
        get(b"x-shape"),
    )


def route_of(scope: Scope) -> Route | None:
    """Read the path; ``None`` when it is not one of an operation."""
    path = path_of(scope)
    if not path.startswith(PREFIX):
        return None
    match path[len(PREFIX) :].split("/"):
        case [model, operation] if operation in operations.ALL:
            return Route(model, None, operation)
        case [model, "versions", version, operation] if operation in operations.ALL:
            return Route(model, version, operation)
    return None


def make_plan(
    route: Route, live: LiveModel, scope: Scope, headers: Mapping[bytes, bytes], settings: Settings
) -> Plan:
    """Read the rest of the head.

    Raises:
        RequestError: The model has not this operation, or the head asks for what cannot be.
    """
    operation = route.operation
    live.autoencoder.check_has(operation)
    accept, coding = (
        headers.get(name, b"").decode("latin-1") for name in (b"accept", b"accept-encoding")
    )
    media = choose(accept, offered(live, operation))
    query = query_of(scope)
    body = Body(headers, _input_spec(live, operation), settings)
    wish = _wish(live, operation, query, {})
    return Plan(
        template=route.template,
        model=(live.name, live.version),
        metrics=live.operation_metrics[operation],
        version_header=(b"x-model-version", live.version.encode()),
        operation=operation,
        queue=operation if wish.layer is None else operations.of_layer(wish.layer),
        live=live,
        body=body,
        media=media,
        compress_from=compress_from(coding, media),
        query=query,
        wish=wish,
    )


def _wish(
    live: LiveModel, operation: str, query: Mapping[str, str], fields: Mapping[str, Any]
) -> Wish:
    if operation == operations.ENCODE:
        encoding = read_options(EncodeOptions, query, fields)
        if encoding.layer is not None:
            live.autoencoder.check_layer(encoding.layer)
        return Wish(encoding, layer=encoding.layer)
    if operation != operations.ANOMALY_SCORE:
        return Wish(read_options(Options, query, fields))
    options = read_options(ScoreOptions, query, fields)
    rule = live.default_rule
    if (options.metric, options.false_positive_rate, options.threshold) != (None, None, None):
        rule = choose_rule(
            live.calibration,
            measure=options.metric,
            false_positive_rate=options.false_positive_rate,
            threshold=options.threshold,
        )
    return Wish(options, rule)


def _input_spec(live: LiveModel, operation: str) -> TensorSpec:
    manifest = live.manifest
    if operation == operations.DECODE and manifest.code is not None:
        return manifest.code
    return manifest.input
