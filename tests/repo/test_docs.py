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
from aegaeon.results.schema import ROWS, details_text
from aegaeon.runlog import Timelines
from aegaeon.scoring.score import score

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
FOLDERS = (*PACKAGES, "notebooks", "tests")
OF_THE_ARTIFACT = {"plots/plot_e2e.py"}
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#|mailto:)([^)#\s]+)")
LINE = re.compile(r"^ *(?:\$ )?aegaeon +([^`\n]*)$", re.MULTILINE)
INLINE = re.compile(r"`aegaeon ([^`]+)`")
MODULE = re.compile(r"python -m (?:aegaeon\.|profiles|workloads|kernels)[\w.]*")


def commands(pattern: re.Pattern[str]) -> list[str]:
    """Return what follows `aegaeon` where `pattern` finds commands, without shell comments."""
    found = [match for path in DOCUMENTS for match in pattern.findall(path.read_text())]
    return sorted({text.split(" #")[0].strip() for text in found})


RUNS = [
    text.removeprefix("run").strip()
    for text in commands(LINE)
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


@pytest.mark.parametrize("command", commands(LINE))
def test_documented_command_parses(command) -> None:
    assert parsed(shlex.split(command), complete=True) == ""


@pytest.mark.parametrize("command", commands(INLINE))
def test_command_named_in_a_text_parses(command) -> None:
    assert parsed(shlex.split(command), complete=False) == ""


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


def spans(path: Path) -> str:
    """Return what a document says in code, one piece a line."""
    text = path.read_text()
    lines = re.findall(r"^(?: {4}|\$ )?(make .*)", text, re.M)
    return "\n".join(re.findall(r"`([^`\n]+)`", text) + lines)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_and_targets_in_documents_exist(path: Path) -> None:
    ours = [module.as_posix() for folder in FOLDERS for module in (ROOT / folder).rglob("*.py")]
    named = set(re.findall(r"[\w/]*\w\.py\b", spans(path))) - OF_THE_ARTIFACT
    absent = [name for name in sorted(named) if not any(p.endswith(f"/{name}") for p in ours)]
    assert absent == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^make ([a-z][\w-]*)", spans(path), re.M)) <= targets


def tables(text: str) -> list[list[str]]:
    """Return the runs of lines that begin with a bar, outside of code."""
    found: list[list[str]] = [[]]
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def cells(row: str) -> int:
    """Return how many cells a row has; a bar in code or after a backslash is text."""
    return re.sub(r"`[^`]*`|\\\|", "", row).count("|") - 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_table_is_one_table(path: Path) -> None:
    """A blank line within a table makes its last rows a second one, which has no heading."""
    for table in tables(path.read_text()):
        assert re.fullmatch(r"\|[-:| ]+\|", table[1] if len(table) > 1 else ""), table[0]
        assert {cells(row) for row in table} == {cells(table[0])}, table[0]


def test_a_cut_table_is_found() -> None:
    whole = "| a | b |\n|---|---|\n| 1 | `x|y` |\n"
    assert [len(table) for table in tables(f"{whole}\n| 2 | 3 |\n```\n| 4 |\n```\n")] == [3, 1]
    assert [cells(row) for row in tables(whole)[0]] == [2, 2, 2]


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
    assert len(commands(LINE)) >= 20
    assert len(commands(INLINE)) >= 20


def test_metrics_explains_every_column_as_the_schema_does() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert ROWS.markdown() in text
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
