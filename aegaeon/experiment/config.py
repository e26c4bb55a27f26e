"""The schema of a run: what Hydra checks names and types against, and what code receives.

YAML files in `conf/` are the named choices; the classes here are their types. `validate` checks
what types cannot, before any work starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from aegaeon.constraints import above, at_least, check_fields, one_of
from aegaeon.core import DeviceSpec, ModelSpec
from aegaeon.errors import UserError
from aegaeon.experiment.refusals import refuse_unknown_keys, sentence
from aegaeon.live.options import LiveOptions, SwitchCostOptions
from aegaeon.live.preflight.checks import check_options
from aegaeon.policy.interface import System
from aegaeon.policy.system import Aegaeon
from aegaeon.results.schema import check_names
from aegaeon.sim.host_pool import HostPool
from baselines.muxserve import MuxServe
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper
from baselines.sleep_mode import SleepMode
from workloads import FORMATS, SKEWS, UNITS
from workloads.market import MAX_BURSTINESS, MIN_BURSTINESS

# Files and folders of paths.runs that are no experiment.
RESERVED = frozenset(
    {"stored", "tables", "artifacts", "mlartifacts", "mlruns", "claims.json", "bench_live.json"}
)
_MLFLOW = ("mlflow.", "mlflow-")
# A request takes about 1 kB of memory from its arrival to its score.
MOST_REQUESTS = 10_000_000


@dataclass
class DeviceOptions:
    """A GPU and its host link: a mutable `core.DeviceSpec`, which OmegaConf can fill."""

    name: str = MISSING
    memory_bytes: float = field(default=MISSING, metadata=above(0, 1e15))
    memory_bandwidth: float = field(default=MISSING, metadata=at_least(1e6, 1e15))
    peak_flops: float = field(default=MISSING, metadata=at_least(1e6, 1e21))
    pcie_bandwidth: float = field(default=MISSING, metadata=at_least(1e6, 1e15))
    pcie_efficiency: float = field(default=0.625, metadata=at_least(1e-3, 1))
    usable_memory: float = field(default=0.9, metadata=above(0, 1))

    def spec(self) -> DeviceSpec:
        """Return the checked, immutable device."""
        try:
            return DeviceSpec(**vars(self))
        except ValueError as error:
            raise UserError(f"hardware.device: {error}") from error


@dataclass
class ModelOptions:
    """A model type: a mutable `core.ModelSpec` without a name."""

    type: str = MISSING
    parameters: float = field(default=MISSING, metadata=above(0, 1e14))
    layers: int = field(default=MISSING, metadata=at_least(1, 10_000))
    hidden: int = field(default=MISSING, metadata=at_least(1, 1_000_000))
    ffn: int = field(default=MISSING, metadata=at_least(1, 1_000_000))
    heads: int = field(default=MISSING, metadata=at_least(1, 10_000))
    kv_heads: int = field(default=MISSING, metadata=at_least(1, 10_000))
    head_dim: int = field(default=MISSING, metadata=at_least(1, 100_000))
    max_len: int = field(default=MISSING, metadata=at_least(2, 100_000_000))
    dtype_bytes: int = field(default=2, metadata=at_least(1, 16))
    tp: int = field(default=1, metadata=at_least(1, 1024))

    def spec(self, key: str = "models.types") -> ModelSpec:
        """Return the checked, immutable model, named after its type; errors name `key`."""
        try:
            return ModelSpec(name=self.type, **vars(self))
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error


@dataclass
class Hardware:
    """A cluster of equal GPUs."""

    name: str = MISSING
    device: DeviceOptions = MISSING
    gpus: int = field(default=MISSING, metadata=at_least(1, 100_000))
    gpus_per_node: int = field(default=8, metadata=at_least(1, 100_000))


@dataclass
class Models:
    """The market: `count` models that cycle through the types by their shares."""

    name: str = MISSING
    count: int = field(default=MISSING, metadata=at_least(1, 100_000))
    types: dict[str, ModelOptions] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict, metadata=at_least(1, 10_000))


@dataclass
class Workload:
    """What every workload has; lengths are multiplied by the scales."""

    name: str = MISSING
    duration_s: float = field(default=120.0, metadata=above(0, 1e9))
    input_scale: float = field(default=1.0, metadata=above(0, 1000))
    output_scale: float = field(default=1.0, metadata=above(0, 1000))


@dataclass
class Market(Workload):
    """Generated: independent arrivals per model at `rate_rps` each on average."""

    rate_rps: float = field(default=MISSING, metadata=above(0, 1e6))
    skew: str = field(default="uniform", metadata=one_of(*SKEWS))
    burstiness: float = field(default=1.0, metadata=at_least(MIN_BURSTINESS, MAX_BURSTINESS))


@dataclass
class TraceWorkload(Workload):
    """Replayed from a file; `duration_s` 0 replays all of it.

    `rate_rps` is the mean rate of one model (requests/s), which a format without arrival times
    needs and no other takes; 0 means not set. `start_s` is where the replay begins, in the trace's
    own seconds. `time_unit` takes the place of the format's unit. `skip_empty` leaves out rows
    without tokens.
    """

    path: str = MISSING
    format: str = field(default=MISSING, metadata=one_of(*FORMATS))
    duration_s: float = field(default=0.0, metadata=at_least(0, 1e9))
    rate_scale: float = field(default=1.0, metadata=above(0, 1e6))
    assign: str = field(default="uniform", metadata=one_of(*SKEWS))
    rate_rps: float = field(default=0.0, metadata=at_least(0, 1e6))
    start_s: float = field(default=0.0, metadata=at_least(0, 1e12))
    time_unit: str = field(default="", metadata=one_of(*UNITS))
    skip_empty: bool = False


@dataclass
class SloTargets:
    """Time to the first token and between tokens, both multiplied by `scale`."""

    ttft_s: float = field(default=MISSING, metadata=above(0, 1e6))
    tbt_s: float = field(default=MISSING, metadata=above(0, 1e6))
    scale: float = field(default=1.0, metadata=above(0, 1e6))


@dataclass
class Backend:
    """Which backend carries the policy's decisions out."""

    name: str = MISSING


