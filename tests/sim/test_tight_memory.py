"""What happens when a batch outgrows the device, step by step."""

import numpy as np
import pytest

from aegaeon.core import Decode, Prefill, Slo
from aegaeon.scoring.score import score
from aegaeon.scoring.tables import requests_table
from tests.support.scripted import Scripted
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

COSTS = {"a": cost()}


def run(arrivals, script, tokens):
    """Play `script` on one GPU with room for the KV of `tokens` tokens."""
    plan = deployment(COSTS, 1, kv_bytes=tokens * 1e6, weight_slots=1)
    return simulate(Scripted(script=script), plan, arrivals)


def members(arrivals):
    return tuple(a.request for a in arrivals)


def prefills(arrivals):
    return [Prefill("a", (request,)) for request in members(arrivals)]


def test_nobody_overtakes_a_request_that_found_no_room():
    # The last prompt takes nearly all memory and ends at once, so the others wait in the host.
    rows = [("a", 0.0, 600, 2), ("a", 0.0, 500, 3), ("a", 0.0, 100, 3), ("a", 0.0, 1000, 1)]
    arrivals = arriving(*rows)
    script = [*prefills(arrivals), Decode("a", members(arrivals[:3]), 9.0)]
    times = token_times(run(arrivals, script, 1003))
    # 600 and 500 tokens do not fit beside each other; 600 and 100 would.
    assert times[1][1] > times[0][-1]
    assert times[2][1] >= times[1][1]


def test_a_request_pushed_out_on_its_way_in_waits_for_kv_no_longer():
    rows = [("a", 0.0, 600, 10), ("a", 0.0, 500, 3), ("a", 0.0, 1101, 1)]
    arrivals = arriving(*rows)
    script = [*prefills(arrivals), Decode("a", members(arrivals[:2]), 9.0)]
    result = run(arrivals, script, 1103)
    times = token_times(result)
    # The first comes in within 0.0601 s and fills the memory with its first step, while the second
    # is still on its way; that one comes again, for 0.0501 s, when the first is done.
    begin = times[0][1] - 0.02 - 0.0601
    assert times[0][-1] == pytest.approx(begin + 0.0601 + 9 * 0.02)
    assert times[1][1] == pytest.approx(times[0][-1] + 0.0501 + 0.02)
    assert result.requests[1].data_s == pytest.approx(0.0601 + 0.02 + 0.0501)
    scores = score(result.timelines, np.zeros(3), Slo(10.0, 0.1))
    table = requests_table(result, scores)
    waited = times[1][-1] - times[1][0] - 2 * 0.02 - 0.1302
    assert table["decode_wait_s"][1] == pytest.approx(waited)


def test_growth_evicts_the_last_of_a_batch_until_others_finish():
    rows = [("a", 0.0, 500, 50), ("a", 0.0, 500, 100)]
    arrivals = arriving(*rows)
    script = [*prefills(arrivals), Decode("a", members(arrivals), 9.0)]
    times = token_times(run(arrivals, script, 1022))
    # 1,002 tokens after the prefills leave ten steps for both; then the first goes on alone.
    together = set(times[0].round(6)) & set(times[1].round(6))
    assert len(together) == 10
    assert times[1][11] > times[0][-1]
    assert [len(times[0]), len(times[1])] == [50, 100]
