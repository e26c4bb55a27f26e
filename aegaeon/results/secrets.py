"""Passwords do not reach records: texts are masked before they are written or printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MASK = "***"
_IN_ADDRESS = re.compile(r"(://[^/\s:@\"']*):[^/\s@\"']+@")
_SECRET = r"[\w.]*(?:password|passwd|secret|api_?key|access_key|auth_token|access_token)"
_SECRET_KEY = re.compile(_SECRET, re.IGNORECASE)
# As on a command line: `a.password=x`, `'a.password=x y'`, `token='x y'`.
_ASSIGNED = re.compile(
    rf"(')?({_SECRET}=)(\"[^\"]*\"|'[^']*'|(?(1)[^']*|[^\s'\"]+))", re.IGNORECASE
)


def masked(text: str) -> str:
    """Return `text` without the password of an address, and without values of secret keys."""
    return _ASSIGNED.sub(rf"\1\2{_MASK}", _IN_ADDRESS.sub(rf"\1:{_MASK}@", text))


def without_secrets(value: Any) -> Any:  # noqa: ANN401
    """Return JSON's `value` with each text masked, and with each text under a secret key."""
    if isinstance(value, Mapping):
        return {name: _under(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def _under(name: str, value: Any) -> Any:  # noqa: ANN401
    secret = isinstance(value, str) and value and _SECRET_KEY.fullmatch(name)
    return _MASK if secret else without_secrets(value)
