"""Ray's authentication mode, set before Ray is imported; needs no Ray."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from aegaeon.constraints import check_fields
from aegaeon.errors import UserError
from aegaeon.live.options import AUTH

AUTH_MODE = "RAY_AUTH_MODE"


@dataclass(frozen=True, slots=True)
class _Auth:
    auth: str = field(metadata=AUTH)


def use_auth(mode: str) -> None:
    """Set Ray's authentication mode; Ray reads the mode once, on import.

    Raises UserError for an unknown mode, or if Ray was imported with another mode.
    """
    check_fields(_Auth(mode), "backend")
    before = os.environ.get(AUTH_MODE)
    if "ray" in sys.modules and before != mode:
        raise UserError(
            f"backend.auth: this process has imported Ray with {AUTH_MODE}={before}, which cannot "
            f"be changed to {mode}; set {AUTH_MODE}={mode} in the environment and start again"
        )
    os.environ[AUTH_MODE] = mode


def default_auth() -> None:
    """Make `token` the mode unless the environment has one; call before vLLM, which imports Ray."""
    os.environ.setdefault(AUTH_MODE, "token")
