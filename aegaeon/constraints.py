"""Constraints on options: metadata of a dataclass's fields, checked in one walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from aegaeon.errors import UserError

_KEY = "constraint"


@dataclass(frozen=True, slots=True)
class Constraint:
    """The bounds or choices of an option's value; each part is optional."""

    above: float | None = None
    at_least: float | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: Any) -> str | None:  # noqa: ANN401
        """Return the fault of a value as text; None for a valid value."""
        if self.choices and value not in self.choices:
            return f"{value!r} is neither {' nor '.join(self.choices)}"
        if self.above is not None and not value > self.above:
            return f"must be greater than {self.above:g}, got {value}"
        if self.at_least is not None and not value >= self.at_least:
            return f"must be at least {self.at_least:g}, got {value}"
        return None


def above(low: float) -> Mapping[str, Constraint]:
    """Return a field's metadata: its value must be greater than `low`."""
    return {_KEY: Constraint(above=low)}


def at_least(low: float) -> Mapping[str, Constraint]:
    """Return a field's metadata: its value must be `low` or greater."""
    return {_KEY: Constraint(at_least=low)}


def one_of(*choices: str) -> Mapping[str, Constraint]:
    """Return a field's metadata: its value must be one of `choices`."""
    return {_KEY: Constraint(choices=choices)}


def check_fields(options: Any, key: str) -> None:  # noqa: ANN401
    """Raise `UserError` naming the first option below `key` that breaks its constraint.

    `options` is a dataclass object. Fields with dataclass objects, or with mappings of dataclass
    objects, are checked too.
    """
    for item in fields(options):
        value, name = getattr(options, item.name), f"{key}.{item.name}" if key else item.name
        constraint: Constraint | None = item.metadata.get(_KEY)
        if constraint is not None and (fault := constraint.fault(value)) is not None:
            raise UserError(f"{name}: {fault}")
        nested = value if isinstance(value, dict) else {"": value}
        for part, inner in nested.items():
            if is_dataclass(inner):
                check_fields(inner, f"{name}.{part}" if part else name)
