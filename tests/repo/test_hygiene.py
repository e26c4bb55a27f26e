"""What must never be committed, and what must be there for every experiment."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from aegaeon.claims import load_claims
from aegaeon.experiment.reproduce import EXPERIMENTS
from aegaeon.live.measure.targets import STORED
from figures import REGISTRY

ROOT = Path(__file__).parents[2]
EXPERIMENT_FILES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
NOT_A_FIGURE = {"kick", "live_kick", "live_tp2", "live_compare", "live_compare_simulated"}
# Live experiments that are panels beside the simulated one, and figures of another's experiment.
NOT_A_FIGURE |= {"live_fig07", "live_fig14", "live_fidelity"}
DRAWN_FROM = {"fig07": "fig14", "fig15a": "fig14", "fig15b": "fig14", "fig16": "fig14"}
MAX_LINES = 400
GENERATED = {".git", ".venv", ".venv-live", "__pycache__", "outputs", "multirun", "dist", "build"}

# Written so that this file does not hold what it looks for.
FOLDERS = "|".join(("home", "Users", "root", "tmp", "work", "opt", "mnt", "srv", "scratch"))
PATTERNS = {
    "an absolute path": re.compile(rf"(?<![\w.:/~}})-])/(?:{FOLDERS})/\w"),
    "an IP address": re.compile(
        r"(?<![\w.=-])(?!127\.0\.0\.1\b|0\.0\.0\.0\b)(?:\d{1,3}\.){3}\d{1,3}(?![\w.-])"
    ),
    "a package registry": re.compile(
        r"\b(?:pypi\.(?:org|python)|python"
        r"hosted\.org|npm"
        r"js\.org|ana"
        r"conda\.org"
        r"|https?://\S*/simple\b|(?:artifactory|nexus|devpi)[\w-]*\.\w)"
    ),
    "unfinished work": re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b"),
}


def committed() -> list[Path]:
    """Return the files that git tracks or would, or all but generated ones without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not _generated(path.relative_to(ROOT))]
    return sorted(path for path in paths if path.is_file())


def _generated(path: Path) -> bool:
    run_output = path.parts[0] == "runs" and path.parts[1:2] not in (("stored",), ("README.md",))
    hidden_folder = any(part.startswith(".") for part in path.parts[:-1])
    return run_output or hidden_folder or bool(GENERATED & set(path.parts))


FILES = committed()


def text_of(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data or path.suffix == ".pdf" else data.decode("utf-8")


@pytest.mark.parametrize("what", PATTERNS)
def test_no_committed_file_holds(what: str) -> None:
    found = []
    for path in FILES:
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if match := PATTERNS[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("an absolute path", "open('/" + "home/someone/data')"),
        ("an absolute path", "prefix: /" + "opt/conda"),
        ("an IP address", "host: 10.1." + "2.3"),
        ("a package registry", "--index-url https://pypi." + "org/simple"),
        ("unfinished work", "# TO" + "DO: later"),
    ],
)
def test_patterns_find_what_they_look_for(what: str, line: str) -> None:
    assert PATTERNS[what].search(line)


@pytest.mark.parametrize(
    "line",
    ["http://127.0.0.1:5000", "https://example.org/work/x", "workloads/data/a", "types==6.0.12.1"],
)
def test_patterns_leave_harmless_lines_alone(line: str) -> None:
    assert not [what for what, pattern in PATTERNS.items() if pattern.search(line)]


def test_no_python_file_is_too_long() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in FILES if p.suffix == ".py"}
    assert lengths
    assert {str(p): n for p, n in lengths.items() if n > MAX_LINES} == {}


def test_every_data_file_loads() -> None:
    documents = [p for p in FILES if p.suffix in (".yaml", ".yml", ".cff")]
    assert len(documents) > len(EXPERIMENT_FILES)
    for path in documents:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (p for p in FILES if p.suffix == ".json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXPERIMENT_FILES, ids=lambda p: p.stem)
def test_experiment_names_itself_and_its_command(path: Path) -> None:
    text = path.read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    command = f"# aegaeon run experiment={path.stem}"
    assert any(re.match(rf"{re.escape(command)}(\s|$)", line) for line in header)
    assert yaml.safe_load(text)["name"] == path.stem


def test_every_figure_has_an_experiment_and_every_experiment_a_figure() -> None:
    stems = {path.stem for path in EXPERIMENT_FILES} - NOT_A_FIGURE
    homes = {stem.partition("_")[0] for stem in stems}
    panels = {name for name in REGISTRY if name.startswith("fig") and name not in _grouped()}
    panels = {DRAWN_FROM.get(name, name).partition("_")[0] for name in panels}
    assert homes == panels
    assert set(EXPERIMENTS) == stems


def _grouped() -> set[str]:
    """Return the figures that only gather panels, such as fig11 beside fig11a."""
    return {a for a in REGISTRY for b in REGISTRY if b != a and re.fullmatch(f"{a}[a-z]", b)}


def test_every_table_of_a_claim_has_an_experiment_and_a_figure() -> None:
    claims = load_claims()
    tables = {table for claim in claims if claim.check != "bench" for table in claim.tables}
    assert tables <= {path.stem for path in EXPERIMENT_FILES}
    assert tables - NOT_A_FIGURE <= set(REGISTRY)


def test_claims_read_the_numbers_where_the_benchmark_stores_them() -> None:
    tables = {t for claim in load_claims() if claim.check == "bench" for t in claim.tables}
    assert [ROOT / f"runs/stored/{table}.json" for table in tables] == [STORED]


def test_stored_results_are_complete() -> None:
    stored = {path.stem for path in (ROOT / "runs" / "stored").glob("*.parquet")}
    if not stored:
        pytest.skip("no stored results in this checkout")
    assert stored - NOT_A_FIGURE == set(EXPERIMENTS)


def test_citation_and_archive_name_the_same_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    archive = json.loads((ROOT / ".zenodo.json").read_text())
    paper = citation["preferred-citation"]
    assert paper["doi"] in {item["identifier"] for item in archive["related_identifiers"]}
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Xiang", "Li"]
    assert citation["license"] == archive["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
