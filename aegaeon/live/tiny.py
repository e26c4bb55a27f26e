"""Tiny random models for live runs without checkpoints: real architectures, some hundred kilobytes.

A tiny model is an ordinary Hugging Face folder with a byte-level tokenizer, as a checkpoint is.
Weights are scaled so that greedy tokens vary and depend on the KV cache: a wrong block changes a
token.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegaeon.core import ModelSpec
from aegaeon.live.options import TINY
from aegaeon.live.preflight.checkpoints import DTYPES, check_random

if TYPE_CHECKING:
    from aegaeon.live.vllm.engine import ModelEngineOptions

VOCABULARY = 512
GREEDY: Mapping[str, Any] = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True}
END = 0
HEAD_DIM = 32


@dataclass(frozen=True, slots=True)
class TinyModel:
    """The shape of a random model; `type` is a Hugging Face model type, `extra` further config."""

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
        """Write the model and a byte-level tokenizer below `folder`; return the model's folder."""
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
                    # Without this the last token's embedding outweighs the output of attention.
                    weight.data.mul_(0.05)
                elif weight.dim() == 2 and "embed" not in name and "lm_head" not in name:
                    weight.data.normal_(std=weight.shape[1] ** -0.5)
        path = folder / self.name
        model.to(getattr(torch, self.dtype)).save_pretrained(path)
        _save_tokenizer(path)
        return path


def tiny_model(spec: ModelSpec, seed: int) -> TinyModel:
    """Return a random model of `spec`'s shape.

    Raises UserError unless the type is tiny-ARCHITECTURE, or tiny-ARCHITECTURE-ANYTHING.
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


def tiny_options(model: TinyModel) -> ModelEngineOptions:
    """Return the options of a tiny model's engine."""
    from aegaeon.live.vllm.engine import ModelEngineOptions

    return ModelEngineOptions(dtype=model.dtype, max_model_len=256, block_size=32)
