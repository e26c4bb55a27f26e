"""How Ray authenticates, set before Ray is imported; needs no Ray."""

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
    """Set how Ray authenticates; it reads that once, when it is imported.

    Raises UserError if the mode is unknown or Ray was imported with another one.
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
    """Make `token` the mode unless the environment says otherwise; vLLM imports Ray too."""
    os.environ.setdefault(AUTH_MODE, "token")
