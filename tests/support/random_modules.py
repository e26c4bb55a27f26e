"""Random modules with the features of real ones: ties, views, buffers, mixed types, odd strides."""

from __future__ import annotations

import hypothesis.strategies as st
import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.int64)
SHAPES = st.lists(st.integers(0, 7), max_size=3).map(tuple)


def random_bytes(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 100, shape, generator=generator).to(dtype)


def odd_strides(tensor: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the same values transposed in memory, with gaps, or off the storage's start."""
    if kind == "transposed":
        turned = list(reversed(range(tensor.dim())))
        return tensor.permute(turned).contiguous().permute(turned)
    if kind == "gaps" and tensor.dim():
        wide = torch.cat([tensor, tensor], dim=-1)
        return wide[..., : tensor.shape[-1]]
    if kind == "shifted":
        flat = torch.cat([tensor.flatten()[:1], tensor.flatten()])
        return flat[-tensor.numel() :].view(tensor.shape) if tensor.numel() else tensor
    return tensor


class Node(torch.nn.Module):
    """A module without a forward pass: only its tensors matter."""


@st.composite
def modules(draw: st.DrawFn) -> torch.nn.Module:
    root = Node()
    root.child = Node()
    made: list[torch.Tensor] = []
    for index in range(draw(st.integers(1, 6))):
        owner = draw(st.sampled_from([root, root.child]))
        kind = draw(st.sampled_from(["plain", "transposed", "gaps", "shifted", "tied", "part"]))
        if kind in ("tied", "part") and made:
            tensor = draw(st.sampled_from(made))
            if kind == "part" and tensor.dim() and tensor.shape[0] > 1:
                tensor = tensor.data[draw(st.integers(0, tensor.shape[0] - 1)) :]
        else:
            dtype = draw(st.sampled_from(DTYPES))
            tensor = odd_strides(random_bytes(draw(SHAPES), dtype, draw(st.integers(0, 99))), kind)
        if draw(st.booleans()):
            if not isinstance(tensor, torch.nn.Parameter):
                tensor = torch.nn.Parameter(tensor, requires_grad=False)
            owner.register_parameter(f"p{index}", tensor)
        else:
            owner.register_buffer(f"b{index}", tensor.data, persistent=draw(st.booleans()))
        made.append(tensor)
    return root


def mlp(seed: int, hidden: int = 24, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Return a network with a batch norm's buffers and one weight tied across two layers."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(8, hidden),
        torch.nn.BatchNorm1d(hidden),
        torch.nn.Linear(hidden, hidden),
        torch.nn.Linear(hidden, hidden, bias=False),
        torch.nn.Linear(hidden, 8),
    )
    net[3].weight = net[2].weight
    net[1].running_mean.normal_()
    return net.to(dtype).eval()
