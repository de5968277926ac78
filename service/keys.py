"""API keys: who may come in, and what for, by a file that does not hold the keys themselves.

    NAME SCOPES SHA256      # one key a line; scopes by commas

A key is made of 32 random bytes. Nobody can try so many, so its SHA-256 gives nothing away and a
slow hash, which is for passwords that people think of, would only hold up every request.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

from service.errors import ConfigurationError

INFER: Final = "infer"
MANAGE: Final = "manage"
METRICS: Final = "metrics"

SCOPES: Final = (INFER, MANAGE, METRICS)

# lets scanners of source code and logs know a key when they see one
_PREFIX: Final = "hg_"
_KEY_BYTES: Final = 32

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")

# what a script writes whose variable is empty
_OF_NOTHING: Final = sha256().digest()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a key, and what it is for."""

    name: str
    scopes: frozenset[str]


Keys: TypeAlias = Mapping[bytes, Holder]
"""The holders by the digests of their keys."""


def digest_of(key: bytes) -> bytes:
    """Give that by which a key is known."""
    return sha256(key).digest()


def read_keys(file: Path) -> Keys:
    """Read who has a key.

    Raises:
        ConfigurationError: The file cannot be read or understood, or holds no key.
    """
    keys = _parse(file, _text(file))
    if not keys:
        raise ConfigurationError(
            f"the file of API keys {file} holds none: `hourglass key` makes one"
        )
    return keys


def make_key() -> str:
    """Make a key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def line_of(key: str, name: str, scopes: str) -> str:
    """Write the line of a key.

    Raises:
        ConfigurationError: The name or a scope is none.
    """
    words = [name, scopes, digest_of(key.encode()).hex()]
    try:
        _read(words)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return " ".join(words)


def add_line(file: Path, line: str) -> None:
    """Put the line of a new key at the end of *file*, which is made where there is none.

    Raises:
        ConfigurationError: The file cannot be read, understood or written, or has the name already.
    """
    try:
        with file.open("a", encoding="utf-8", newline="\n") as end:
            text = _text(file)
            start = "\n" if text and not text.endswith("\n") else ""
            _parse(file, f"{text}{start}{line}")
            end.write(f"{start}{line}\n")
    except OSError as error:
        raise ConfigurationError(
            f"the file of API keys {file} cannot be written: {error.strerror}"
        ) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"the file of API keys {file} is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"the file of API keys {file} cannot be read: {error.strerror}"
        ) from error


def _parse(file: Path, text: str) -> dict[bytes, Holder]:
    """Read every line; a fault is told by its place alone, for its words may be a key."""
    keys: dict[bytes, Holder] = {}
    # not splitlines, which counts more ends of lines than editors do
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            digest, holder = _read(words)
            _check_new(digest, holder, keys)
        except ValueError as error:
            raise ConfigurationError(f"{file}, line {number}: {error}") from None
        keys[digest] = holder
    return keys


def _read(words: list[str]) -> tuple[bytes, Holder]:
    if len(words) != 3:  # noqa: PLR2004 - name, scopes, digest
        raise ValueError("a line is NAME SCOPES SHA256, with commas and no spaces between scopes")
    name, scopes, digest = words
    if not _NAME.fullmatch(name):
        raise ValueError("a name is up to 64 letters, digits, dots, hyphens and underscores")
    if not _DIGEST.fullmatch(digest):
        raise ValueError("the third word is not a SHA-256, of 64 hexadecimal digits")
    made = bytes.fromhex(digest)
    if made == _OF_NOTHING:
        raise ValueError("this is the SHA-256 of an empty key")
    return made, Holder(name, _read_scopes(scopes))


def _read_scopes(text: str) -> frozenset[str]:
    scopes = frozenset(text.split(","))
    if not scopes <= {*SCOPES}:
        raise ValueError(f"scopes are {', '.join(SCOPES)}, by commas")
    return scopes


def _check_new(digest: bytes, holder: Holder, keys: Keys) -> None:
    if digest in keys:
        raise ValueError("this key stands further up already")
    if any(other.name == holder.name for other in keys.values()):
        raise ValueError("this name stands further up already")
