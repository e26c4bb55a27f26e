import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory.device import CpuDevice  # noqa: E402
from aegaeon.live.memory.weight_arena import WeightArena  # noqa: E402
from aegaeon.live.memory.weight_layout import (  # noqa: E402
    ALIGN,
    WeightLayout,
    named_tensors,
)
from tests.support.fake_device import FakeDevice  # noqa: E402
from tests.support.random_modules import mlp, modules  # noqa: E402


def values(module):
    return {name: tensor.detach().clone() for name, tensor in named_tensors(module).items()}


def same_pointers(module):
    """Return which names alias: equal sets before and after mean that ties were kept."""
    named = {n: t for n, t in named_tensors(module).items() if t.numel()}
    return {(a, b) for a in named for b in named if named[a].data_ptr() == named[b].data_ptr()}


def assert_holds(module, expected):
    for name, tensor in named_tensors(module).items():
        assert torch.equal(tensor, expected[name]), name


@settings(max_examples=60, deadline=None)
@given(module=modules(), other=modules(), repoint=st.booleans(), slots=st.integers(1, 3))
def test_binding_and_switching_keep_values_strides_and_ties(module, other, repoint, slots):
    both = {"m": module, "n": other}
    expected = {name: values(each) for name, each in both.items()}
    ties = {name: same_pointers(each) for name, each in both.items()}
    strides = {n: [t.stride() for t in named_tensors(m).values()] for n, m in both.items()}
    layouts = {name: WeightLayout.of(each) for name, each in both.items()}
    packed = {name: layouts[name].pack(each) for name, each in both.items()}
    size = max(layout.nbytes for layout in layouts.values())
    arena = WeightArena(CpuDevice(), size, slots, repoint)
    for name, each in both.items():
        arena.bind(name, each, layouts[name])
    for name in ("m", "n", "m", "m", "n"):
        arena.switch(name, packed[name])
        assert_holds(both[name], expected[name])
        assert same_pointers(both[name]) == ties[name]
        assert [t.stride() for t in named_tensors(both[name]).values()] == strides[name]
    assert WeightLayout.of(other) == layouts["n"]
    assert torch.equal(layouts["n"].pack(other), packed["n"])


def test_tied_weights_take_their_bytes_once():
    net = mlp(0)
    layout = WeightLayout.of(net)
    offsets = {tensor.name: tensor.offset for tensor in layout.tensors}
    unique = {id(t): t.nbytes for t in [*net.parameters(), *net.buffers()]}
    assert offsets["2.weight"] == offsets["3.weight"]
    assert sum(unique.values()) <= layout.nbytes < sum(unique.values()) + ALIGN * len(unique)
    assert all(offset % ALIGN == 0 for offset in offsets.values())


def test_overlapping_views_of_other_types_stay_aligned():
    raw = torch.arange(64, dtype=torch.uint8)
    module = torch.nn.Module()
    module.register_buffer("bytes", raw[3:20])
    module.register_buffer("floats", raw[4:16].view(torch.float32))
    expected = values(module)
    layout = WeightLayout.of(module)
    packed = layout.pack(module)
    arena = WeightArena(CpuDevice(), layout.nbytes)
    arena.bind("m", module, layout)
    arena.switch("m", packed)
    assert_holds(module, expected)
    module.bytes[1:5] = 0
    assert module.floats[0] == 0


def test_digest_tells_layouts_apart_and_not_values():
    assert WeightLayout.of(mlp(0)).digest == WeightLayout.of(mlp(1)).digest
    assert WeightLayout.of(mlp(0)).digest != WeightLayout.of(mlp(0, hidden=25)).digest
    half = WeightLayout.of(mlp(0, dtype=torch.bfloat16))
    assert half.digest != WeightLayout.of(mlp(0)).digest


def test_packing_another_architecture_is_refused():
    with pytest.raises(ValueError, match="differ from this layout"):
        WeightLayout.of(mlp(0)).pack(mlp(0, hidden=25))


def test_tensors_without_plain_bytes_are_refused():
    sparse = torch.nn.Module()
    sparse.register_buffer("s", torch.eye(3).to_sparse())
    with pytest.raises(UserError, match=r"weight s: .*sparse"):
        WeightLayout.of(sparse)
    with pytest.raises(UserError, match="weight weight: a meta tensor"):
        WeightLayout.of(torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="neither parameters nor buffers"):
        WeightLayout.of(torch.nn.ReLU())


def test_expanded_buffers_stay_expanded():
    module = torch.nn.Module()
    module.register_buffer("e", torch.arange(4.0).expand(1000, 4))
    layout = WeightLayout.of(module)
    assert layout.nbytes == ALIGN
    arena = WeightArena(FakeDevice(), layout.nbytes)
    packed = layout.pack(module)
    arena.bind("m", module, layout)
    arena.switch("m", packed).ready.synchronize()
    assert torch.equal(module.e, torch.arange(4.0).expand(1000, 4))
