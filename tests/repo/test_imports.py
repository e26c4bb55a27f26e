"""Who imports whom: the contracts of `.importlinter`, and what starting a run loads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("aegaeon", "baselines", "workloads", "profiles", "kernels", "figures")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
HEAVY = ("torch", "ray", "vllm", "mlflow", "matplotlib")
# A module, an import that it must not have, and what the linter then says.
FORBIDDEN = (
    ("aegaeon/core.py", "import numpy", "aegaeon.core", "numpy"),
    ("aegaeon/policy/quota.py", "import time", "aegaeon.policy", "time"),
    (
        "aegaeon/policy/layout.py",
        "from aegaeon import scoring",
        "aegaeon.policy",
        "aegaeon.scoring",
    ),
    ("baselines/colocated.py", "from aegaeon.sim import kv", "baselines", "aegaeon.sim"),
    ("aegaeon/sim/steps.py", "from aegaeon.results import store", "aegaeon.sim", "aegaeon.results"),
    ("aegaeon/scoring.py", "from aegaeon import tables", "aegaeon.scoring", "aegaeon.tables"),
    ("workloads/checks.py", "from profiles import cost", "workloads", "profiles"),
    ("aegaeon/results/files.py", "import baselines", "aegaeon.results", "baselines"),
    ("figures/style.py", "from aegaeon import experiment", "figures", "aegaeon.experiment"),
    ("aegaeon/goodput.py", "from aegaeon import config", "aegaeon.goodput", "aegaeon.config"),
    ("profiles/leastsq.py", "import torch", "profiles", "torch"),
    (
        "aegaeon/engine/memory/cleanup.py",
        "from aegaeon import sim",
        "aegaeon.engine",
        "aegaeon.sim",
    ),
    ("kernels/views.py", "from aegaeon import core", "kernels", "aegaeon"),
    ("aegaeon/run.py", "import mlflow", "aegaeon", "mlflow"),
    ("aegaeon/tables.py", "import matplotlib", "aegaeon", "matplotlib"),
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


def test_starting_a_run_loads_nothing_heavy() -> None:
    script = "import sys, aegaeon.run; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(loaded.stdout.split()) == set()
