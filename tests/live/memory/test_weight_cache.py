import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.memory import weight_cache as weights  # noqa: E402
from aegaeon.live.memory.device import CpuDevice  # noqa: E402
from aegaeon.live.memory.shared import SharedDirectory  # noqa: E402
from aegaeon.live.memory.weight_arena import WeightArena  # noqa: E402
from aegaeon.live.memory.weight_cache import WeightCache  # noqa: E402
from aegaeon.live.memory.weight_layout import WeightLayout  # noqa: E402
from tests.support.fake_device import FakeDevice  # noqa: E402
from tests.support.random_modules import mlp  # noqa: E402

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


def flat(nbytes, value=0):
    """Return a layout of one tensor and its packed bytes."""
    module = torch.nn.Module()
    module.register_buffer("w", torch.full((nbytes,), value, dtype=torch.uint8))
    layout = WeightLayout.of(module)
    return layout, layout.pack(module)


@pytest.fixture
def shared(tmp_path):
    with SharedDirectory.create("weights", tmp_path) as directory:
        yield directory


@pytest.fixture
def cache(shared):
    return WeightCache(shared, 8 * MIB)


def used_bytes(shared):
    """Return the bytes of all copies, those in the making included."""
    files = (shared.path / "weights").iterdir()
    return sum(f.stat().st_size for f in files if f.suffix in (".weights", ".partial"))


def test_module_to_cache_to_arena_gives_the_same_outputs(cache):
    net, x = mlp(3), torch.randn(2, 8)
    expected = net(x).detach()
    blank = mlp(4)
    layout = WeightLayout.of(blank)
    with cache.pack("m", layout, net) as host:
        arena = WeightArena(CpuDevice(), layout.nbytes)
        arena.bind("m", blank, layout)
        arena.switch("m", host.bytes)
        assert torch.equal(blank(x), expected)


def test_copies_are_told_apart_by_checkpoint_layout_and_variant(cache):
    layout, packed = flat(1000, 1)
    cache.put("m", layout, packed, variant="tp0").close()
    assert cache.get("m", layout) is None
    assert cache.get("n", layout, variant="tp0") is None
    assert cache.get("m", flat(1001)[0], variant="tp0") is None
    with cache.get("m", layout, variant="tp0") as host:
        assert torch.equal(host.bytes, packed)


def test_a_second_put_maps_the_first_copy(shared, cache):
    layout, packed = flat(1000, 1)
    first, second = cache.put("m", layout, packed), cache.put("m", layout, packed)
    first.bytes[7] = 42
    assert second.bytes[7] == 42
    assert used_bytes(shared) < 2 * layout.nbytes


def test_opening_a_copy_makes_it_the_last_to_go(cache):
    layout, packed = flat(3 * MIB)
    for name in ("a", "b"):
        cache.put(name, layout, packed).close()
    cache.get("a", layout).close()
    cache.put("c", layout, packed).close()
    assert cache.get("b", layout) is None
    cache.get("a", layout).close()


def test_a_copy_in_the_making_is_in_use(shared, cache, monkeypatch):
    other, tried = WeightCache(shared, 8 * MIB), []

    def checksums(packed):
        tried.append(packed)
        with pytest.raises(UserError, match="in use"):
            other.put("b", *flat(5 * MIB))
        return type(cache)._checksums(cache, packed)

    monkeypatch.setattr(cache, "_checksums", checksums)
    layout, packed = flat(5 * MIB, 4)
    with cache.put("a", layout, packed):
        assert len(tried) == 1
    with other.get("a", layout) as host:
        assert torch.equal(host.bytes, packed)


def test_a_copy_evicted_while_it_is_opened_counts_as_absent(cache, monkeypatch):
    layout, packed = flat(1000)
    with cache.put("m", layout, packed) as host:
        path = host.path
    flock = weights.fcntl.flock

    def evicted_first(descriptor, kind):
        path.unlink(missing_ok=True)
        flock(descriptor, kind)

    monkeypatch.setattr(weights.fcntl, "flock", evicted_first)
    assert cache.get("m", layout) is None


def test_modules_are_packed_straight_into_the_cache(cache):
    net = mlp(3)
    layout = WeightLayout.of(net)
    with cache.pack("m", layout, net) as host, cache.pack("m", layout, mlp(4)) as again:
        assert torch.equal(host.bytes, layout.pack(net))
        assert again.path == host.path


