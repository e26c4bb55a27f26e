"""A name means one thing within a module, and names of modules and files in texts exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TEXTS = [
    *(ROOT / name for name in ("Makefile", ".importlinter", "pyproject.toml", "README.md")),
    *sorted(path for name in ("docs", *PACKAGES) for path in (ROOT / name).glob("**/*.md")),
    *sorted((ROOT / "conf").rglob("*.yaml")),
]
DOTTED = re.compile(rf"(?<![\w./'-])(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+(?!\w)")
FILES = re.compile(rf"(?<![\w./<-])(?:{'|'.join(PACKAGES)}|conf|docs)/[\w/.-]*\w\.(?:py|md|yaml)\b")
NOT_OURS = {"aegaeon.mplstyle"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def defined(module: ast.Module) -> set[str]:
    """Return what a module imports, and its functions and classes."""
    names = set()
    for node in module.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
    return names


def shadowed(module: ast.Module) -> Iterator[str]:
    """Yield `function: name` where a local variable or argument hides what the module defines."""
    for function in ast.walk(module):
        if isinstance(function, FUNCTIONS):
            local = {n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg)}
            local |= {
                n.id
                for n in ast.walk(function)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            yield from (f"{function.name}: {name}" for name in local & defined(module))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_local_name_hides_one_of_the_module(path: Path) -> None:
    assert list(shadowed(ast.parse(path.read_text()))) == []


def test_a_hidden_name_is_found() -> None:
    source = "from a import kept\ndef f(x):\n    kept = x\n    return kept\n"
    assert list(shadowed(ast.parse(source))) == ["f: kept"]


def prose(path: Path) -> str:
    """Return a text file, or the strings and comments of a module."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    kinds = {tokenize.STRING, tokenize.COMMENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def exists(dotted: str) -> bool:
    """Tell whether a dotted name is a module of ours, or something that a module names."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:end])
        source = place.with_suffix(".py")
        if place.is_dir() or source.exists():
            text = (source if source.exists() else place / "__init__.py").read_text()
            return end == len(parts) or bool(re.search(rf"\b{parts[end]}\b", text))
    return False


@pytest.mark.parametrize("path", [*MODULES, *TEXTS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_and_files_that_a_text_names_exist(path: Path) -> None:
    text = prose(path)
    dotted = {name for name in DOTTED.findall(text) if not exists(name)} - NOT_OURS
    assert dotted == set()
    assert [name for name in FILES.findall(text) if not (ROOT / name).exists()] == []


def test_a_stale_name_is_found() -> None:
    assert exists("aegaeon.live.memory.device.CpuDevice")
    assert not exists("aegaeon.engine.bench")
    assert FILES.findall("see docs/live.md, conf/no.yaml") == ["docs/live.md", "conf/no.yaml"]
