"""One actor per node: owns the shared memory that the node's instances map, and nothing else.

It outlives the instances, so no hand-over depends on which of them is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aegaeon.core import ModelSpec
from aegaeon.engine.events import HostKv
from aegaeon.engine.memory import KvPool, SharedDirectory, remove_leftovers
from aegaeon.engine.options import TINY, LiveOptions
from aegaeon.engine.testing import TinyModel
from aegaeon.errors import UserError

DTYPES = {2: "bfloat16", 4: "float32"}


class NodeAgent:
    """Reserves a node's host KV pool and finds or builds the models' checkpoints."""

    def __init__(self, options: LiveOptions) -> None:
        remove_leftovers()
        self._options = options
        self._shared = SharedDirectory.create("node")
        self._pool = KvPool.create(self._shared, options.slab_bytes, options.slabs)

    def prepare(self, models: Sequence[ModelSpec]) -> tuple[str, dict[str, str]]:
        """Return the shared directory and each model's checkpoint folder.

        Models of a type without a checkpoint are random; model i is the same on every node.
        """
        folder = self._shared.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        paths = {}
        for i, spec in enumerate(models):
            given = self._options.checkpoints.get(spec.type)
            made = tiny_model(spec, i).build(folder) if given is None else Path(given)
            paths[spec.name] = str(made)
        return str(self._shared.path), paths

    def discard(self, kv: HostKv) -> None:
        """Free KV that nobody on this node will load."""
        self._pool.free(kv.offsets)

    def used_bytes(self) -> int:
        """Return the bytes of KV that the host pool holds."""
        return sum([use.used for use in self._pool.stats().values()])

    def close(self) -> None:
        """Remove the shared memory."""
        self._pool.close()
        self._shared.close()


def tiny_model(spec: ModelSpec, seed: int) -> TinyModel:
    """Return a random model of `spec`'s shape; UserError unless its type is tiny-ARCHITECTURE."""
    if not spec.type.startswith(TINY):
        raise UserError(
            f"backend.checkpoints: no folder for model type {spec.type}; give one, as in "
            f"'backend.checkpoints={{{spec.type}: FOLDER}}'"
        )
    if spec.hidden != spec.heads * spec.head_dim or spec.dtype_bytes not in DTYPES:
        raise UserError(
            f"conf/model/{spec.type}.yaml: a tiny model needs hidden = heads * head_dim and "
            f"dtype_bytes 2 or 4, got {spec.hidden}, {spec.heads} * {spec.head_dim}, "
            f"{spec.dtype_bytes}"
        )
    return TinyModel(
        name=spec.name,
        type=spec.type.removeprefix(TINY),
        layers=spec.layers,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        ffn=spec.ffn,
        dtype=DTYPES[spec.dtype_bytes],
        seed=seed + 1,
    )
