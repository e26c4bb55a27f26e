from dataclasses import dataclass

import numpy as np
import pytest

from aegaeon.core import Decode, Idle, Prefill, Slo
from aegaeon.errors import UserError
from aegaeon.experiment.sizes import check_sizes
from aegaeon.policy.interface import Placement, Refusal
from aegaeon.policy.lifecycle import ConservationError
from aegaeon.policy.system import Aegaeon
from aegaeon.scoring.score import score_run
from aegaeon.scoring.tables import requests_table, summary
from aegaeon.sim.context import GIVEN_UP
from aegaeon.sim.simulator import Simulator
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper
from tests.support.scripted import Scripted
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

A_B = {"a": cost(), "b": cost()}


def measures(result):
    scores = score_run(result, Slo(10.0, 0.1))
    return summary(result, scores, 10.0), requests_table(result, scores)


def failures(result):
    return [told.failure for told in result.requests]


@pytest.mark.parametrize("prompt", [2400, 1])
def test_a_request_that_fits_nowhere_is_refused_before_any_work(prompt):
    arrivals = arriving(("a", 0.0, 10, 5), ("b", 1.0, prompt, 2500 - prompt))
    system, plan = Aegaeon(prefill=1, decode=1), deployment(A_B, kv_bytes=2.5e9)
    with pytest.raises(UserError, match=r"request 1 for b needs 2\.5 GB of KV for its 2501 tokens"):
        check_sizes(arrivals, system.fleet(plan), plan.costs)
    fits = arriving(("a", 0.0, 10, 5), ("b", 1.0, prompt, 2499 - prompt))
    check_sizes(fits, system.fleet(plan), plan.costs)
    assert not any(failures(simulate(system, plan, fits)))


def test_a_refused_request_is_scored_as_late_and_counted_by_its_reason():
    arrivals = arriving(("b", 0.0, 10, 200), ("a", 0.5, 10, 5), ("a", 4.0, 10, 5))
    plan = deployment(A_B, gpus=1, weight_slots=1)
    result = simulate(ServerlessLLM(drop_after_s=2.0), plan, arrivals)
    # "b" ends at 5.08: the first "a" has waited for more than 2 s, the second has not.
    assert result.refusals == {"unserved after 2 s": 1}
    assert failures(result) == [None, "unserved after 2 s", None]
    assert len(token_times(result)[1]) == 0
    row, table = measures(result)
    assert (row["requests"], row["finished"], row["failed"]) == (3, 2, 1)
    assert row["slo_attainment"] == pytest.approx(205 / 210)
    assert row["joint_attainment"] == pytest.approx(2 / 3)
    assert table["status"].tolist() == ["finished", "failed", "finished"]
    assert table["tokens_on_time"].tolist() == [200, 0, 5]
    assert np.isnan(table["ttft_s"][1])


def test_an_instance_drops_late_requests_at_the_next_step():
    arrivals = arriving(("b", 0.0, 10, 200), ("a", 0.5, 10, 5))
    plan = deployment(A_B, gpus=1, weight_slots=1)
    result = simulate(ServerlessLLMPaper(drop_after_s=2.0, load_gbps=10.0), plan, arrivals)
    assert failures(result) == [None, GIVEN_UP]
    assert result.refusals == {GIVEN_UP: 1}
    # The drop at 2.5 does not disturb the running request.
    assert token_times(result)[0] == pytest.approx(1.1 + 0.02 * np.arange(200))


def test_when_nothing_is_served_every_measure_still_exists():
    arrivals = arriving(("a", 0.0, 10, 5))

    @dataclass
    class Refuser(ServerlessLLM):
        def dispatcher(self, deployment, fleet):
            held = super().dispatcher(deployment, fleet)
            held.place = lambda request, stage, now: Refusal("closed")
            return held

    result = simulate(Refuser(), deployment(A_B, weight_slots=1), arrivals)
    row, _ = measures(result)
    assert result.refusals == {"closed": 1}
    assert (row["slo_attainment"], row["artifact_qos"], row["switches"]) == (0.0, 0.0, 0)
    assert row["ttft_p50_s"] is None


