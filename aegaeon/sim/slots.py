"""Which models' weights lie on a device whose copies are made inline (a CPU)."""

from __future__ import annotations


class WeightSlots:
    """Slots of equal size; a model stays in its slot until the slot used longest ago is needed."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._models: list[str] = []

    def use(self, model: str) -> bool:
        """Make `model` the one used last; return whether it was in a slot."""
        there = model in self._models
        if there:
            self._models.remove(model)
        elif len(self._models) == self._slots:
            self._models.pop(0)
        self._models.append(model)
        return there
