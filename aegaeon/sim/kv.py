"""KV memory of one simulated device: bytes of whole requests, or tokens granted ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.track import Track

GRANT_TOKENS = 256


class KvSpace:
    """Bytes of KV on one device; `used` counts residents and copies on their way out."""

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
        """Count the new tokens of a segment in."""
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


class KvGrants:
    """KV memory handed out `GRANT_TOKENS` at a time.

    Requests ask at the same tokens of their lives, whatever the length of the segments between. A
    run does therefore not depend on how decoding is cut into segments.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = int(capacity)
        self._free = self._capacity
        self._held: dict[int, int] = {}

    def ask(self, track: Track) -> bool:
        """Make room for the request's next token; return False if not even one token has room."""
        held = self._held.get(track.request.id, 0)
        missing = track.context + 1 - held
        if missing <= 0:
            return True
        size = track.cost.kv_bytes_per_token
        tokens = min(missing + GRANT_TOKENS - 1, self._free // size)
        if tokens < missing:
            return False
        self._free -= tokens * size
        self._held[track.request.id] = held + tokens
        return True

    def spare(self, track: Track) -> int:
        """Return how many tokens the request can gain before it must ask again."""
        return self._held[track.request.id] - track.context

    def release(self, track: Track) -> None:
        """Take back what the request holds, if anything."""
        self._free += self._held.pop(track.request.id, 0) * track.cost.kv_bytes_per_token

    def audit(self) -> None:
        """Check at the end that every byte is free again."""
        if self._held or self._free != self._capacity:
            raise ConservationError(f"KV grants: {len(self._held)} requests still hold some")
