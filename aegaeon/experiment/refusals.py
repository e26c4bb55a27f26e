"""What Hydra and OmegaConf refuse, as one sentence: the key, what was expected, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from aegaeon.errors import UserError, first_line

_ALL_KEYS = "`aegaeon run --cfg job` prints every key"
_EXPECTED = {
    r"could not be converted to Float": "a number",
    r"could not be converted to Integer": "a whole number",
    r"is not a valid bool": "true or false",
    r"is not a ListConfig": "a list, as in [0,1]",
    r"Cannot merge DictConfig with ListConfig": "a list, as in [0,1]",
    r"Cannot merge ListConfig with DictConfig": "a mapping, as in {a: 1}",
    r"to string": "text",
    r"is not Optional": "a value",
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn what Hydra and OmegaConf refuse within the block into a `UserError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(sentence(error)) from error


def sentence(error: Exception) -> str:
    """Return an error of Hydra or OmegaConf as one line that names the key."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, OmegaConfBaseException):
        return _of_key(error)
    override = re.match(r"Error merging override (.*)", str(error))
    if isinstance(error.__cause__, OmegaConfBaseException):
        added = re.search(r"To append to your config use \+(.*)", str(error))
        return _of_key(error.__cause__, override[1] if override else added[1] if added else "")
    return _composition(str(error))


def no_such_key(key: str, known: Iterable[str]) -> str:
    """Return the sentence for a key that a schema lacks; `known` are its parent's."""
    parent, _, name = key.rpartition(".")
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    guess = f"did you mean {parent + '.' if parent else ''}{near[0]}? " if near else ""
    return f"{key}: there is no such key; {guess}{_ALL_KEYS}"


def refuse_unknown_keys(cfg: DictConfig, key: str = "") -> None:
    """Raise `UserError` for the first key below `cfg` that its schema lacks (`+key=value`).

    The node `hydra`, if there is one, is not looked at: Hydra's schema lacks some of its own keys.
    """
    schema = OmegaConf.get_type(cfg)
    known = [f.name for f in fields(schema)] if schema and is_dataclass(schema) else None
    for name in map(str, cfg.keys()):
        path = f"{key}.{name}" if key else name
        if path == "hydra":
            continue
        if known is not None and name not in known:
            raise UserError(no_such_key(path, known))
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_missing() and not node._is_none():
            refuse_unknown_keys(node, path)


def _unreadable(error: OverrideParseException) -> str:
    # The error of an override within brackets lacks the override.
    text = error.override or first_line(error)
    if "=" not in text and not text.startswith("~"):
        return f"{text}: expected KEY=VALUE without spaces around `=`; write {text}=VALUE"
    return (
        f"{text}: cannot be read as KEY=VALUE; put a value with spaces, brackets, commas or quotes "
        f"in quotes of the shell and of Hydra, as in \"key='a b'\""
    )


def _missing(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = [name for name in error.options or () if not name.startswith("base_")]
    if not group:
        return f"--config-name: there is no file {choice}.yaml in conf/ or the folder --config-dir"
    plugin = ", or install the plugin of Hydra that has it" if group.startswith("hydra/") else ""
    near = difflib.get_close_matches(choice, options, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    known = f"choose one of {', '.join(options)}" if options else "the group has no choices"
    return f"{group}: there is no choice {choice!r}; {guess}{known}{plugin}"


def _of_key(error: OmegaConfBaseException, override: str = "") -> str:
    key, own = str(error.full_key or ""), override.lstrip("+~").partition("=")[0]
    if own and not key.startswith(own.partition(".")[0]):
        # OmegaConf names a new entry of a mapping without its parents.
        key = own
    key = key or "configuration"
    said = first_line(error)
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and "not in" in said:
        if error.object_type is dict:
            return f"{key}: a new entry of a mapping needs a +; write '+{override}'"
        parent = error.parent_node
        known = [str(name) for name in parent] if isinstance(parent, Container) else []
        return no_such_key(key, known)
    if "does not support deletion" in said:
        return f"~{key}: a key of the schema cannot be removed; set it to a value"
    expected = next((text for sign, text in _EXPECTED.items() if re.search(sign, said)), None)
    if expected is None:
        return f"{key}: {said}; {_ALL_KEYS}"
    value = re.match(r"Value '(.*?)'(?: of type| is not)", said)
    got = value[1] if value else override.partition("=")[2]
    return f"{key}: expected {expected}, got {got!r}"


def _composition(text: str) -> str:
    """Return the sentence for a message of Hydra's that has no cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    quoted = re.search(r"'(.*?)'", lines[0] if lines else "")
    name = quoted[1] if quoted else "configuration"
    if lines and lines[0].startswith(("Ambiguous value", "Sweep parameters")):
        return (
            f"{name}: several values are a sweep, which needs -m; a list is written in brackets, "
            "and text with commas in quotes"
        )
    if lines and lines[0].startswith("Could not delete"):
        return f"~{name}: there is nothing of that name to remove; {_ALL_KEYS}"
    if lines and lines[0].startswith("Could not append"):
        return f"+{name}: the key has a value already; leave the + out"
    if raised := re.search(r"Key '(.*?)' not in '.*?'\s+full_key: (\S+)", text):
        return f"{raised[2]}: there is no such key ({lines[0].split(':')[0]}); {_ALL_KEYS}"
    kept = [line for line in lines if not line.startswith(("To append", "Set the env"))]
    return f"{name}: {' '.join(kept)}"
