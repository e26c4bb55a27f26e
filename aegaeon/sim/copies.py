"""How copies of weights meet the steps of a simulated instance: at the same time, or between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aegaeon.core import CostModel, InstanceSpec
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.sim.weights import HostLink, WeightSlots


class Copies(Protocol):
    """When the weights of a model are in place; all times are seconds."""

    def activate(self, model: str, now: float) -> tuple[float, bool]:
        """Change to `model`; return when its weights are in place and if they were prefetched."""
        ...

    def before_work(self, hint: str | None, ready: float, now: float) -> tuple[float, float]:
        """Do what precedes a work item; its weights are in place at `ready`.

        `hint` is the model to prefetch. Return when the work may begin, and from when its KV may be
        copied.
        """
        ...

    def after_start(self, hint: str | None, ready: float) -> None:
        """Do what happens while a work item runs; its weights are in place at `ready`."""
        ...

    def first_step(self, ready: float, loaded: Sequence[float]) -> float:
        """Return when decoding begins; `loaded` has when the KV of each request is there."""
        ...


class Overlapped:
    """Copies and steps overlap (a GPU); a second weight slot receives the prefetched model."""

    def __init__(self, spec: InstanceSpec, link: HostLink, costs: CostModel) -> None:
        self._spec = spec
        self._link = link
        self._costs = costs
        self._scale = spec.device.link_bandwidth / spec.link_bandwidth
        self._model: str | None = None
        self._prefetched: str | None = None

    def activate(self, model: str, now: float) -> tuple[float, bool]:
        """Wait for the copy of the weights, begun now unless they were prefetched."""
        prefetched = model == self._prefetched
        if not prefetched:
            self._copy(model, now)
        ready = self._link.await_weights(now)
        if prefetched:
            ready += self._costs[model].switch.activate_s
        self._model, self._prefetched = model, None
        return ready, prefetched

    def before_work(self, hint: str | None, ready: float, now: float) -> tuple[float, float]:
        """Do nothing: KV is copied while weights are."""
        return ready, now

    def after_start(self, hint: str | None, ready: float) -> None:
        """Begin to prefetch `hint` unless it is there."""
        if hint is None:
            return
        if self._spec.weight_slots < 2:
            raise ConservationError(f"instance {self._spec.id} has no slot to prefetch into")
        if hint not in (self._model, self._prefetched):
            self._prefetched = hint
            self._copy(hint, ready)

    def first_step(self, ready: float, loaded: Sequence[float]) -> float:
        """Begin when the KV of the first request is there."""
        return max(ready, min(loaded))

    def _copy(self, model: str, now: float) -> None:
        self._link.copy_weights(now, self._costs[model].switch.host_s * self._scale)


class Inline:
    """One thread copies and runs steps in turn (a CPU); weights stay in their slots."""

    def __init__(self, spec: InstanceSpec, costs: CostModel) -> None:
        self._slots = WeightSlots(spec.weight_slots)
        self._costs = costs

    def activate(self, model: str, now: float) -> tuple[float, bool]:
        """Copy the weights unless they are in a slot."""
        switch, there = self._costs[model].switch, self._slots.use(model)
        return now + (switch.activate_s if there else switch.host_s), there

    def before_work(self, hint: str | None, ready: float, now: float) -> tuple[float, float]:
        """Copy the prefetched model's weights before the first step, unless they are in a slot."""
        if hint is not None and not self._slots.use(hint):
            switch = self._costs[hint].switch
            ready += max(0.0, switch.host_s - switch.activate_s)
        return ready, ready

    def after_start(self, hint: str | None, ready: float) -> None:
        """Do nothing: the thread is busy with the work."""

    def first_step(self, ready: float, loaded: Sequence[float]) -> float:
        """Begin when the KV of every request is there."""
        return max(ready, max(loaded))
