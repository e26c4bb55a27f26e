"""Every key of the registered configuration schemas, with today's default."""

from collections import defaultdict
from dataclasses import MISSING, fields, is_dataclass
from typing import get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from aegaeon.experiment.config import Config
from aegaeon.results.config_hash import EXCLUDED

REQUIRED = "???"
UNCOUNTED = {*EXCLUDED, "seeds"}


def all_keys():
    """Return the defaults of each hashed dotted key, by the name of the schema class."""
    found = defaultdict(dict)
    for name, hint, default in _fields(Config):
        classes = group_classes(name) or {"config": hint}
        for owner, cls in classes.items():
            for key, value in _below(cls, name, default if owner == "config" else REQUIRED):
                if name not in UNCOUNTED:
                    found[key][owner] = value
    return dict(found)


def group_classes(group):
    """Return the schema classes of a configuration group by their registered names."""
    nodes = ConfigStore.instance().repo.get(group, {})
    if not isinstance(nodes, dict):
        return {}
    return {name.removesuffix(".yaml"): OmegaConf.get_type(n.node) for name, n in nodes.items()}


def _fields(cls, instance=None):
    hints = get_type_hints(cls)
    for item in fields(cls):
        made = None if item.default_factory is MISSING else item.default_factory()
        default = made if made is not None else item.default
        default = getattr(instance, item.name) if instance is not None else default
        yield item.name, hints[item.name], REQUIRED if default is MISSING else default


def _below(hint, key, default):
    """Yield every leaf below a key; `*` stands for a user-chosen name."""
    inner = [part for part in get_args(hint) if is_dataclass(part)]
    if is_dataclass(hint):
        instance = default if is_dataclass(default) else None
        for name, kind, value in _fields(hint, instance):
            yield from _below(kind, f"{key}.{name}", value)
    elif get_origin(hint) is dict:
        yield from _below(get_args(hint)[1], f"{key}.*", REQUIRED)
    elif get_origin(hint) is list and inner:
        yield from _below(inner[0], f"{key}.*", REQUIRED)
    else:
        yield key, default
        for part in inner:
            yield from _below(part, key, None)
