"""A name means one thing within a module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
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
