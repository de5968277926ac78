"""What all paths of the Open Inference Protocol have in common: their root, and their errors."""

from typing import Any, Final

import orjson

from service.api.errors import Problem, make_problem
from service.api.runtime import Scope, path_of

ROOT: Final = "/v2"
MODELS: Final = "/v2/models/"

_JSON: Final = (b"content-type", b"application/json")


def is_open_inference(scope: Scope) -> bool:
    """Whether a request's path belongs to the protocol."""
    path = path_of(scope)
    return path.startswith(ROOT) and path[len(ROOT) : len(ROOT) + 1] in {"", "/"}


def in_form_of(scope: Scope, problem: Problem) -> Problem:
    """Bring *problem* into the form that errors have at the path of a request."""
    return open_problem(problem) if is_open_inference(scope) else problem


def refuse_method(allowed: str, detail: str, request_id: str) -> Problem:
    """Make the answer to a request with another method than *allowed*."""
    headers = [(b"allow", allowed.encode())]
    return open_problem(make_problem(405, detail, request_id, headers=headers))


def open_problem(problem: Problem) -> Problem:
    """Say *problem* in one text: ``{"error": "..."}``, which is all that the protocol knows."""
    headers = [_JSON, *(each for each in problem.headers if each[0] != _JSON[0])]
    body = orjson.dumps({"error": _sentence(orjson.loads(problem.body))})
    return Problem(problem.status, body, headers)


def _sentence(problem: dict[str, Any]) -> str:
    parts = [f"row {problem['row']}"] if "row" in problem else []
    parts += [f"{name} {problem[name]}" for name in ("expected", "received") if name in problem]
    return f"{problem['detail']} ({'; '.join(parts)})" if parts else str(problem["detail"])