def test_a_policy_that_forgets_a_request_is_found_out():
    arrivals = arriving(("a", 0.0, 10, 5))
    request = arrivals[0].request
    plan = deployment(A_B, weight_slots=1)
    with pytest.raises(ConservationError, match="1 requests never left, first"):
        simulate(Scripted(script=[Prefill("a", (request,))]), plan, arrivals)
    with pytest.raises(ConservationError, match="never left"):
        simulate(Scripted(), plan, arrivals)


def test_a_policy_that_places_a_request_twice_is_found_out():
    arrivals = arriving(("a", 0.0, 10, 1))
    request = arrivals[0].request
    again = (Placement(request, 0),)
    with pytest.raises(ConservationError, match="request 0 is placed and gone"):
        simulate(
            Scripted(script=[Prefill("a", (request,))], again=again),
            deployment(A_B, weight_slots=1),
            arrivals,
        )


def test_a_prefetch_without_a_slot_is_found_out():
    arrivals = arriving(("a", 0.0, 10, 5))
    request = arrivals[0].request
    script = [Prefill("a", (request,), prefetch="b"), Decode("a", (request,), 9.0)]
    with pytest.raises(ConservationError, match="no slot"):
        simulate(Scripted(script=script), deployment(A_B, weight_slots=1), arrivals)


def test_an_idle_instance_wakes_when_it_asked_to():
    arrivals = arriving(("a", 1.0, 10, 2))
    request = arrivals[0].request
    script = [Idle(5.0), Prefill("a", (request,)), Decode("a", (request,), 9.0)]
    result = simulate(Scripted(script=script), deployment(A_B, weight_slots=1), arrivals)
    assert token_times(result)[0] == pytest.approx([6.1, 6.12])


def test_arrivals_are_taken_one_by_one_in_order_of_time():
    plan, system = deployment(A_B, weight_slots=1), ServerlessLLM()
    late, early = arriving(("a", 0.0, 10, 2), ("b", 0.1, 10, 2))
    result = Simulator(system, plan, system.fleet(plan), iter([late, early])).run()
    assert len(result.requests) == 2
    with pytest.raises(ValueError, match="request 0 arrives before the one before it"):
        Simulator(system, plan, system.fleet(plan), [early, late]).run()


def test_progress_counts_arrivals():
    seen: list[int] = []
    arrivals = arriving(("a", 0.0, 10, 2), ("b", 0.1, 10, 2))
    plan = deployment(A_B, weight_slots=1)
    system = ServerlessLLM()
    Simulator(system, plan, system.fleet(plan), arrivals, progress=seen.append).run()
    assert seen == [1, 2]


def test_the_truth_may_differ_from_what_policies_are_told():
    told, truth = {"a": cost()}, {"a": cost(decode_base_s=0.05, prefill_base_s=0.3, switch_s=2.0)}
    plan = deployment(told, weight_slots=1)
    arrivals = arriving(("a", 0.0, 10, 3))
    system = ServerlessLLM()
    result = Simulator(system, plan, system.fleet(plan), arrivals, truth=truth).run()
    assert token_times(result)[0] == pytest.approx([2.3, 2.35, 2.4])


def test_prompts_that_do_not_fit_together_are_prefilled_in_turn():
    arrivals = arriving(*(("a", 0.0, 1500, 20) for _ in range(3)))
    plan = deployment(A_B, gpus=1, kv_bytes=2.5e9, weight_slots=1)
    result = simulate(ServerlessLLMPaper(load_gbps=10.0), plan, arrivals)
    assert [len(times) for times in token_times(result).values()] == [20, 20, 20]
    firsts = sorted(told.first_token for told in result.requests)
    assert firsts[0] < firsts[1] < firsts[2]
