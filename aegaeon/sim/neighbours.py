"""Instances of one node that slow one another down, as those that share cores and caches do."""

from __future__ import annotations

from typing import Protocol

from aegaeon.core import InstanceSpec, Overheads, Prefill, Work


class Neighbour(Protocol):
    """An instance of a node, as the others see it."""

    spec: InstanceSpec

    def repace(self, now: float) -> None:
        """Follow a change of pace: another instance of the node began to work or stopped."""
        ...


class Neighbours:
    """Which instances work, by node. Without a measured slowdown, none slows another down."""

    def __init__(self, overheads: Overheads) -> None:
        self._prefill = overheads.crowd_prefill
        self._decode = overheads.crowd_decode
        self._matters = max(self._prefill, self._decode) > 1.0
        self._nodes: dict[int, list[Neighbour]] = {}
        self._working: set[int] = set()

    def join(self, instance: Neighbour) -> None:
        """Add an instance to its node."""
        self._nodes.setdefault(instance.spec.node, []).append(instance)

    def pace(self, instance: Neighbour, work: Work) -> float:
        """Return the factor on the time of `work` on `instance`.

        The measured slowdown is with all neighbours at work; it is scaled by the share that works.
        """
        if not self._matters:
            return 1.0
        others = [n.spec.id for n in self._nodes[instance.spec.node] if n is not instance]
        if not others:
            return 1.0
        measured = self._prefill if isinstance(work, Prefill) else self._decode
        return 1.0 + (measured - 1.0) * len(self._working.intersection(others)) / len(others)

    def note(self, instance: Neighbour, works: bool, now: float) -> None:
        """Tell the neighbours if an instance begins to work or stops."""
        if not self._matters or works == (instance.spec.id in self._working):
            return
        self._working ^= {instance.spec.id}
        for other in self._nodes[instance.spec.node]:
            if other is not instance:
                other.repace(now)
