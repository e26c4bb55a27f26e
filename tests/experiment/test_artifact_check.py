from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment.artifact_check import Comparison, validate
from aegaeon.experiment.artifact_report import markdown, write_markdown

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


@pytest.mark.slow
def test_crossings_lie_near_those_of_the_artifacts_simulator_and_are_those_of_the_page(shared_data):
    comparisons = validate(shared_data)
    assert markdown(comparisons) in PAGE.read_text()
    assert len(comparisons) == 12
    assert max(abs(c.deviation) for c in comparisons) <= 0.15
    same_inputs = [c for c in comparisons if c.inputs == "its"]
    assert max(abs(c.deviation) for c in same_inputs) <= 0.05
    assert max(c.largest_gap for c in same_inputs) <= 0.12


def test_the_table_lands_between_the_marks_of_the_page(tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text())
    rows = [Comparison("aegaeon", "artifact_qos", "its", 66.0, 60.0, 0.05)]
    write_markdown(rows, copy)
    line = "| `aegaeon` | `artifact_qos` | its | 66.0 | 60.0 | +10.0% | 0.050 |"
    assert copy.read_text().count("| `aegaeon` |") == 1
    assert line in copy.read_text()
    with pytest.raises(UserError, match="end of artifact"):
        write_markdown(rows, tmp_path / "absent.md")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"synth-80-0\.1.*--data"):
        validate(tmp_path)
