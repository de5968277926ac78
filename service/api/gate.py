"""Who may do what: a request's key, and the scopes that its path and method ask for.

Stands before everything that looks at a model or a body, so that whoever has no key learns nothing
but that one is needed. Without a file of keys there is no gate.
"""

from collections.abc import Mapping
from typing import Final

from service.api import open_inference, plans
from service.api.protocol import ROOT
from service.api.runtime import Scope, path_of
from service.errors import ForbiddenError, UnauthorizedError
from service.keys import INFER, MANAGE, METRICS, Keys, digest_of

_AUTHORIZATION: Final = b"authorization"
_API_KEY: Final = b"x-api-key"

_HOW: Final = "Authorization: Bearer KEY, or X-API-Key: KEY"

# what changes nothing
_READING: Final = frozenset({"GET", "HEAD"})

# health is asked for by machines that have no key; the documents are the same on every server
_OPEN: Final = frozenset(
    {
        *("/livez", "/readyz", f"{ROOT}/health/live", f"{ROOT}/health/ready"),
        *("/openapi.json", "/docs"),
    }
)
_OPEN_FOLDER: Final = "/static-offline-docs/"
_METRICS: Final = "/metrics"

# is asked for by POST and changes nothing
_INDEX: Final = f"{ROOT}/repository/index"

_TO_INFER: Final = frozenset({INFER})
_TO_READ: Final = frozenset({INFER, MANAGE})
_TO_MANAGE: Final = frozenset({MANAGE})
_TO_WATCH: Final = frozenset({METRICS})


class Gate:
    """Lets requests in whose key is good for what they ask.

    Args:
        keys: All that are good for anything.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
        """Give the name of a request's key; ``None`` where none is asked for.

        Raises:
            UnauthorizedError: It has no key, or not one of ours.
            ForbiddenError: Its key is for something else.
        """
        wanted = scopes_for(scope)
        if wanted is None:
            return None
        key = _key_in(headers)
        if not key:
            raise UnauthorizedError("this needs an API key", expected=_HOW)
        # what a look into a dictionary takes depends on bits of a digest, of which nobody can
        # choose the key that has them: it helps nobody to measure it
        holder = self._keys.get(digest_of(key))
        if holder is None:
            raise UnauthorizedError("this API key is not known", expected=_HOW)
        if wanted.isdisjoint(holder.scopes):
            scopes = " or ".join(sorted(wanted))
            raise ForbiddenError(
                "this API key is not for this", expected=f"the scope {scopes}", key=holder.name
            )
        return holder.name


def scopes_for(scope: Scope) -> frozenset[str] | None:
    """Name the scopes of which a request needs one; ``None`` where everybody may.

    Only what is known to change nothing does without ``manage``: a path that is forgotten here is
    closed to all but those who may do everything with models.
    """
    path, is_reading = path_of(scope), scope["method"] in _READING
    if is_reading and (path in _OPEN or path.startswith(_OPEN_FOLDER)):
        return None
    if path == _METRICS:
        return _TO_WATCH
    if plans.route_of(scope) is not None or open_inference.route_of(scope) is not None:
        return _TO_INFER
    return _TO_READ if is_reading or path == _INDEX else _TO_MANAGE


def is_open(path: str) -> bool:
    """Whether everybody may look at *path*."""
    return scopes_for({"method": "GET", "path": path}) is None


def _key_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Find the key; a header that was sent twice has a comma in it, which no key has.

    An ``Authorization`` of another scheme is for somebody else on the way, and none of ours.
    """
    scheme, _, credentials = headers.get(_AUTHORIZATION, b"").partition(b" ")
    ours = headers.get(_API_KEY)
    if scheme.lower() != b"bearer":
        return ours
    key = credentials.strip()
    if ours is not None and ours != key:
        raise UnauthorizedError(
            "Authorization and X-API-Key hold different keys", expected="one of them"
        )
    return key
