import gc
import weakref

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory.device import CpuDevice  # noqa: E402
from aegaeon.live.memory.weight_arena import WeightArena  # noqa: E402
from aegaeon.live.memory.weight_layout import WeightLayout, named_tensors  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402
from tests.support.random_modules import mlp  # noqa: E402

HIDDEN = {"a": 24, "b": 40, "c": 16}


class Market:
    """Three bound networks, their packed bytes, an input and each one's output alone."""

    def __init__(self, device, slots, repoint=None):
        self.nets = {name: mlp(seed, HIDDEN[name]) for seed, name in enumerate(HIDDEN)}
        self.x = torch.randn(3, 8)
        self.alone = {name: net(self.x).detach() for name, net in self.nets.items()}
        layouts = {name: WeightLayout.of(net) for name, net in self.nets.items()}
        self.packed = {name: layouts[name].pack(net) for name, net in self.nets.items()}
        self.arena = WeightArena(
            device, max(p.numel() for p in self.packed.values()), slots, repoint
        )
        for name, net in self.nets.items():
            self.arena.bind(name, net, layouts[name])

    def switch(self, name):
        return self.arena.switch(name, self.packed[name])

    def prefetch(self, name):
        return self.arena.prefetch(name, self.packed[name])


@settings(max_examples=15, deadline=None)
@given(
    schedule=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=25),
    slots=st.integers(2, 3),
    repoint=st.booleans(),
    background=st.booleans(),
)
def test_outputs_are_those_of_each_model_alone(schedule, slots, repoint, background):
    market = Market(CpuDevice(background), slots, repoint)
    for name, hint in schedule:
        market.switch(name)
        market.prefetch(hint)
        assert torch.equal(market.nets[name](market.x), market.alone[name])


@pytest.mark.parametrize("repoint", [True, False])
def test_a_prefetched_model_is_not_read_from_the_host_again(repoint):
    market = Market(CpuDevice(), 2, repoint)
    assert market.switch("a").source == "host"
    market.prefetch("b").synchronize()
    market.packed["b"].zero_()
    assert market.arena.resident("b")
    assert market.switch("b").source == "slot"
    assert torch.equal(market.nets["b"](market.x), market.alone["b"])
    assert market.switch("b").source == "active"
    assert market.switch("b").nbytes == 0


def test_fixed_addresses_never_move():
    market = Market(FakeDevice(fixed_addresses=True), 2)
    before = [tensor.data_ptr() for tensor in named_tensors(market.nets["b"]).values()]
    for name in ("a", "b", "c", "b"):
        market.prefetch(name)
        market.switch(name)
        after = [tensor.data_ptr() for tensor in named_tensors(market.nets["b"]).values()]
        assert after == before


def test_a_wrong_hint_keeps_what_was_prefetched():
    market = Market(CpuDevice(), 2)
    market.switch("a")
    market.prefetch("b")
    assert market.switch("c").source == "host"
    assert market.switch("b").source == "slot"


def test_refusals_name_the_sizes():
    market = Market(CpuDevice(), 1)
    big = mlp(0, hidden=200)
    layout = WeightLayout.of(big)
    with pytest.raises(
        UserError, match=f"model big.*{layout.nbytes:,}.*{market.arena.slot_bytes:,}"
    ):
        market.arena.bind("big", big, layout)
    with pytest.raises(UserError, match="two slots"):
        market.prefetch("a")
    with pytest.raises(ValueError, match="expected"):
        market.arena.switch("a", market.packed["b"])
    with pytest.raises(UserError, match="bytes and slots"):
        WeightArena(CpuDevice(), 0)


def test_a_tensor_of_two_models_is_refused():
    market = Market(CpuDevice(), 1)
    thief = torch.nn.Module()
    thief.register_buffer("norm", market.nets["a"][1].running_mean)
    with pytest.raises(ValueError, match="model thief: tensor norm"):
        market.arena.bind("thief", thief, WeightLayout.of(thief))


def test_an_unbound_model_leaves_its_slot():
    market = Market(CpuDevice(), 2)
    market.switch("a")
    market.arena.unbind("a")
    assert not market.arena.resident("a")
    assert market.arena.active is None


def test_a_host_copy_lives_until_it_has_been_read():
    device = FakeDevice()
    market = Market(device, 2)
    # A GPU's queue holds no reference to the memory that it will read.
    device.streams[1].copy = lambda dst, src: None
    event = market.prefetch("a")
    source = weakref.ref(market.packed.pop("a"))
    gc.collect()
    assert source() is not None
    event.synchronize()
    market.prefetch("b")
    gc.collect()
    assert source() is None


def constant(value, size):
    module = torch.nn.Module()
    module.register_buffer("value", torch.full((size,), value, dtype=torch.uint8))
    return module


class Streams(RuleBasedStateMachine):
    """Kernels queued after a switch see that model's weights, however streams interleave."""

    @initialize(slots=st.integers(2, 3), fixed=st.booleans())
    def start(self, slots, fixed):
        self.device = FakeDevice(fixed_addresses=fixed)
        self.arena = WeightArena(self.device, 256, slots)
        self.modules = {name: constant(ord(name), 10 + ord(name)) for name in "abc"}
        self.packed = {}
        for name, module in self.modules.items():
            layout = WeightLayout.of(module)
            self.packed[name] = layout.pack(module)
            self.arena.bind(name, module, layout)
        self.wrong = []

    @rule(name=st.sampled_from("abc"))
    def switch_and_run(self, name):
        self.arena.switch(name, self.packed[name])
        weights = self.modules[name].value.data

        def kernel():
            if not weights.eq(ord(name)).all():
                self.wrong.append(name)

        self.device.compute().launch(kernel)

    @rule(name=st.sampled_from("abc"))
    def prefetch(self, name):
        self.arena.prefetch(name, self.packed[name])

    @rule(stream=st.integers(0, 1), steps=st.integers(1, 8))
    def advance(self, stream, steps):
        for _ in range(steps):
            self.device.streams[stream].advance()

    @invariant()
    def every_kernel_read_its_model(self):
        assert getattr(self, "wrong", []) == []

    def teardown(self):
        if hasattr(self, "device"):
            self.device.run_all()
            assert [len(stream) for stream in self.device.streams] == [0, 0]
            assert self.wrong == []


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
