"""Waiting for calls to actors, with errors in this project's types."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from aegaeon.errors import UserError
from aegaeon.live.control.tracks import LiveError


def fetch(refs: Any, timeout_s: float, what: str) -> Any:  # noqa: ANN401
    """Return `ray.get(refs)`.

    Raises UserError after `timeout_s` seconds, and for a UserError that an actor raised. Raises
    LiveError with the last line of any other error of an actor. `what` names the call in messages.
    """
    try:
        return ray.get(refs, timeout=timeout_s)
    except GetTimeoutError as error:
        raise UserError(
            f"{what}: not done after {timeout_s:g} s; see the logs in the run's directory, or "
            "raise backend.start_timeout_s"
        ) from error
    except RayError as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise LiveError(f"{what}: {brief(error)}; see the logs in the run's directory") from error


def brief(error: Exception) -> str:
    """Return an error's type and last line; other lines of Ray's errors are about processes."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
