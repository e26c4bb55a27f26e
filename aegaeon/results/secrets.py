"""Passwords do not reach records: texts are masked before they are written or printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_MASK = "***"
_SECRET = r"(?:password|passwd|secret|api_?key|access_key|auth_token|access_token)"
_SECRET_KEY = re.compile(rf"{_SECRET}$", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(://[^/\s:@\"']*):[^/\s@\"']+@")
_ASSIGNED = re.compile(rf"({_SECRET}=)(\"[^\"]*\"|'[^']*'|[^\s'\"]+)", re.IGNORECASE)


def masked(text: str) -> str:
    """Return `text` without the password of an address, and without values of secret keys."""
    return _ASSIGNED.sub(rf"\1{_MASK}", _IN_ADDRESS.sub(rf"\1:{_MASK}@", text))


def masked_command(words: Sequence[str]) -> str:
    """Return a command as text; what follows a secret key's `=` in a word is masked."""
    return shlex.join([_masked_word(word) for word in words])


def _masked_word(word: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}={_MASK}" if equals and _SECRET_KEY.search(key) else masked(word)


def without_secrets(value: Any) -> Any:  # noqa: ANN401
    """Return JSON's `value` with each text masked, and with each text under a secret key."""
    if isinstance(value, Mapping):
        return {name: _under(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def _under(name: str, value: Any) -> Any:  # noqa: ANN401
    secret = isinstance(value, str) and value and _SECRET_KEY.search(name)
    return _MASK if secret else without_secrets(value)
