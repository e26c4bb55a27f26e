"""The checks of `aegaeon doctor` that concern the machine; each judges facts from `probe`."""

from __future__ import annotations

from collections.abc import Callable

from aegaeon.doctor.facts import Facts, Finding, Status

OK, WARNING, PROBLEM = Status.OK, Status.WARNING, Status.PROBLEM
LIVE = "live runs; Figures 7, 14, 15 and 16"
TIMES = "times of live runs and `make bench*`; no simulated result"
ALL = "every run and stored table"
GB = 1e9
GIB = 1 << 30

Check = Callable[[Facts], Finding]


def disk(facts: Facts) -> Finding:
    """Judge free disk space: a full disk loses the run that is being written."""
    free = facts.runs_free
    status = PROBLEM if free < 0.2 * GB else WARNING if free < 2 * GB else OK
    advice = "free some space, or `make clean` (stored results stay)"
    return Finding("disk", status, f"{free / GB:.1f} GB free", "2 GB in runs/", advice, ALL)


def memory(facts: Facts) -> Finding:
    """Judge available memory: live runs need it for weights, simulated sweeps need 1 to 2 GB."""
    found = f"{facts.memory_available / GB:.1f} of {facts.memory_total / GB:.1f} GB available"
    wanted = facts.shm_wanted + 4 * GB if facts.has_live else 2 * GB
    status = OK if facts.memory_available >= wanted else WARNING
    advice = "stop other programs, or lower backend.cache_bytes and hydra.launcher.n_jobs"
    expected = f"{wanted / GB:.1f} GB available"
    return Finding("memory", status, found, expected, advice, "runs that end by being killed")


def bandwidth(facts: Facts) -> Finding:
    """Judge the bandwidth of memcpy: switches are copies, reported as ratios to memcpy."""
    status = OK if facts.memcpy_gbps >= 4 else WARNING
    found = f"{facts.memcpy_gbps:.1f} GB/s, one thread"
    advice = "stop other programs; ratios to memcpy hold, absolute switch times do not compare"
    return Finding("memcpy", status, found, "4 GB/s", advice, TIMES)


def processor(facts: Facts) -> Finding:
    """Judge cores and load: two idle cores are enough for every command."""
    busy = facts.load / facts.cores
    status = WARNING if facts.cores < 2 or busy > 0.5 else OK
    found = f"{facts.cores} cores, load {facts.load:.1f}"
    advice = "wait until the machine is quiet before measuring"
    return Finding("cores", status, found, "2 cores, load at most half", advice, TIMES)


def gpu(facts: Facts) -> Finding:
    """Judge GPUs: the paper's switches cross PCIe 5.0 x16, and CUDA 13 needs driver 580."""
    expected = "none (device=cpu), or PCIe 5 x16, driver 580 or newer"
    if not facts.gpus:
        return Finding("GPU, PCIe", OK, "no NVIDIA GPU", expected, "", LIVE)
    one = min(facts.gpus, key=lambda g: (g.pcie_generation, g.pcie_width))
    found = f"{len(facts.gpus)} x {one.name}, PCIe {one.pcie_generation} x{one.pcie_width}, "
    found += f"driver {one.driver}"
    if any(int(g.driver.partition(".")[0] or 0) < 580 for g in facts.gpus):
        advice = "update the driver, or use device=cpu"
        return Finding("GPU, PCIe", PROBLEM, found, expected, advice, LIVE)
    slow = one.pcie_generation < 5 or one.pcie_width < 16
    advice = "compare with fig11a_pcie4; switches take longer than the paper's"
    return Finding("GPU, PCIe", WARNING if slow else OK, found, expected, advice, LIVE)


def open_files(facts: Facts) -> Finding:
    """Judge the hard limit of open files, to which live runs raise the soft limit.

    Each Ray process holds a socket for every other one.
    """
    hard = facts.files_hard
    status = OK if hard >= 16_384 else WARNING if hard >= 4_096 or not facts.has_live else PROBLEM
    found = f"{facts.files_soft:,}, may be raised to {hard:,}"
    advice = "raise the hard limit (ulimit -Hn), on every node"
    return Finding("open files", status, found, "16,384; 65,536 on clusters", advice, LIVE)


def shared_memory(facts: Facts) -> Finding:
    """Judge shared memory: a live run reserves weight cache, KV pool and Ray's object store."""
    found = f"{facts.shm_free / GIB:.1f} of {facts.shm_total / GIB:.1f} GiB free"
    enough = facts.shm_free >= facts.shm_wanted
    status = OK if enough else PROBLEM if facts.has_live else WARNING
    advice = "enlarge /dev/shm, or lower backend.cache_bytes, slabs or slab_bytes"
    expected = f"{facts.shm_wanted / GIB:.1f} GiB free (default options)"
    return Finding("shared memory", status, found, expected, advice, LIVE)


def leftovers(facts: Facts) -> Finding:
    """Judge the shared memory of killed runs, which stays until a live run or `--clean`."""
    count, size = len(facts.leftovers), sum(facts.leftovers)
    found = f"{count} of crashed runs, {size / GIB:.2f} GiB" if count else "none"
    advice = "`aegaeon doctor --clean` removes them"
    return Finding("stale files", WARNING if count else OK, found, "none", advice, LIVE)


def clock(facts: Facts) -> Finding:
    """Judge the clock: token times are differences of a few milliseconds."""
    slow = facts.clock_source in ("hpet", "acpi_pm", "jiffies")
    status = WARNING if slow or facts.clock_resolution > 1e-6 else OK
    found = f"{facts.clock_source}, {facts.clock_resolution * 1e9:.0f} ns"
    advice = "boot with clocksource=tsc, or measure elsewhere"
    return Finding("clock", status, found, "at most 1 µs", advice, TIMES)


MACHINE: tuple[Check, ...] = (
    *(disk, memory, bandwidth, processor, gpu),
    *(open_files, shared_memory, leftovers, clock),
)
