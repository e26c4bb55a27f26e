"""Every configuration key that a message or a document names is one that Hydra accepts."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from aegaeon.constraints import KEY
from aegaeon.experiment.config import (
    Config,
    DeviceOptions,
    Market,
    ModelOptions,
    TraceWorkload,
)

ROOT = Path(__file__).parents[2]
PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "*/README.md", "conf/**/*.yaml", "Makefile")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
# What follows a group's name with a dot but is a file.
SUFFIXES = {"py", "md", "yaml", "json", "parquet"}
# Keys of `models` and `hardware` whose values are a mapping or another schema.
NESTED = {"models.types": None, "models.shares": None, "hardware.device": DeviceOptions}
# Functions of `workloads` that write "workload.KEYWORD: ..." for a keyword of theirs.
CHECKS = {"require_positive", "require_choice"}


def schemas(group: str) -> list[type]:
    """Return the dataclasses that may fill a top-level key, none for a plain value."""
    store = ConfigStore.instance()
    if group in store.repo:
        return [node.node._metadata.object_type for node in store.repo[group].values()]
    default = getattr({f.name: f for f in fields(Config)}[group], "default_factory", None)
    return [default] if is_dataclass(default) else []


KEYS = {
    f.name: {inner.name for schema in schemas(f.name) for inner in fields(schema)}
    for f in fields(Config)
}
GROUPS = [name for name, inner in KEYS.items() if inner]
DOTTED = re.compile(rf"(?<![\w./@])({'|'.join(GROUPS)})\.([a-z_][\w]*)(?:\.([a-z_]\w*))?")


def unknown(text: str) -> list[str]:
    """Return the dotted keys in a text that no schema of their group has."""
    found = []
    for group, key, inner in DOTTED.findall(text):
        name = f"{group}.{key}"
        schema = NESTED.get(name)
        if key in SUFFIXES or (key in KEYS[group] and (not inner or name in NESTED)):
            known = {f.name for f in fields(schema)} if schema else {inner}
            if not inner or inner in known or inner in SUFFIXES:
                continue
        found.append(".".join(filter(None, (group, key, inner))))
    return found


def literal(node: ast.expr) -> str:
    """Return a message as far as it is written out; what is filled in becomes a blank."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return " "


def messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id="UserError"), args=[message, *_]):
                yield literal(message)


def test_the_schemas_are_found() -> None:
    assert KEYS["workload"] >= {"rate_rps", "path", "skew"}
    assert KEYS["host_pool"] >= {"slab_bytes"}
    assert unknown("raise workload.rat or models.types.yi") == ["workload.rat"]
    assert unknown("hardware.device.memory_bytes, hardware.device.size") == ["hardware.device.size"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_messages_name_keys_that_exist(path: Path) -> None:
    assert [key for message in messages(path) for key in unknown(message)] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_documents_name_keys_that_exist(path: Path) -> None:
    assert unknown(path.read_text()) == []


def test_every_number_of_the_configuration_has_a_range() -> None:
    """A number without one may end a run in a traceback, or never."""
    classes = {DeviceOptions, ModelOptions, Config, *(s for g in KEYS for s in schemas(g))}
    without = [
        f"{owner.__name__}.{item.name}"
        for owner in classes
        for item in fields(owner)
        if re.search(r"\b(int|float)\b", str(item.type)) and KEY not in item.metadata
    ]
    assert sorted(without) == []


def test_messages_of_workloads_start_with_a_whole_key() -> None:
    """A message that begins `rate_rps:` names what no command line accepts."""
    whole = {f.name for f in fields(Config)}
    starts = [
        match[1]
        for path in sorted((ROOT / "workloads").rglob("*.py"))
        for message in messages(path)
        if (match := re.match(r"([a-z_]+):", message))
    ]
    assert set(starts) <= whole


def test_checks_of_workloads_are_of_keys_of_the_group() -> None:
    keys = {f.name for schema in (Market, TraceWorkload) for f in fields(schema)}
    found = {
        keyword.arg
        for path in sorted((ROOT / "workloads").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in CHECKS
        for keyword in node.keywords
    }
    assert found
    assert found <= keys
