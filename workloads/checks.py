"""Checks of numbers that a user may set, shared by the generator and the replay."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError


def require_positive(**values: float) -> None:
    """Raise `UserError` naming the first key of `workload` whose value is not finite and > 0."""
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"workload.{key}: expected a finite number > 0, got {value}")


def require_choice(choices: Sequence[str], **values: str) -> None:
    """Raise `UserError` naming the first key of `workload` whose value is not in `choices`."""
    for key, value in values.items():
        if value not in choices:
            known = ", ".join(choice or "''" for choice in choices)
            raise UserError(f"workload.{key}: expected one of {known}, got {value!r}")


def require_market(models: Sequence[ModelSpec]) -> None:
    """Raise `UserError` unless `models` is non-empty, of distinct names and max_len >= 2."""
    if not models:
        raise UserError("models.count: expected at least one model, got none")
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise UserError(f"models: the name {model.name!r} occurs twice; names must differ")
        if model.max_len < 2:
            raise UserError(f"models: {model.name} needs max_len >= 2 (a prompt and an answer)")
        seen.add(model.name)
