import pytest

torch = pytest.importorskip("torch")

from aegaeon.errors import UserError  # noqa: E402
from aegaeon.live.measure import memory as bench  # noqa: E402
from aegaeon.live.memory.device import CpuDevice  # noqa: E402


def test_each_way_is_timed_for_the_same_bytes(capsys):
    bench.report("cpu", 4, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cpu, 0.004 GB of weights, median of 3"
    assert [line.split()[0] for line in lines[1:]] == ["memcpy", "switch", "prefetched"]


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match=r"^device abacus: expected cpu, cuda or cuda:<index>$"):
        bench.report("abacus", 4, 3)


@pytest.mark.slow
def test_switches_cost_what_their_bytes_cost():
    times = bench.measure(CpuDevice(), 128 << 20, repeats=15)
    assert times.nbytes >= 100e6
    assert times.switch_ratio <= bench.SWITCH_TARGET
    assert times.prefetched_ratio <= bench.PREFETCHED_TARGET
