"""Parts for tests of the live engine: four tiny models, LoRA adapters, a node of memory.

An import needs neither torch nor vLLM; building a model, an adapter or a node does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aegaeon.live.tiny import TinyModel, tiny_options

if TYPE_CHECKING:
    import torch

    from aegaeon.live.events import Adapter
    from aegaeon.live.instance.device_pool import DevicePool
    from aegaeon.live.vllm.model_engine import ModelEngine

ZOO: tuple[TinyModel, ...] = (
    TinyModel("qwen-a", "qwen2", seed=1),
    TinyModel("qwen-b", "qwen2", seed=2, tied=True),
    TinyModel("llama", "llama", layers=3, kv_heads=1, dtype="bfloat16", seed=3),
    TinyModel(
        "mistral", "mistral", layers=4, seed=4,
        extra={"sliding_window": 64},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TinyAdapter:
    """Shape of a random LoRA adapter of all of a tiny model's projections, in PEFT's format."""

    name: str
    rank: int = 4
    seed: int = 0

    def build(self, model: TinyModel, folder: Path) -> Adapter:
        """Write the adapter for `model` below `folder`; the adapter changes most greedy tokens."""
        import torch
        from safetensors.torch import save_file

        from aegaeon.live.events import Adapter

        path = folder / f"{model.name}-{self.name}"
        path.mkdir(exist_ok=True)
        rng = torch.Generator().manual_seed(self.seed)
        tensors: dict[str, torch.Tensor] = {}
        for module, (wide, high) in _projections(model).items():
            stem = f"base_model.model.model.layers.{module}"
            down = torch.randn(self.rank, wide, generator=rng) * wide**-0.5
            up = torch.randn(high, self.rank, generator=rng) * self.rank**-0.5
            tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        save_file(tensors, path / "adapter_model.safetensors")
        targets = sorted({name.split(".")[-1] for name in _projections(model)})
        config = {"r": self.rank, "lora_alpha": self.rank, "target_modules": targets}
        text = json.dumps({"peft_type": "LORA", "bias": "none", **config})
        (path / "adapter_config.json").write_text(text)
        return Adapter(self.name, str(path))


def _projections(model: TinyModel) -> dict[str, tuple[int, int]]:
    """Return the input and output size of every linear layer, by the name below the layers."""
    hidden, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    sizes = {
        **{f"self_attn.{part}_proj": (hidden, hidden) for part in "qo"},
        **{f"self_attn.{part}_proj": (hidden, kv) for part in "kv"},
        **{f"mlp.{part}_proj": (hidden, model.ffn) for part in ("gate", "up")},
        "mlp.down_proj": (model.ffn, hidden),
    }
    return {f"{i}.{name}": size for i in range(model.layers) for name, size in sizes.items()}


class TinyNode:
    """One node's shared memory and the devices on it, all on the CPU."""

    def __init__(self, slab_bytes: int = 1 << 20, slabs: int = 32) -> None:
        from aegaeon.live.memory.device import open_device
        from aegaeon.live.memory.kv_pool import KvPool
        from aegaeon.live.memory.shared import SharedDirectory
        from aegaeon.live.memory.weight_cache import WeightCache

        self.shared = SharedDirectory.create("tests")
        self.device = open_device("cpu")
        self.cache = WeightCache(self.shared, 2 << 30, self.device)
        self.host_kv = KvPool.create(self.shared, slab_bytes, slabs, self.device)

    def pool(
        self, kv_bytes: int = 1 << 20, slot_bytes: int = 4 << 20, weight_slots: int = 2
    ) -> DevicePool:
        """Reserve a device's memory."""
        from aegaeon.live.instance.device_pool import DevicePool

        return DevicePool(
            self.device,
            self.cache,
            self.host_kv,
            slot_bytes=slot_bytes,
            kv_bytes=kv_bytes,
            weight_slots=weight_slots,
        )

    def engines(
        self, pool: DevicePool, folder: Path, models: Sequence[TinyModel] = ZOO
    ) -> dict[str, ModelEngine]:
        """Build the models below `folder` and an engine for each on `pool`."""
        from aegaeon.live.vllm.model_engine import ModelEngine

        return {m.name: ModelEngine(m.name, m.build(folder), pool, tiny_options(m)) for m in models}

    def close(self) -> None:
        """Free the shared memory."""
        self.host_kv.close()
        self.shared.close()
