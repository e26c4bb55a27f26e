"""What the documents say and a program can check."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest

from aegaeon.claims import check
from aegaeon.claims.report import markdown
from aegaeon.cli import cli
from aegaeon.core import Slo
from aegaeon.experiment.compose import compose_raw, parse
from aegaeon.experiment.config import from_hydra
from aegaeon.results.commands import columns_text
from aegaeon.results.detail_schema import details_text
from aegaeon.scoring.score import Timelines, score

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#|mailto:)([^)#\s]+)")
LINE = re.compile(r"^ *(?:\$ )?(?:source \S+ && )?(aegaeon|make) +([^`\n]*)$", re.MULTILINE)
INLINE = re.compile(r"`(aegaeon|make) ([^`]+)`")
MODULE = re.compile(r"python -m (?:aegaeon\.|profiles|workloads|kernels)[\w.]*")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(program: str, pattern: re.Pattern[str]) -> list[str]:
    """Return what follows `program` where `pattern` finds commands, without shell comments."""
    found = {
        match[2].split(" #")[0].split(";")[0].strip()
        for path in DOCUMENTS
        for match in pattern.finditer(path.read_text())
        if match[1] == program
    }
    return sorted(found)


RUNS = [
    text.removeprefix("run").strip()
    for text in commands("aegaeon", LINE)
    if text.split()[0] == "run" and not re.search(r" --|FILE|<|…", text)
]


def parsed(words: list[str], complete: bool) -> str:
    """Return what click says against a command, nothing if it can be parsed.

    Without `complete`, arguments that have to be given may be missing, as where a text names a
    command only.
    """
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0] not in command.commands:
            return f"no command {words[0]!r}" if complete or words[0][0].islower() else ""
        command = command.commands[words.pop(0)]
    if command is cli.commands["run"]:
        return ""
    try:
        command.make_context("aegaeon", words) if words or complete else None
    except click.MissingParameter as error:
        return error.format_message() if complete else ""
    except click.UsageError as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("command", commands("aegaeon", LINE))
def test_documented_command_parses(command) -> None:
    assert parsed(shlex.split(command), complete=True) == ""


@pytest.mark.parametrize("command", commands("aegaeon", INLINE))
def test_command_named_in_a_text_parses(command) -> None:
    assert parsed(shlex.split(command), complete=False) == ""


def test_documented_make_targets_exist() -> None:
    lines = {*commands("make", LINE), *commands("make", INLINE)}
    words = [word for line in lines for word in shlex.split(line) if "=" not in word]
    assert len(set(words)) >= 10
    assert set(words) <= TARGETS


def test_no_document_names_a_module_to_run() -> None:
    found = [(p.name, m[0]) for p in DOCUMENTS for m in MODULE.finditer(p.read_text())]
    assert found == []


def test_relative_links_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in DOCUMENTS
        for target in LINK.findall(path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("command", RUNS)
def test_documented_run_composes(command) -> None:
    overrides = [text for text in shlex.split(command) if text != "-m"]
    first = [
        f"{o.get_key_element()}={next(o.sweep_string_iterator())}"
        if o.is_sweep_override()
        else o.input_line
        for o in parse(overrides)
    ]
    from_hydra(compose_raw(["~local", *first]))


def test_the_table_of_claims_is_that_of_the_stored_results() -> None:
    table = markdown(check(ROOT / "runs" / "stored"))
    assert table in (ROOT / "docs" / "claims.md").read_text()


def test_enough_commands_are_documented() -> None:
    assert len(RUNS) >= 6
    assert len(commands("aegaeon", LINE)) >= 20
    assert len(commands("aegaeon", INLINE)) >= 20


def test_metrics_explains_every_column_as_the_schema_does() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert columns_text() in text
    assert details_text() in text


def test_worked_example_of_the_artifact_formula() -> None:
    late = Timelines(
        request=np.array([0]),
        count=np.array([100]),
        start=np.array([19.9]),
        step=np.array([0.1]),
        slope=np.array([0.0]),
    )
    scores = score(late, np.array([0.0]), Slo(10.0, 0.1))
    assert scores.on_time.sum() == 0
    assert scores.artifact_qos[0] == pytest.approx(9.9 / 29.9)


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    extras = project["project"]["optional-dependencies"].values()
    wanted += [requirement for extra in extras for requirement in extra]
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    explained = set(re.findall(r"`([A-Za-z][\w-]*)`", text.split("## The lock")[0]))
    assert names <= explained


def test_every_system_and_group_is_explained() -> None:
    systems = re.findall(r"^\| `(\w+)` \|", (ROOT / "baselines" / "README.md").read_text(), re.M)
    assert sorted(systems) == sorted(path.stem for path in (CONF / "system").glob("*.yaml"))
    groups = re.findall(r"^\| `(\w+)` \|", (CONF / "README.md").read_text(), re.M)
    assert sorted(groups) == sorted(path.name for path in CONF.iterdir() if path.is_dir())
