"""The seal of a manifest: a sha-256 over all that it says, so that no bit of it changes unseen.

It guards against damage and against edits that nobody tried out; it is no signature.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from service.errors import PackageError

SEAL: Final = "seal"


def sealed(content: Mapping[str, Any]) -> str:
    """Give the text of ``model.json`` for *content*, with its seal at the end."""
    bare = {name: value for name, value in content.items() if name != SEAL}
    return _text({**bare, SEAL: seal_of(_text(bare))})


def resealed(text: bytes) -> str:
    """Give the text of a manifest with the seal that it should bear."""
    return sealed(json.loads(text))


def seal_of(text: str | bytes) -> str:
    """Compute the seal of a manifest from its text, whatever its layout and the order of fields.

    Numbers count as they are written: two spellings of one float would hide a flipped bit.
    """
    content = json.loads(text, parse_float=_literal, parse_int=_literal, parse_constant=_literal)
    content.pop(SEAL, None)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def check_seal(text: bytes, seal: str | None, version: str) -> None:
    """See that a manifest says what it said when it was sealed; one without a seal may say all.

    Args:
        text: The file.
        seal: The seal that it bears.
        version: Name and version, for the command that mends it.

    Raises:
        PackageError: It was changed.
    """
    if seal is not None and seal_of(text) != seal:
        raise PackageError(
            f"model.json was changed after it was sealed; if you meant to: hourglass seal {version}"
        )


def _literal(number: str) -> dict[str, str]:
    return {"number": number}  # which no string of a manifest can be mistaken for


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
