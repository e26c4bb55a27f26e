"""What a live engine takes beside steps and copies is added where it is taken, and only there.

Times as in `test_switching.py`: 1 s per load, 0.1 s per prefill, 0.02 s per step, 0.1 ms per token.
"""

from dataclasses import replace

import pytest

from aegaeon.core import Overheads
from aegaeon.policy.system import Aegaeon
from tests.support.small_market import arriving, cost, deployment, simulate, token_times

A_B = {"a": cost(), "b": cost()}
PAIR = Aegaeon(prefill=1, decode=1)
ALONE = arriving(("a", 0.5, 100, 3))


def first_request(arrivals=ALONE, **given):
    plan = replace(deployment(A_B), overheads=Overheads(**given))
    return token_times(simulate(PAIR, plan, arrivals))[0]


def test_an_ideal_engine_takes_nothing():
    assert (
        first_request().tolist() == token_times(simulate(PAIR, deployment(A_B), ALONE))[0].tolist()
    )


@pytest.mark.parametrize(
    ("given", "later"),
    [
        ({"send_s": 0.01}, [0.01, 0.01, 0.01]),
        ({"hand_over_s": 0.01}, [0, 0.01, 0.01]),
        ({"admit_prefill_s": 0.01}, [0.01, 0.01, 0.01]),
        ({"admit_decode_s": 0.01}, [0, 0.01, 0.01]),
        ({"turn_s": 0.01}, [0.01, 0.02, 0.02]),
        ({"kv_move_s": 0.01}, [0, 0.01, 0.01]),
        ({"wake_prefill_s": 0.01}, [0.01, 0.01, 0.01]),
        ({"wake_decode_s": 0.01}, [0, 0.01, 0.01]),
    ],
)
def test_each_overhead_delays_what_it_belongs_to(given, later):
    delays = first_request(**given) - first_request()
    assert delays == pytest.approx(later, abs=1e-9)


def test_admission_is_paid_once_per_request():
    twins = arriving(("a", 0.0, 100, 2), ("a", 0.0, 100, 2))
    delays = first_request(twins, admit_decode_s=0.05) - first_request(twins)
    assert delays[-1] == pytest.approx(0.05, abs=0.01)


def test_inline_copies_hold_up_steps_and_weights_stay_in_their_slots():
    def switch_seconds(**given):
        plan = replace(deployment(A_B), overheads=Overheads(**given))
        arrivals = arriving(("a", 0.0, 100, 200), ("b", 0.0, 100, 200))
        result = simulate(replace(PAIR, qmax_s=0.5), plan, arrivals)
        switches = result.switches
        return switches.seconds[switches.instance == 1], token_times(result)[0][-1]

    inline, inline_end = switch_seconds(inline_copies=True)
    # Two models, two slots: after one load each, nothing is copied any more.
    assert len(inline) > 4
    activate = A_B["a"].switch.activate_s
    assert inline[0] == pytest.approx(1.0)
    assert inline[1:] == pytest.approx([activate] * (len(inline) - 1))
    assert inline_end > 0
