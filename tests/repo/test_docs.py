"""What the documents say and a program can check."""

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from aegaeon.claims import check
from aegaeon.claims.report import markdown
from aegaeon.core import Slo
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
COMMAND = re.compile(r"^(?:\$ )?aegaeon run( [^#\n`]*)?(?:#.*)?$", re.MULTILINE)


def commands() -> list[str]:
    """Return what follows `aegaeon run` on lines of their own that need nothing of the user's."""
    found = {match[1] or "" for path in DOCUMENTS for match in COMMAND.finditer(path.read_text())}
    return sorted(text.strip() for text in found if not re.search(r" --|FILE|<|…", text))


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


@pytest.mark.parametrize("command", commands())
def test_documented_run_composes(command) -> None:
    overrides = [text for text in shlex.split(command) if text != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    first = [
        f"{o.input_line.partition('=')[0]}={next(o.sweep_string_iterator())}"
        if o.is_sweep_override()
        else o.input_line
        for o in parsed
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        from_hydra(compose("config", overrides=["~local", *first]))


def test_the_table_of_claims_is_that_of_the_stored_results() -> None:
    table = markdown(check(ROOT / "runs" / "stored"))
    assert table in (ROOT / "docs" / "claims.md").read_text()


def test_enough_commands_are_documented() -> None:
    assert len(commands()) >= 6


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
