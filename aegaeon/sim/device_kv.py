"""KV of a time-shared device: resident, evicted to the host to make room, brought back."""

from __future__ import annotations

from collections.abc import Collection

from aegaeon.core import InstanceSpec
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.kv import KvSpace
from aegaeon.sim.recorder import Recorder
from aegaeon.sim.track import Track
from aegaeon.sim.weights import HostLink


class DeviceKv(KvSpace):
    """KV of the requests at one instance; `link` moves it to the host and back.

    All times are seconds.
    """

    def __init__(self, spec: InstanceSpec, link: HostLink, recorder: Recorder) -> None:
        super().__init__(spec.kv_bytes)
        self._spec = spec
        self._link = link
        self._recorder = recorder

    def clear(self, now: float) -> None:
        """Take every KV off the device: to the host, or away for good (`keep_kv` off)."""
        for track in list(self.residents.values()):
            if self._spec.keep_kv:
                self._evict(track, now)
            else:
                self.release(track)

    def fitting(self, tracks: list[Track]) -> tuple[list[Track], list[Track]]:
        """Cut a prefill batch before the first request for which the device is too small."""
        size = 0
        for position, track in enumerate(tracks):
            size += (track.context + 1) * track.cost.kv_bytes_per_token
            if size > self.capacity:
                return tracks[:position], tracks[position:]
        return tracks, []

    def room_for_prompts(self, tracks: list[Track], ready: float) -> float:
        """Return when the prompts' KV fits: at once, or once enough has left for the host."""
        size = sum([(t.context + 1) * t.cost.kv_bytes_per_token for t in tracks])
        self.drain(ready)
        keep = {t.request.id for t in tracks}
        while self.used + size > self.capacity:
            departure = self.next_departure()
            ready = max(ready, self._evict_one(keep, ready) if departure is None else departure)
            self.drain(ready)
        return ready

    def gather(
        self, tracks: list[Track], ready: float, now: float
    ) -> tuple[list[Track], list[Track]]:
        """Begin at `now` to bring a batch's KV in; return the requests with room, and the others.

        No request overtakes one that found no room: small requests would starve a large one.
        """
        here: list[Track] = []
        skipped: list[Track] = []
        keep: set[int] | None = None
        for track in tracks:
            if not track.on_device:
                keep = {t.request.id for t in tracks} if keep is None else keep
                if skipped or not self._load(track, keep, ready, now):
                    skipped.append(track)
                    continue
            here.append(track)
        return here, skipped

    def room_for_step(
        self, active: list[Track], skipped: list[Track], per_token: int, now: float
    ) -> None:
        """Make room for one step of every active request; the last ones wait if there is none."""
        while self.used + len(active) * per_token > self.capacity:
            active_ids = {t.request.id for t in active}
            if self.victim(active_ids) is not None:
                self._evict_one(active_ids, now)
            else:
                track = active.pop()
                self._evict(track, now)
                skipped.append(track)

    def hand_over(self, track: Track, now: float) -> None:
        """Send a request's KV to the host pool, from which a decoding instance takes it."""
        track.host_at = self._move_out(track, track.kv_bytes, now, now)
        self.depart(track, track.host_at)
        # Turns are counted per instance, and the next instance has not run the request yet.
        track.last_run = 0

    def _load(self, track: Track, keep: Collection[int], ready: float, now: float) -> bool:
        begin = max(now, track.host_at)
        size = track.kv_bytes
        while self.used + size + track.cost.kv_bytes_per_token > self.capacity:
            if self.victim(keep) is None:
                return False
            begin = max(begin, self._evict_one(keep, now))
        self.admit(track)
        track.loaded_at = self._link.move_in(begin, size)
        track.kv_wait_s += max(0.0, track.loaded_at - ready)
        seconds = track.loaded_at - begin
        self._recorder.move(begin, self._spec.id, seconds, size, track.request)
        return True

    def _evict_one(self, keep: Collection[int], now: float) -> float:
        victim = self.victim(keep)
        if victim is None:
            raise ConservationError(f"instance {self._spec.id}: nothing left to evict")
        return self._evict(victim, now)

    def _evict(self, track: Track, now: float) -> float:
        size = self.release(track)
        # A request on its way in waits no longer for this move, but for its next turn.
        track.kv_wait_s -= max(0.0, track.loaded_at - now)
        track.host_at = self._move_out(track, size, max(now, track.loaded_at), now)
        return track.host_at

    def _move_out(self, track: Track, size: int, begin: float, now: float) -> float:
        done = self._link.move_out(begin, size)
        self._recorder.move(now, self._spec.id, done - now, size, track.request, out=True)
        return done
