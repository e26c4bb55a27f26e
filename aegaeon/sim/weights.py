"""Weights on one device: the host link that brings them, and the slots in which they lie."""

from __future__ import annotations


class HostLink:
    """A full-duplex PCIe link: weight copies and KV moves share it, one direction each way.

    KV moves to the device overtake a weight copy that the device does not wait for yet.

    Times are seconds, sizes bytes; every method returns the time at which its copy is complete. A
    KV move takes `move_s` beside its bytes.
    """

    def __init__(self, bandwidth: float, move_s: float = 0.0) -> None:
        self._bandwidth = bandwidth
        self._move_s = move_s
        self._in_free = 0.0
        self._out_free = 0.0
        self.weights_ready = 0.0

    def copy_weights(self, now: float, seconds: float) -> float:
        """Start a weight copy that takes `seconds` of an otherwise free link."""
        self.weights_ready = max(now, self._in_free) + seconds
        return self.weights_ready

    def await_weights(self, now: float) -> float:
        """Let no further KV move overtake the weight copy, as the device now waits for it."""
        self._in_free = max(self._in_free, self.weights_ready)
        return max(now, self.weights_ready)

    def move_in(self, now: float, size: float) -> float:
        """Bring KV to the device; a weight copy that it overtakes is delayed by as much."""
        start = max(now, self._in_free)
        seconds = size / self._bandwidth + self._move_s
        self._in_free = start + seconds
        if self.weights_ready > start:
            self.weights_ready += seconds
        return self._in_free

    def move_out(self, now: float, size: float) -> float:
        """Take KV to the host."""
        self._out_free = max(now, self._out_free) + size / self._bandwidth + self._move_s
        return self._out_free


class WeightSlots:
    """Slots of a device whose copies are made inline (a CPU).

    Slots have equal size; a model stays in its slot until the slot used longest ago is needed.
    """

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
