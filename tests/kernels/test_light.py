"""The package imports without torch; the benchmark compares with it."""

import subprocess
import sys

import pytest

PROBE = "import sys, kernels; print(sorted({'torch', 'triton', 'vllm'} & set(sys.modules)))"


def python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_importing_the_room_imports_no_engine():
    done = python(PROBE)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_benchmark_compares_each_variant_with_memcpy(monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    from kernels import bench, bench_cases

    threads = torch.get_num_threads()
    shapes = [
        bench_cases.Shape("whole", 2, 2, 8, moved=3),
        bench_cases.Shape("split", 2, 2, 8, moved=3, apart=True),
    ]
    monkeypatch.setattr(bench_cases, "SHAPES", shapes)
    try:
        bench.compare("cpu", 2)
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    for word in ("whole", "split", "memcpy", "plain copies", "torch reference"):
        assert word in printed


def test_a_ratio_is_the_median_over_rounds():
    pytest.importorskip("torch")
    from kernels.bench_cases import ratio

    taken = {"memcpy": [1.0, 2.0, 4.0], "other": [2.0, 8.0, 4.0]}
    assert ratio(taken, "other") == 2.0
