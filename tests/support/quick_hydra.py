"""Hydra's command line at a hundredth of its price: configurations composed once, then overridden.

A group is composed once per choice. The overrides of plain keys are parsed and applied by Hydra's
own code, which also makes the errors.
"""

import copy
import sys
from functools import cache

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import open_dict

from aegaeon.experiment import compose as composing
from aegaeon.experiment import hydra_job
from aegaeon.experiment.compose import compose_raw
from aegaeon.experiment.hydra_options import parsed
from aegaeon.paths import CONF


def use(monkeypatch):
    """Compose quickly, and run a job in the place of Hydra, for one test."""
    monkeypatch.setattr(composing, "compose", _compose)
    monkeypatch.setattr(hydra_job, "_job", _job)


def _compose(name, overrides, return_hydra_config):
    groups = tuple(text for text in overrides if _is_group(text))
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    plain = parser.parse_overrides([text for text in overrides if text not in groups])
    ConfigLoaderImpl.validate_sweep_overrides_legal(plain, RunMode.RUN, from_shell=False)
    cfg = copy.deepcopy(_base(name, groups))
    ConfigLoaderImpl._apply_overrides_to_config(plain, cfg)
    if not return_hydra_config:
        with open_dict(cfg):
            del cfg["hydra"]
    return cfg


@cache
def _base(name, groups):
    return compose(name, overrides=list(groups), return_hydra_config=True)


def _is_group(text):
    key = text.lstrip("+~").partition("=")[0]
    return "/" in key or "@" in key or key.startswith("hydra.searchpath") or (CONF / key).is_dir()


def _job():
    cfg = compose_raw(parsed(sys.argv[1:]).overrides, hydra=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    hydra_job.run_point(cfg)
