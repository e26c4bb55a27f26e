"""The room without torch: import, the benchmark's message; and the benchmark itself with it."""

import subprocess
import sys

import pytest

PROBE = "import sys, kernels; print(sorted({'torch', 'triton', 'vllm'} & set(sys.modules)))"
BLIND = "import sys; sys.modules['torch'] = None; from kernels.bench import main; main([])"


def python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_importing_the_room_imports_no_engine():
    done = python(PROBE)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_without_torch_the_benchmark_says_what_to_install():
    done = python(BLIND)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("install the live extra (make live)")


def test_the_benchmark_names_a_bad_option(capsys):
    from kernels import bench

    with pytest.raises(SystemExit) as stopped:
        bench.main(["--repeats", "0"])
    assert stopped.value.code == 2
    assert "--repeats: expected at least 1" in capsys.readouterr().err


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
        assert bench.main(["--device", "cpu", "--repeats", "2"]) == 0
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
