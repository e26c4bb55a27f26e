"""Aegaeon's dispatcher is made of parts; its artifact preset estimates as the artifact does."""

import pytest

from aegaeon.core import Request, Stage
from aegaeon.policy.decode import DecodeScheduler, RoundOptions
from aegaeon.policy.interface import Placement
from aegaeon.policy.system import _ByModel, _ByStage
from tests.support.small_market import cost


class Holder:
    """A dispatcher that lets one request go whenever an instance comes or goes."""

    def __init__(self, ident: int) -> None:
        self.released = Placement(Request(ident, "a", 0.0, 1), ident)

    def place(self, request, stage, now):
        return None

    def finished(self, request, stage, instance, now):
        return [self.released]

    def available(self, instance, up, now):
        return [self.released]


@pytest.mark.parametrize("compose", [_ByStage, lambda a, b: _ByModel({"a": a, "b": b})])
def test_what_every_part_lets_go_is_placed(compose) -> None:
    first, second = Holder(1), Holder(2)
    both = compose(first, second)
    assert list(both.available(0, True, 0.0)) == [first.released, second.released]


@pytest.mark.parametrize(("stage", "part"), [(Stage.PREFILL, 1), (Stage.DECODE, 2)])
def test_a_request_leaves_the_part_of_its_stage(stage, part) -> None:
    parts = {ident: Holder(ident) for ident in (1, 2)}
    both = _ByStage(parts[1], parts[2])
    assert both.finished(parts[1].released.request, stage, 0, 0.0) == [parts[part].released]


def test_the_artifact_estimates_a_step_of_a_batch_of_minus_one() -> None:
    costs = {"a": cost(decode_base_s=0.01, decode_context_s=1e-6, decode_request_s=1e-4)}
    quotas = []
    for batch_term in (True, False):
        options = RoundOptions(0.1, 4.0, 0.5, prefetch=False, batch_term=batch_term)
        scheduler = DecodeScheduler(costs, 1e12, options)
        for ident in range(3):
            scheduler.add(Request(ident, "a", 0.0, 99), 0.0)
        (batch,) = scheduler._work_list["a"]
        quotas.append(scheduler._step_s(batch))
    assert quotas == pytest.approx([0.01 + 300e-6 + 3e-4, 0.01 + 300e-6 - 1e-4])
