"""KV memory of one simulated device: who is resident, how many bytes, who leaves first."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from aegaeon.sim.track import ConservationError, Track


class KvSpace:
    """Bytes of KV on one device: `used` is what residents and copies on their way out occupy."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.used = 0
        self.residents: dict[int, Track] = {}
        self._leaving: deque[tuple[float, int]] = deque()

    def admit(self, track: Track) -> None:
        """Count a request's KV in; there must be room."""
        self.used += track.kv_bytes
        self.residents[track.request.id] = track
        track.on_device = True
        self._check()

    def release(self, track: Track) -> int:
        """Count a request's KV out and return its bytes."""
        size = track.kv_bytes
        self.used -= size
        del self.residents[track.request.id]
        track.on_device = False
        self._check()
        return size

    def depart(self, track: Track, until: float) -> None:
        """Let a request go whose bytes stay occupied until its copy to the host is complete."""
        self._leaving.append((until, track.kv_bytes))
        del self.residents[track.request.id]
        track.on_device = False

    def drain(self, now: float) -> None:
        """Free the bytes of every copy complete by `now`."""
        while self._leaving and self._leaving[0][0] <= now:
            self.used -= self._leaving.popleft()[1]

    def next_departure(self) -> float | None:
        """Return when the next copy out is complete, if any is under way."""
        return self._leaving[0][0] if self._leaving else None

    def grow(self, size: int) -> None:
        """Count the new tokens of a decode segment in."""
        self.used += size
        self._check()

    def victim(self, keep: Collection[int]) -> Track | None:
        """Return the resident to evict first: in a round, the last to run is the last to return."""
        best = None
        for ident, track in self.residents.items():
            if ident not in keep and (best is None or track.last_run > best.last_run):
                best = track
        return best

    def audit(self) -> None:
        """Recount every resident; called when a simulation ends."""
        total = sum(track.kv_bytes for track in self.residents.values())
        total += sum(size for _, size in self._leaving)
        if total != self.used:
            raise ConservationError(f"KV bytes: {self.used} counted, {total} resident")

    def _check(self) -> None:
        if not 0 <= self.used <= self.capacity:
            raise ConservationError(f"KV bytes: {self.used} used of {self.capacity}")
