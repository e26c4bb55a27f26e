"""Tiny random models for tests of the live engine: real architectures, a few hundred kilobytes.

They are written as ordinary Hugging Face folders with a byte-level tokenizer, so an engine cannot
tell them from a checkpoint. Weights are scaled so that greedy tokens vary and depend on the KV
cache: a wrong block changes a token.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegaeon.core import ModelSpec
from aegaeon.live.options import TINY
from aegaeon.live.preflight.checkpoints import DTYPES, check_random

if TYPE_CHECKING:
    from aegaeon.live.events import Adapter
    from aegaeon.live.instance.device_pool import DevicePool
    from aegaeon.live.vllm.engine import ShellOptions
    from aegaeon.live.vllm.model_engine import Shell

VOCABULARY = 512
GREEDY: Mapping[str, Any] = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True}
END = 0
HEAD_DIM = 32


@dataclass(frozen=True, slots=True)
class TinyModel:
    """Shape of a random model; `type` is a Hugging Face model type, `extra` more of its config."""

    name: str
    type: str = "qwen2"
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = HEAD_DIM
    ffn: int = 128
    dtype: str = "float32"
    tied: bool = False
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def build(self, folder: Path) -> Path:
        """Write the model and a byte-level tokenizer below `folder`; return its own folder."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        hidden = self.heads * self.head_dim
        config = AutoConfig.for_model(
            self.type,
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=4096,
            initializer_range=1.0,
            tie_word_embeddings=self.tied,
            bos_token_id=END,
            eos_token_id=END,
            pad_token_id=END,
            **self.extra,
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = AutoModelForCausalLM.from_config(config)
            for name, weight in model.named_parameters():
                if self.tied and "embed" in name:
                    # Else the last token's own embedding outweighs what attention adds.
                    weight.data.mul_(0.05)
                elif weight.dim() == 2 and "embed" not in name and "lm_head" not in name:
                    weight.data.normal_(std=weight.shape[1] ** -0.5)
        path = folder / self.name
        model.to(getattr(torch, self.dtype)).save_pretrained(path)
        _save_tokenizer(path)
        return path


def tiny_model(spec: ModelSpec, seed: int) -> TinyModel:
    """Return a random model of `spec`'s shape.

    Raises UserError unless its type is tiny-ARCHITECTURE, or tiny-ARCHITECTURE-ANYTHING.
    """
    check_random(spec)
    return TinyModel(
        name=spec.name,
        type=spec.type.removeprefix(TINY).partition("-")[0],
        layers=spec.layers,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        ffn=spec.ffn,
        dtype=DTYPES[spec.dtype_bytes],
        seed=seed + 1,
    )


@dataclass(frozen=True, slots=True)
class TinyAdapter:
    """Shape of a random LoRA adapter of all of a tiny model's projections, in PEFT's format."""

    name: str
    rank: int = 4
    seed: int = 0

    def build(self, model: TinyModel, folder: Path) -> Adapter:
        """Write it for `model` below `folder`; it changes most greedy tokens."""
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
    """Return the sizes of every linear layer's input and output, by its name below the layers."""
    hidden, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    sizes = {
        **{f"self_attn.{part}_proj": (hidden, hidden) for part in "qo"},
        **{f"self_attn.{part}_proj": (hidden, kv) for part in "kv"},
        **{f"mlp.{part}_proj": (hidden, model.ffn) for part in ("gate", "up")},
        "mlp.down_proj": (model.ffn, hidden),
    }
    return {f"{i}.{name}": size for i in range(model.layers) for name, size in sizes.items()}


def _save_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["</s>", *alphabet]
    pairs = [(a, b) for a in string.ascii_lowercase for b in string.ascii_lowercase]
    merges = pairs[: VOCABULARY - len(pieces)]
    pieces += [a + b for a, b in merges]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(path)


ZOO: tuple[TinyModel, ...] = (
    TinyModel("qwen-a", "qwen2", seed=1),
    TinyModel("qwen-b", "qwen2", seed=2, tied=True),
    TinyModel("llama", "llama", layers=3, kv_heads=1, dtype="bfloat16", seed=3),
    TinyModel(
        "mistral", "mistral", layers=4, seed=4,
        extra={"sliding_window": 64},
    ),
)  # fmt: skip


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

    def shells(
        self, pool: DevicePool, folder: Path, models: Sequence[TinyModel] = ZOO
    ) -> dict[str, Shell]:
        """Build the models below `folder` and an engine for each on `pool`."""
        from aegaeon.live.vllm.model_engine import Shell

        return {m.name: Shell(m.name, m.build(folder), pool, tiny_options(m)) for m in models}

    def close(self) -> None:
        """Give everything back."""
        self.host_kv.close()
        self.shared.close()


def tiny_options(model: TinyModel) -> ShellOptions:
    """Return how the engines of tiny models are made."""
    from aegaeon.live.vllm.engine import ShellOptions

    return ShellOptions(dtype=model.dtype, max_model_len=256, block_size=32)
