"""Weights on one device: the host link that brings them, and the slots in which they lie."""

from __future__ import annotations


class HostLink:
    """A full-duplex PCIe link for weight copies and KV moves; the two directions are independent.

    KV moves to the device overtake a weight copy that the device does not wait for yet. A KV move
    takes `move_s` in addition to its bytes. Every method returns when its copy is complete. Times
    are seconds, sizes bytes.
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
        """Wait for the weight copy: no further KV move overtakes it."""
        self._in_free = max(self._in_free, self.weights_ready)
        return max(now, self.weights_ready)

    def move_in(self, now: float, size: float) -> float:
        """Bring KV to the device; a weight copy that it overtakes is delayed by the same time."""
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
    """Weight slots of equal size on a device with inline copies (a CPU).

    A model stays in its slot until another model needs the slot that was used longest ago.
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