def test_the_least_recently_used_goes_first_and_nothing_in_use(shared, cache):
    layout, packed = flat(3 * MIB)
    for name in ("a", "b"):
        cache.put(name, layout, packed).close()
    held = cache.get("a", layout)
    cache.put("c", layout, packed).close()
    assert cache.get("b", layout) is None
    assert used_bytes(shared) <= 8 * MIB
    second = cache.get("c", layout)
    with pytest.raises(UserError, match=r"budget is 8,388,608 of which 6,\d+,\d+ are in use"):
        cache.put("d", layout, packed)
    second.close()
    cache.put("d", layout, packed).close()
    assert cache.get("c", layout) is None
    assert held.bytes.eq(0).all()
    with pytest.raises(UserError, match="raise the budget"):
        cache.put("huge", *flat(9 * MIB))


def test_a_failed_load_is_never_visible(shared, cache):
    layout, packed = flat(1000)
    with pytest.raises(RuntimeError):
        cache.put("m", layout, packed[:-1])
    assert cache.get("m", layout) is None
    assert used_bytes(shared) == 0
    with cache.put("m", layout, packed) as host:
        assert torch.equal(host.bytes, packed)


def test_a_crashed_loaders_rest_makes_room(shared, cache):
    layout, packed = flat(5 * MIB)
    rest = shared.path / "weights" / "0.partial"
    rest.write_bytes(bytes(4 * MIB))
    cache.put("m", layout, packed).close()
    assert not rest.exists()


def test_damage_is_noticed(cache):
    layout, packed = flat(3 * MIB, 5)
    cache.put("m", layout, packed).close()
    with cache.get("m", layout, verify=False) as host:
        host.bytes[2 * MIB] = 6
        path = host.path
    with pytest.raises(UserError, match=f"{path.name}: .* was damaged"):
        cache.get("m", layout)
    cache.get("m", layout, verify=False).close()


def test_open_copies_are_page_locked(shared):
    device = FakeDevice()
    cache = WeightCache(shared, 8 * MIB, device)
    layout, packed = flat(1000)
    host = cache.put("m", layout, packed)
    assert device.registered == {host.bytes.data_ptr()}
    again = cache.get("m", layout)
    assert len(device.registered) == 2
    host.close()
    host.close()
    again.close()
    assert not device.registered


def test_bytes_stay_valid_for_whoever_still_views_them(cache):
    layout, packed = flat(1000, 3)
    host = cache.put("m", layout, packed)
    view = host.bytes[:10]
    host.close()
    cache.put("huge", *flat(7 * MIB)).close()
    assert view.eq(3).all()


def test_one_of_many_threads_fills_and_none_sees_half(cache):
    layout, packed = flat(MIB, 9)
    made, wrong = [], []
    real = cache._make

    def slow(path, nbytes, fill):
        made.append(path)

        def slowly(out):
            time.sleep(0.1)
            fill(out)

        return real(path, nbytes, slowly)

    cache._make = slow

    def work():
        early = cache.get("m", layout)
        with early or cache.put("m", layout, packed) as host:
            if not host.bytes.eq(9).all():
                wrong.append(host)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), wrong) == (1, [])


PACKER = """
import sys
from pathlib import Path
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.live.memory.weight_cache import WeightCache
from aegaeon.live.memory.weight_layout import WeightLayout
from tests.support.random_modules import mlp
real, calls = WeightLayout.pack, []
WeightLayout.pack = lambda *args: (calls.append(args), real(*args))
cache = WeightCache(SharedDirectory.attach(sys.argv[1]), 1 << 23)
host = cache.pack(Path(sys.argv[2]), WeightLayout.of(mlp(3)), mlp(3))
print(len(calls), host.path.stat().st_ino, flush=True)
sys.stdin.readline()
print(int(host.bytes[0]), flush=True)
sys.stdin.read()
"""


def test_two_processes_share_one_copy_and_a_killed_one_lets_go(shared, cache, tmp_path):
    path = tmp_path / "model"
    layout = WeightLayout.of(mlp(0))
    command = [sys.executable, "-c", PACKER, str(shared.path), str(path)]
    environment = {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    said = [[int(word) for word in p.stdout.readline().split()] for p in processes]
    assert sorted(calls for calls, _ in said) == [0, 1]
    assert len({inode for _, inode in said}) == 1
    with cache.get(path, layout) as host:
        host.bytes[0] = 77
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [int(p.stdout.readline()) for p in processes] == [77, 77]
    filler = flat(8 * MIB - 4096)
    with pytest.raises(UserError, match="in use"):
        cache.put("filler", *filler)
    for process in processes:
        process.kill()
        process.communicate()
    cache.put("filler", *filler).close()
    assert cache.get(path, layout) is None
