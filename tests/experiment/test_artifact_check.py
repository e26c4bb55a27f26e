import pytest

from aegaeon.errors import UserError
from aegaeon.experiment.artifact_check import validate


@pytest.mark.slow
def test_crossings_lie_within_15_percent_of_the_artifacts_simulator(shared_data):
    comparisons = validate(shared_data)
    assert len(comparisons) == 12
    assert max(abs(c.deviation) for c in comparisons) <= 0.15
    gradual = [c for c in comparisons if c.system != "serverlessllm_plus_paper"]
    assert max(c.largest_gap for c in gradual) <= 0.15


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"synth-80-0\.1.*--data"):
        validate(tmp_path)