@dataclass
class Simulated(Backend):
    """The discrete-event simulator.

    `misprediction` is the standard deviation of the logarithm of true over predicted cost, per
    model; `stepwise` simulates every decode step on its own.
    """

    name: str = "simulated"
    misprediction: float = field(default=0.0, metadata=at_least(0, 3))
    stepwise: bool = False


@dataclass
class Occupancy(Backend):
    """Theorem 3.1: every request starts at once and takes `mean_service_s` on average."""

    name: str = "occupancy"
    mean_service_s: float = field(default=MISSING, metadata=above(0, 1e6))


@dataclass
class Live(LiveOptions, Backend):
    """vLLM engines under Ray (docs/live.md)."""

    name: str = "live"


@dataclass
class SwitchCostBackend(SwitchCostOptions, Backend):
    """Figure 7: what a change of model costs on one device; serves nothing (docs/live.md)."""

    name: str = "switch_cost"


@dataclass
class Tracking:
    """Where runs are indexed: `sqlite` (in paths.runs), `none`, or an MLflow server's address."""

    uri: str = "sqlite"


@dataclass
class Paths:
    """Folders; empty ones are the defaults of `aegaeon.paths`.

    `stored` is kept for configurations that set it; commands take their option `--stored`.
    """

    runs: str = ""
    stored: str = ""


@dataclass
class Config:
    """One point of an experiment; each of `seeds` makes a run of its own.

    `keep` names tables to store as detail tables; `pool` among them accounts for `host_pool`.
    """

    system: System = MISSING
    hardware: Hardware = MISSING
    models: Models = MISSING
    workload: Workload = MISSING
    slo: SloTargets = MISSING
    backend: Backend = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    paths: Paths = field(default_factory=Paths)
    name: str = "adhoc"
    figure: str = ""
    seeds: list[int] = field(default_factory=lambda: [0], metadata=at_least(0))
    keep: list[str] = field(default_factory=list)
    host_pool: HostPool = field(default_factory=HostPool)


