"""Constraints on options: metadata of a dataclass's fields, checked in one walk.

The rule for every number, with or without metadata: a fraction is finite, and a whole number is at
most 2 ** 53, so that a float holds the number exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from aegaeon.errors import UserError

KEY = "constraint"
LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Constraint:
    """The bounds or choices of an option's value; each part is optional."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: Any) -> str | None:  # noqa: ANN401
        """Return the fault of a value as text; None for a valid value, and for no value."""
        if value is None:
            return None
        if self.choices:
            known = ", ".join(choice or "''" for choice in self.choices)
            return None if value in self.choices else f"must be one of {known}, got {value!r}"
        inside = (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )
        return None if inside else f"must be {self._range()}, got {value}"

    def _range(self) -> str:
        parts = (
            ("greater than", self.above),
            ("at least", self.at_least),
            ("at most", self.at_most),
        )
        return " and ".join([f"{words} {bound:,g}" for words, bound in parts if bound is not None])


def above(low: float, at_most: float | None = None) -> Mapping[str, Constraint]:
    """Return a field's metadata: its numbers must be greater than `low`, and no more than a bound.

    The metadata of a list or mapping holds for each of its values; None is always valid.
    """
    return {KEY: Constraint(above=low, at_most=at_most)}


def at_least(low: float, at_most: float | None = None) -> Mapping[str, Constraint]:
    """Return a field's metadata: as `above`, and `low` itself is valid too."""
    return {KEY: Constraint(at_least=low, at_most=at_most)}


def one_of(*choices: str) -> Mapping[str, Constraint]:
    """Return a field's metadata: its value must be one of `choices`."""
    return {KEY: Constraint(choices=choices)}


def check_fields(options: Any, key: str) -> None:  # noqa: ANN401
    """Raise `UserError` naming the first option below `key` with a value that cannot be used.

    `options` is a dataclass object. Values in lists, mappings and further dataclass objects are
    checked too.
    """
    for item in fields(options):
        name = f"{key}.{item.name}" if key else item.name
        constraint = item.metadata.get(KEY, Constraint())
        for path, value in _values(getattr(options, item.name), name):
            if is_dataclass(value):
                check_fields(value, path)
            elif fault := _number_fault(value) or constraint.fault(value):
                raise UserError(f"{path}: {fault}")


def _values(value: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield what a constraint holds for: a plain value, or each value of a list or mapping."""
    if isinstance(value, Mapping):
        yield from ((f"{name}.{part}", inner) for part, inner in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{i}]", inner) for i, inner in enumerate(value))
    else:
        yield name, value


def _number_fault(value: Any) -> str | None:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, got {value}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"must be at most {LARGEST:,} (2 ** 53), got {value}"
    return None
