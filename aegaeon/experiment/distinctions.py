"""What tells two runs apart that their settings alone do not: inputs of the configuration hash."""

from __future__ import annotations

from dataclasses import fields

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from aegaeon.experiment.config import Config
from aegaeon.policy.interface import System
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper

# The orders in which the types of stored rows were dealt to the models. They and the alphabetical
# order of any other types do not count. Append only.
INTRODUCED_ORDERS = (
    ("qwen", "yi", "llama"),
    ("yi", "qwen"),
    ("qwen", "llama"),
    ("qwen", "llama", "mistral"),
    ("small", "medium", "large"),
)
# The names under which a class has rows whose hash does not count the class. Append only.
INTRODUCED_NAMES = {
    ServerlessLLM: {"serverlessllm", "serverlessllm_plus", "serverlessllm_batch4"},
    ServerlessLLMPaper: {"serverlessllm_paper", "serverlessllm_plus_paper"},
}


def distinctions(config: Config) -> dict[str, str]:
    """Return inputs of `config_hash`: the order of the model types, and the class of the system.

    The order counts because types are dealt to models in it, and a hash leaves the order of keys
    out. The class counts where another class has the same keys, and a user chose the name.
    """
    found = {}
    order = tuple(config.models.types)
    known = {tuple(sorted(o)): o for o in INTRODUCED_ORDERS}
    if order != known.get(tuple(sorted(order)), tuple(sorted(order))):
        found["order of models.types"] = ", ".join(order)
    system = type(config.system)
    if _has_twin(system) and config.system.name not in INTRODUCED_NAMES.get(system, ()):
        found["class of system"] = f"{system.__module__}.{system.__qualname__}"
    return found


def _has_twin(system: type[System]) -> bool:
    nodes = ConfigStore.instance().repo["system"].values()
    classes = [OmegaConf.get_type(node.node) for node in nodes]
    keys = {f.name for f in fields(system)}
    twins = [c for c in classes if c is not None and {f.name for f in fields(c)} == keys]
    return any(twin is not system for twin in twins)
