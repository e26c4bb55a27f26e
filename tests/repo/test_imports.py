"""Who imports whom: the contracts of `.importlinter`, and what starting a run loads."""

import ast
import os
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("aegaeon", "baselines", "workloads", "profiles", "kernels", "figures")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
SET_VARIABLES = {"aegaeon/live/ray/__init__.py", "aegaeon/live/vllm/__init__.py"}
# Without what the tests' own process may have set.
QUIET = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "VLLM_"))}
HEAVY = ("torch", "ray", "vllm", "mlflow", "matplotlib", "seaborn")
# What need not be loaded to print help.
SLOW = ("hydra", "numpy", "pandas", "pyarrow", "rich", "yaml")
# Cycles that stand until work under way takes them out: the modules of each.
KNOWN_CYCLES = ({"aegaeon.sim.simulator", "aegaeon.sim.time_shared", "aegaeon.sim.space_shared"},)
# A module, an import that it must not have, and what the linter then says.
FORBIDDEN = (
    ("aegaeon/core/work.py", "import numpy", "aegaeon.core", "numpy"),
    ("aegaeon/policy/quota.py", "import time", "aegaeon.policy", "time"),
    ("aegaeon/policy/sizing.py", "import aegaeon.scoring", "aegaeon.policy", "aegaeon.scoring"),
    (
        "baselines/continuous_batching.py",
        "from aegaeon.sim import kv",
        "baselines",
        "aegaeon.sim",
    ),
    ("aegaeon/sim/kv.py", "from aegaeon.live import options", "aegaeon.sim", "aegaeon.live"),
    (
        "aegaeon/live/memory/cleanup.py",
        "from aegaeon.sim import kv",
        "aegaeon.live",
        "aegaeon.sim",
    ),
    ("aegaeon/live/instance/instance.py", "import ray", "aegaeon", "ray"),
    ("aegaeon/live/instance/instance.py", "import vllm", "aegaeon", "vllm"),
    ("profiles/leastsq.py", "import torch", "profiles", "torch"),
    (
        "aegaeon/live/control/tracks.py",
        "from aegaeon.live.ray import calls",
        "aegaeon.live.control",
        "ray",
    ),
    (
        "aegaeon/live/preflight/checks.py",
        "from aegaeon.live.memory import device",
        "aegaeon.live.preflight",
        "torch",
    ),
    (
        "aegaeon/scoring/score.py",
        "from aegaeon.results import store",
        "aegaeon.scoring.score",
        "aegaeon.results",
    ),
    ("workloads/checks.py", "from profiles import cost", "workloads", "profiles"),
    ("aegaeon/results/parquet.py", "import baselines", "aegaeon.results", "baselines"),
    (
        "figures/style.py",
        "from aegaeon.experiment import plan",
        "figures",
        "aegaeon.experiment",
    ),
    (
        "aegaeon/scoring/goodput.py",
        "from aegaeon.experiment import config",
        "aegaeon.scoring.goodput",
        "aegaeon.experiment",
    ),
    ("kernels/views.py", "from aegaeon import core", "kernels", "aegaeon"),
    ("aegaeon/experiment/hydra_job.py", "import mlflow", "aegaeon", "mlflow"),
    ("aegaeon/scoring/tables.py", "import matplotlib", "aegaeon", "matplotlib"),
    ("workloads/checks.py", "import seaborn", "workloads", "seaborn"),
    ("aegaeon/results/commands.py", "import click", "aegaeon", "click"),
    (
        "aegaeon/experiment/reproduce.py",
        "from aegaeon.cli import cli",
        "aegaeon.experiment",
        "aegaeon.cli",
    ),
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--no-cache"]
    wide = os.environ | {"COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=wide, capture_output=True, text=True, check=False
    )


def test_every_import_contract_is_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


def test_forbidden_imports_break_every_contract(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for module, line, _, _ in FORBIDDEN:
        path = tmp_path / module
        path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1
    assert " 0 kept" in result.stdout
    for _, _, importer, imported in FORBIDDEN:
        assert f"{importer} is not allowed to import {imported}:" in result.stdout


def test_the_command_line_loads_nothing_but_click() -> None:
    script = "import sys, aegaeon.cli; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {*HEAVY, *SLOW} & set(loaded.stdout.split()) == set()


def cycle(imports: dict[str, set[str]]) -> list[str]:
    """Return the modules of an import cycle, each imported by the one before; [] if none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_import_cycles() -> None:
    """Imports for type checkers and within functions count: they would only hide a cycle."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    imports = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    for known in KNOWN_CYCLES:
        for name in known & imports.keys():
            imports[name] -= known
    assert cycle(imports) == []


def test_a_cycle_is_named() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"a"}}) in (
        ["b", "c", "d", "b"],
        ["c", "d", "b", "c"],
        ["d", "b", "c", "d"],
    )


def test_starting_a_run_loads_nothing_heavy() -> None:
    script = "import sys, aegaeon.experiment.hydra_job; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(loaded.stdout.split()) == set()


@pytest.mark.parametrize("module", ["experiment.config", "experiment.hydra_job", "live", "cli"])
def test_importing_what_a_simulated_run_needs_leaves_the_environment_alone(module: str) -> None:
    script = f"import os; b = dict(os.environ); import aegaeon.{module}; assert b == os.environ"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=QUIET, check=True)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_only_what_imports_ray_or_vllm_sets_variables_when_imported(path: Path) -> None:
    """Ray and vLLM read theirs when they are imported; a program of its own may do as it likes."""
    name = path.relative_to(ROOT).as_posix()
    if name in SET_VARIABLES or path.name == "__main__.py":
        return
    at_import = [n for n in ast.parse(path.read_text()).body if not isinstance(n, DEFINITIONS)]
    assert [
        ast.unparse(n) for n in at_import if re.search(r"\bos\.environ\b|putenv", ast.unparse(n))
    ] == []
