"""What the head of a request asks for: model, operation, formats, options.

Clients ask the same again and again, so a plan is made once and kept. It holds no more than the
head says; whatever lies in the body is read afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from service.api.inputs import FORM, Body
from service.api.options import EncodeOptions, Options, RowOptions, ScoreOptions, read_options
from service.api.outputs import offered
from service.api.requests import query_of
from service.api.runtime import Scope, path_of
from service.assembly import LiveModel
from service.bodies.negotiation import choose, compress_from
from service.errors import UnsupportedOperationError
from service.inference import operations
from service.metrics import OperationMetrics
from service.scoring.measures import MSE
from service.scoring.verdicts import ANY_RULE, Rule, choose_rule
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
        domain: Whether the rows are compared with those that the model knows.
        included: Further parts of a JSON answer.
        explained: How many features of each row are explained.
    """

    options: Options
    rule: Rule | None = None
    layer: str | None = None
    domain: bool = False
    included: frozenset[str] = frozenset()
    explained: int | None = None

    @property
    def needs_json(self) -> bool:
        """Whether it is for something that only a JSON answer has room for."""
        return self.explained is not None or bool(self.included - {"domain"})

    @property
    def is_one_run(self) -> bool:
        """Whether one run of the operation's own graph gives all of it."""
        return not self.is_more_than_scores and "feature_errors" not in self.included

    @property
    def is_more_than_scores(self) -> bool:
        """Whether it takes more than the scores that the model's own graph gives."""
        if self.domain or self.explained is not None or "regions" in self.included:
            return True
        return self.rule is not None and self.rule.measure != MSE


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
        guards: Whether rows meet the domain guard even if nobody asks.
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
    guards: bool

    def wish_with(self, fields: Mapping[str, Any]) -> Wish:
        """Join the options of the query with those in the body.

        Raises:
            InvalidRowsError: One is unknown, wrong, given twice, or excludes another.
            UnsupportedOperationError: The model is not calibrated for what is asked.
        """
        return _wish(self.live, self.operation, self.query, fields, guards=self.guards)


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
    guards = settings.domain_guard == "always"
    wish = _wish(live, operation, query, {}, guards=guards)
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
        guards=guards,
    )


def _wish(
    live: LiveModel,
    operation: str,
    query: Mapping[str, str],
    fields: Mapping[str, Any],
    *,
    guards: bool,
) -> Wish:
    if operation == operations.ANOMALY_SCORE:
        return _score_wish(live, read_options(ScoreOptions, query, fields), guards=guards)
    kind = EncodeOptions if operation == operations.ENCODE else RowOptions
    options = read_options(kind, query, fields)
    layer = options.layer if isinstance(options, EncodeOptions) else None
    if layer is not None:
        live.autoencoder.check_layer(layer)
    included = frozenset[str](options.include)
    domain = _wants_domain(live, operation, included, guards=guards)
    return Wish(options, layer=layer, domain=domain, included=included)


def _score_wish(live: LiveModel, options: ScoreOptions, *, guards: bool) -> Wish:
    rule, wish = live.default_rule, options.rule_wish
    if wish != ANY_RULE:
        rule = choose_rule(live.calibration, wish)
    included = frozenset[str](options.include)
    if "regions" in included:
        _check_regions(live)
    return Wish(
        options,
        rule,
        domain=_wants_domain(live, operations.ANOMALY_SCORE, included, guards=guards),
        included=included,
        explained=options.explain,
    )


def _wants_domain(
    live: LiveModel, operation: str, included: frozenset[str], *, guards: bool
) -> bool:
    """Whether rows meet the domain guard: where a request or the server's setting wants it.

    Raises:
        UnsupportedOperationError: A request wants it, and the model cannot.
    """
    is_able = live.has_guard_of(operation)
    if "domain" in included and not is_able:
        raise UnsupportedOperationError(
            "the model was not calibrated to tell rows of its kind from others",
            expected="no include=domain",
            received="include=domain",
        )
    return is_able and (guards or "domain" in included)


def _check_regions(live: LiveModel) -> None:
    if live.calibration is None or live.manifest.input.image is None:
        raise UnsupportedOperationError(
            "regions need pictures and a calibration",
            expected="a model of pictures with a calibration",
        )


def _input_spec(live: LiveModel, operation: str) -> TensorSpec:
    manifest = live.manifest
    if operation == operations.DECODE and manifest.code is not None:
        return manifest.code
    return manifest.input
