import threading

import pytest

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory.device import (  # noqa: E402
    CpuDevice,
    CudaDevice,
    open_device,
)
from aegaeon.live.memory.weight_arena import WeightArena  # noqa: E402
from aegaeon.live.memory.weight_layout import WeightLayout  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402
from tests.support.random_modules import mlp  # noqa: E402


def full(value, n=64):
    return torch.full((n,), value, dtype=torch.uint8)


def test_cpu_memory_is_zeroed_aligned_and_copies_are_done_at_once():
    device = open_device("cpu")
    memory = device.reserve(1 << 20)
    assert memory.data_ptr() % 4096 == 0
    assert not memory.any()
    stream = device.stream()
    stream.copy(memory[:64], full(7))
    assert stream.record().done()
    assert memory[:64].eq(7).all()
    strided = torch.zeros(64, 2, dtype=torch.uint8)
    stream.copy(strided[:, 0], full(9))
    assert strided[:, 0].eq(9).all()
    assert not strided[:, 1].any()
    stream.launch(lambda: memory.fill_(5))
    assert memory.eq(5).all()


@pytest.mark.parametrize("device", [CpuDevice(), FakeDevice()])
def test_copies_of_different_sizes_are_refused(device):
    with pytest.raises(ValueError, match="copy of"):
        device.compute().copy(full(0, 63), full(1, 64))


def test_background_copies_wait_in_order_without_blocking_the_caller():
    device = CpuDevice(background=True)
    gate, fake = threading.Event(), FakeDevice()

    class Gate:
        def done(self):
            return gate.is_set()

        def synchronize(self):
            gate.wait(10)

    target, stream = full(0), device.stream()
    stream.wait(Gate())
    stream.copy(target, full(3))
    stream.launch(lambda: target[1:].fill_(4))
    event = stream.record()
    assert not event.done()
    assert not target.any()
    gate.set()
    event.synchronize()
    assert target[0] == 3
    assert target[1:].eq(4).all()
    assert fake.compute().record().done() is False


def test_a_failed_background_copy_fails_every_later_event():
    stream = CpuDevice(background=True).stream()
    stream.copy(full(0, 3), full(0, 4))
    with pytest.raises(ValueError, match="copy of"):
        stream.record().synchronize()


def test_fake_copies_read_their_source_when_they_run():
    device = FakeDevice()
    source, target = full(1), full(0)
    stream = device.stream()
    stream.copy(target, source)
    event = stream.record()
    source.fill_(2)
    assert not target.any()
    assert not event.done()
    event.synchronize()
    assert target.eq(2).all()


def test_fake_streams_wait_for_one_another_and_tell_a_deadlock():
    device = FakeDevice()
    compute, side = device.compute(), device.stream()
    side.copy(full(0), full(1))
    compute.wait(side.record())
    assert not compute.advance()
    device.run_all()
    assert len(compute) == 0
    loose = FakeDevice().compute().record()
    compute.wait(loose)
    with pytest.raises(RuntimeError, match="deadlock"):
        compute.record().synchronize()


def test_refusals():
    with pytest.raises(UserError, match="expected cpu, cuda"):
        open_device("tpu")
    with pytest.raises(UserError, match="cannot reserve"):
        CpuDevice().reserve(1 << 62)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            open_device("cuda:0")


class FakeRuntime:
    """Stands for the CUDA runtime: notes what is page-locked, refuses as it does."""

    def __init__(self):
        self.locked = {}

    def cudaHostRegister(self, pointer, nbytes, flags):
        if pointer in self.locked:
            return 712
        self.locked[pointer] = (nbytes, flags)
        return 0

    def cudaHostUnregister(self, pointer):
        return 0 if self.locked.pop(pointer, None) else 713


def test_page_locking_goes_through_the_cuda_runtime(monkeypatch):
    runtime = FakeRuntime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    device, host = CudaDevice("cuda:0"), full(0)
    device.register(host)
    assert runtime.locked == {host.data_ptr(): (64, 1)}
    with pytest.raises(UserError, match="CUDA error 712"):
        device.register(host)
    device.unregister(host)
    with pytest.raises(RuntimeError, match="CUDA error 713"):
        device.unregister(host)


def test_cuda_streams_queue_copies_events_and_waits(monkeypatch):
    calls = []

    class Stream:
        def __enter__(self):
            calls.append("enter")

        def __exit__(self, *_):
            calls.append("exit")

        def wait_event(self, event):
            calls.append(("wait", event))

    class Event:
        def record(self, stream):
            calls.append(("record", self, stream))

        def query(self):
            return False

        def synchronize(self):
            calls.append(("synchronize", self))

    raw = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: raw)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    stream = CudaDevice("cuda:0").stream()
    target = full(0)
    stream.copy(target, full(5))
    assert target.eq(5).all()
    stream.launch(lambda: calls.append("work"))
    assert calls[2:] == ["enter", "work", "exit"]
    del calls[2:]
    event = stream.record()
    assert not event.done()
    stream.wait(event)
    event.synchronize()
    stream.wait(CpuDevice().compute().record())
    made = calls[2][1]
    assert calls == ["enter", "exit", ("record", made, raw), ("wait", made), ("synchronize", made)]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_cuda
def test_registered_memory_is_pinned_and_copies_are_asynchronous():
    device = open_device("cuda:0")
    host = torch.ones(256 << 20, dtype=torch.uint8)
    device.register(host)
    assert host.is_pinned()
    target = device.reserve(host.numel())
    stream = device.stream()
    stream.copy(target, host)
    event = stream.record()
    assert not event.done()
    event.synchronize()
    device.unregister(host)
    assert target.eq(1).all()


@pytest.mark.gpu
@needs_cuda
def test_captured_graphs_stay_valid_across_prefetched_switches():
    device = open_device("cuda:0")
    nets = {name: mlp(seed).cuda() for seed, name in enumerate("abc")}
    x = torch.randn(3, 8, device="cuda")
    alone = {name: net(x).detach().clone() for name, net in nets.items()}
    layout = WeightLayout.of(nets["a"])
    hosts = {
        name: layout.pack(net, torch.empty(layout.nbytes, dtype=torch.uint8, pin_memory=True))
        for name, net in nets.items()
    }
    arena = WeightArena(device, layout.nbytes, slots=2)
    graphs, outputs = {}, {}
    for name, net in nets.items():
        arena.bind(name, net, layout)
        arena.switch(name, hosts[name]).ready.synchronize()
        net(x)
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name]):
            outputs[name] = net(x)
    for name, following in zip("abcabcacb", "bcabcacba", strict=True):
        arena.switch(name, hosts[name])
        graphs[name].replay()
        arena.prefetch(following, hosts[following])
        assert torch.allclose(outputs[name], alone[name], atol=1e-5)
