"""Quantized copies of tiny models, in the formats that vLLM's CPU build runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GROUP = 32
# The order in which AWQ packs eight output channels.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Format:
    """The stored form of a linear layer's weight; `weight` is the name in the loaded layer."""

    convert: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    config: dict[str, Any]
    weight: str
    dtype: str = "bfloat16"

    def build(self, source: Path, path: Path) -> Path:
        """Write a copy of the model at `source` with quantized linear layers."""
        shutil.copytree(source, path)
        tensors = {}
        for name, tensor in load_file(source / "model.safetensors").items():
            if "_proj.weight" in name:
                stem = name.removesuffix("weight")
                tensors |= {stem + k: v.contiguous() for k, v in self.convert(tensor).items()}
            else:
                tensors[name] = tensor
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((path / "config.json").read_text())
        config["quantization_config"] = self.config
        (path / "config.json").write_text(json.dumps(config))
        return path


def packed(numbers, axis):
    """Pack eight 4-bit numbers into an int32 along an axis."""
    parts = numbers.to(torch.int32).unflatten(axis, (-1, 8)).movedim(axis + 1, 0)
    total = torch.zeros_like(parts[0])
    for at, part in enumerate(parts):
        total |= part << 4 * at
    return total


def grouped(weight):
    """Return numbers from 0 to 15 with 8 for zero, [out, in], and scales, [out, in / GROUP]."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    scales = groups.abs().amax(2, keepdim=True) / 7
    return ((groups / scales).round() + 8).flatten(1), scales.squeeze(2).to(weight.dtype)


def by_channel(weight, top, dtype):
    scales = weight.float().abs().amax(1, keepdim=True) / top
    numbers = weight.float() / scales
    numbers = numbers if dtype.is_floating_point else numbers.round()
    return {"weight": numbers.to(dtype), "weight_scale": scales}


def pack_quantized(weight):
    numbers, scales = grouped(weight)
    shape = torch.tensor(weight.shape)
    return {"weight_packed": packed(numbers, 1), "weight_scale": scales, "weight_shape": shape}


def gptq(weight):
    numbers, scales = grouped(weight)
    # GPTQ stores a zero less one.
    zeros = torch.full(scales.t().shape, 7)
    return {
        "qweight": packed(numbers.t(), 0),
        "scales": scales.t(),
        "qzeros": packed(zeros, 1),
        "g_idx": (torch.arange(weight.shape[1]) // GROUP).to(torch.int32),
    }


def awq(weight):
    numbers, scales = grouped(weight)
    ordered = numbers.t().unflatten(1, (-1, 8))[..., AWQ_ORDER].flatten(1)
    zeros = torch.full(scales.t().shape, 8)
    return {"qweight": packed(ordered, 1), "scales": scales.t(), "qzeros": packed(zeros, 1)}


def compressed(kind, weights, inputs=None):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": kind,
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


def numbers(kind, bits, strategy, **more):
    return {"type": kind, "num_bits": bits, "strategy": strategy, "symmetric": True, **more}


INT8 = numbers("int", 8, "channel")
FP8 = numbers("float", 8, "channel")
BY_GROUP = numbers("int", 4, "group", group_size=GROUP)
FORMATS = {
    "int8": Format(
        lambda w: by_channel(w, 127, torch.int8),
        compressed("int-quantized", INT8, numbers("int", 8, "token", dynamic=True)),
        "weight",
        "float32",
    ),
    "fp8": Format(
        lambda w: by_channel(w, 448, torch.float8_e4m3fn),
        compressed("float-quantized", FP8, numbers("float", 8, "token", dynamic=True)),
        "weight",
        "float32",
    ),
    "int4": Format(pack_quantized, compressed("pack-quantized", BY_GROUP), "weight_packed"),
    "gptq": Format(
        gptq,
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True},
        "qweight",
    ),
    "awq": Format(
        awq,
        {
            "quant_method": "awq",
            "bits": 4,
            "group_size": GROUP,
            "zero_point": True,
            "version": "gemm",
        },
        "qweight",
    ),
}
