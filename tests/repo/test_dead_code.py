"""What is defined in production is used in production, not by tests alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# For users: hands a workload to the artifact's own simulator.
FOR_USERS = {"write_artifact_csv"}


def modules() -> dict[Path, ast.Module]:
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return {path: ast.parse(path.read_text()) for path in [*paths, *ROOT.glob("notebooks/*.py")]}


def defined(body: list[ast.stmt], ours: set[str]) -> Iterator[str]:
    """Yield the functions, classes and methods of a module, but not what a foreign base calls.

    A decorator may be what makes use of a definition; only some do not.
    """
    for node in body:
        decorators = " ".join(ast.unparse(d) for d in getattr(node, "decorator_list", ()))
        if decorators and not re.match(r"(dataclass|property|cached_property)\b", decorators):
            continue
        if isinstance(node, FUNCTIONS) and not node.name.startswith("__"):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
            if {ast.unparse(base).partition("[")[0] for base in node.bases} <= ours:
                yield from defined(node.body, ours)


def used(module: ast.Module, exports: bool) -> Iterator[str]:
    """Yield what a module names, also in strings; an `__init__` that passes on uses nothing."""
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and not exports:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not exports:
            yield from () if " " in node.value else re.findall(r"\w+", node.value)


def test_every_definition_has_a_user_in_production() -> None:
    trees = modules()
    classes = {n.name for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.ClassDef)}
    ours = classes | {"Protocol", "Generic", "ABC", "Exception", "Enum", "StrEnum", "IntEnum"}
    names = {name for path, tree in trees.items() for name in used(tree, path.stem == "__init__")}
    unused = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees.items()
        for name in defined(tree.body, ours)
        if name not in names | FOR_USERS
    }
    assert unused == set()
