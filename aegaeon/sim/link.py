"""The host link of one device: weight copies and KV moves share it, one direction each way."""

from __future__ import annotations


class HostLink:
    """A full-duplex PCIe link; KV moves to the device overtake weights that nobody waits for yet.

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
