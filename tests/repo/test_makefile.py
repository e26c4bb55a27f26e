"""What `make` would do, where no test carries it out."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from aegaeon.cli import cli
from figures import REGISTRY

ROOT = Path(__file__).parents[2]
TARGETS = (
    *("live", "live-kick", "kick", "figures", "claims", "reproduce", "reproduce-all", "mlflow"),
    *("doctor", "bench", "bench-live", "bench-memory", "bench-kernels"),
)


def planned(*words: str) -> str:
    command = ["make", "--dry-run", "--silent", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", TARGETS)
def test_the_commands_of_a_target_parse(target: str) -> None:
    lines = re.findall(r"bin/aegaeon ([^;\n]+)", planned(target, "STORE=1", "WITH_LIVE="))
    assert lines
    for line in lines:
        first, *rest = shlex.split(line)
        command = cli.commands[first]
        while isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
        command.make_context(first, rest)


def test_live_draws_known_figures_of_all_live_experiments_the_profiled_one_first() -> None:
    commands = planned("live")
    (figures,) = re.findall(r"aegaeon figures .*--out \S+ (.+)", commands)
    assert set(figures.split()) <= set(REGISTRY)
    (experiments,) = re.findall(r"aegaeon results export .*--stored \S+ (.+)", commands)
    first, *others = experiments.split()
    assert first == "live_fidelity"
    written = {path.stem for path in (ROOT / "conf" / "experiment").glob("live_*.yaml")}
    assert {first, *others} == written
