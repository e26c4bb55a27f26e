"""What tells runs apart whose settings are equal; the inputs of stored rows do not change."""

from pathlib import Path

import pytest

from aegaeon.experiment.config import from_hydra
from aegaeon.experiment.distinctions import distinctions

CONF = Path(__file__).parents[2] / "conf"
CHOICES = [
    f"{group}={path.stem}"
    for group in ("system", "models")
    for path in sorted((CONF / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES)
def test_choices_of_stored_rows_have_nothing_to_add(choice, composed) -> None:
    assert distinctions(from_hydra(composed(choice))) == {}


def test_the_order_of_types_tells_runs_apart(composed) -> None:
    config = from_hydra(composed())
    types = config.models.types
    config.models.types = {key: types[key] for key in ("yi", "qwen", "llama")}
    assert distinctions(config) == {"order of models.types": "yi, qwen, llama"}
    # Other types than those of stored rows are in order if they are in the alphabet's.
    config.models.types = {"a": types["yi"], "b": types["qwen"]}
    assert distinctions(config) == {}
    config.models.types = {"b": types["yi"], "a": types["qwen"]}
    assert distinctions(config) == {"order of models.types": "b, a"}


def test_two_classes_under_one_name_are_told_apart(composed) -> None:
    same = ("system.name=mine", "system.max_batch=4", "system.drop_after_s=15")
    found = [
        distinctions(from_hydra(composed(f"system={choice}", *same, "system.load_gbps=16")))
        for choice in ("serverlessllm", "serverlessllm_paper")
    ]
    assert [set(each) for each in found] == [{"class of system"}] * 2
    assert found[0] != found[1]
    borrowed = from_hydra(composed("system=serverlessllm", "system.name=serverlessllm_paper"))
    assert distinctions(borrowed)
    # No other class has Aegaeon's keys: a user's name for it tells enough.
    assert distinctions(from_hydra(composed("system.name=mine"))) == {}
