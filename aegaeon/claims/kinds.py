"""Every kind of claim by the name that `claims.yaml` uses; a new module adds its own here."""

from __future__ import annotations

from collections.abc import Mapping

from aegaeon.claims import bench, checks, distributions, fidelity
from aegaeon.claims.model import Kind

KINDS: Mapping[str, Kind] = {
    **checks.KINDS,
    **distributions.KINDS,
    **fidelity.KINDS,
    **bench.KINDS,
}