def register() -> None:
    """Tell Hydra the schemas; each YAML choice names the one it fills."""
    store = ConfigStore.instance()
    store.store("schema", Config)
    schemas: dict[str, dict[str, Any]] = {
        "system": {
            "base_aegaeon": Aegaeon,
            "base_serverlessllm": ServerlessLLM,
            "base_serverlessllm_paper": ServerlessLLMPaper,
            "base_muxserve": MuxServe,
            "base_sleep_mode": SleepMode,
        },
        "hardware": {"base_hardware": Hardware},
        "models": {"base_models": Models},
        "workload": {"base_market": Market, "base_trace": TraceWorkload},
        "slo": {"base_slo": SloTargets},
        "backend": {
            "base_simulated": Simulated,
            "base_occupancy": Occupancy,
            "base_live": Live,
            "base_switch_cost": SwitchCostBackend,
        },
    }
    for group, nodes in schemas.items():
        for name, node in nodes.items():
            store.store(name, node, group=group)


def from_hydra(cfg: DictConfig) -> Config:
    """Turn a composed configuration into checked objects; raise `UserError` naming the key."""
    refuse_unknown_keys(cfg)
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key}: has no value; add {key}=VALUE to the command") from error
    except OmegaConfBaseException as error:
        raise UserError(sentence(error)) from error
    if not isinstance(config, Config):
        raise UserError("configuration: the `schema` default is missing from conf/config.yaml")
    validate(config)
    return config


def validate(config: Config) -> None:
    """Refuse values that no run can use."""
    _check_name("name", config.name)
    _check_name("system.name", config.system.name)
    if config.name in RESERVED or config.name.startswith(_MLFLOW):
        raise UserError(
            f"name: {config.name!r} is taken below paths.runs; choose another name for the runs"
        )
    if not config.seeds or min(config.seeds) < 0 or len(set(config.seeds)) < len(config.seeds):
        raise UserError(f"seeds: needs distinct numbers of 0 or more, got {list(config.seeds)}")
    check_fields(config, "")
    if config.host_pool.slabs < 1:
        raise UserError("host_pool.pool_bytes: must hold a slab (host_pool.slab_bytes) or more")
    if isinstance(config.backend, Live | SwitchCostBackend):
        check_options(config.backend)
    check_names(config.keep)
    _check_market(config.models)
    _check_requests(config)


def _check_name(key: str, name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]{,99}", name):
        raise UserError(
            f"{key}: {name!r} is no name; write up to 100 letters, digits, `_`, `-` and `.`, "
            "the first a letter, digit or `_`"
        )


def _check_market(models: Models) -> None:
    if set(models.types) != set(models.shares) or not models.types:
        raise UserError(
            f"models.shares: needs one share of at least 1 for each of models.types "
            f"{sorted(models.types)}, got {dict(models.shares)}"
        )
    for name, kind in models.types.items():
        kind.spec(f"models.types.{name}")


def expected_requests(config: Config) -> float:
    """Return the mean number of requests that a generated market draws; 0 for a trace."""
    workload = config.workload
    if not isinstance(workload, Market):
        return 0.0
    return config.models.count * workload.rate_rps * workload.duration_s


def _check_requests(config: Config) -> None:
    """Refuse a generated market whose requests would not fit this machine's memory."""
    workload, expected = config.workload, expected_requests(config)
    if isinstance(workload, Market) and expected > MOST_REQUESTS:
        raise UserError(
            f"workload.rate_rps: {config.models.count:,} models at {workload.rate_rps:g} "
            f"requests/s make {expected:,.0f} requests in {workload.duration_s:g} s, and a run "
            f"takes {MOST_REQUESTS:,} at most; lower it, models.count or workload.duration_s"
        )


register()
