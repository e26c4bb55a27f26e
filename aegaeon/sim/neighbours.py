"""Instances of one node that slow one another down, as those that share cores and caches do."""

from __future__ import annotations

from typing import Protocol

from aegaeon.core import InstanceSpec, Overheads, Prefill, Work


class Member(Protocol):
    """An instance among others."""

    spec: InstanceSpec

    def repace(self, now: float) -> None:
        """Look at the pace anew: a neighbour began to work, or has nothing to do any more."""
        ...


class Crowd:
    """Which instances work, by node; where no slowdown was measured, nobody notices anybody."""

    def __init__(self, overheads: Overheads) -> None:
        self._prefill = overheads.crowd_prefill
        self._decode = overheads.crowd_decode
        self._matters = max(self._prefill, self._decode) > 1.0
        self._members: dict[int, list[Member]] = {}
        self._working: set[int] = set()

    def join(self, member: Member) -> None:
        """Count an instance of a node."""
        self._members.setdefault(member.spec.node, []).append(member)

    def pace(self, member: Member, work: Work) -> float:
        """Return the factor on `work`: the measured one is with every neighbour at work."""
        if not self._matters:
            return 1.0
        others = [m.spec.id for m in self._members[member.spec.node] if m is not member]
        if not others:
            return 1.0
        crowded = self._prefill if isinstance(work, Prefill) else self._decode
        return 1.0 + (crowded - 1.0) * len(self._working.intersection(others)) / len(others)

    def note(self, member: Member, works: bool, now: float) -> None:
        """Tell the neighbours if an instance begins to work or stops."""
        if not self._matters or works == (member.spec.id in self._working):
            return
        self._working ^= {member.spec.id}
        for other in self._members[member.spec.node]:
            if other is not member:
                other.repace(now)
