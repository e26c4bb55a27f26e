"""The simulated host KV pool: blocks by hand, bytes conserved, times untouched."""

import numpy as np
import pytest
from hypothesis import given, settings

from aegaeon.core import GB
from aegaeon.errors import UserError
from aegaeon.kv_ledger import SlabLedger
from aegaeon.policy.system import Aegaeon
from aegaeon.scoring.tables import pool_table
from aegaeon.sim.host_pool import HostPool, changes, host_pool
from tests.support.random_markets import SYSTEMS, crowds, markets
from tests.support.small_market import arriving, cost, deployment, simulate

KB = 1_000_000
POOL = HostPool(pool_bytes=40 * GB, slab_bytes=1 << 30, block_tokens=16, sample_s=0.01)


def handed_over():
    """One request of 40 tokens, prefilled on one instance and decoded on another."""
    plan = deployment({"m": cost(prefill_base_s=0.5)})
    return simulate(Aegaeon(prefill=1, decode=1), plan, arriving(("m", 0.0, 40, 3)))


def test_a_hand_over_takes_blocks_and_gives_them_back():
    result = handed_over()
    taken, freed = changes(result, POOL)
    # 41 tokens (prompt and first token) are three blocks of 16; the copy begins at once.
    assert (taken.taken, taken.blocks, taken.block_bytes) == (True, 3, 16 * KB)
    assert taken.time == pytest.approx(result.requests[0].first_token)
    assert (freed.taken, freed.blocks) == (False, 3)
    assert freed.time == pytest.approx(result.moves.time[1] + result.moves.seconds[1])
    table = pool_table(host_pool(result, POOL))
    assert set(table["shape"]) == {"S0"}
    assert set(table["used_bytes"]) == {0, 3 * 16 * KB}
    assert set(table["allocated_bytes"]) == {0, 1 << 30}
    assert table["used_bytes"].iloc[-1] == 0


def test_events_name_the_model_of_every_switch_and_move():
    log = handed_over()
    assert set(log.switches.model) == set(log.moves.model) == {"m"}
    assert set(log.switches.nbytes) == {10 * GB}
    assert log.moves.out.tolist() == [True, False]
    assert set(log.moves.request) == {0}


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name.startswith("aegaeon")])
@settings(max_examples=10, deadline=None)
@given(market=markets() | crowds())
def test_every_byte_comes_back_and_no_slab_holds_two_shapes(name, market):
    system = SYSTEMS[name]
    result = simulate(system, market.deployment(system), market.arrivals)
    samples = host_pool(result, POOL)
    used, allocated = np.array([(s.used, s.allocated) for s in samples]).reshape(-1, 2).T
    times = np.array([s.time for s in samples])
    assert (used <= allocated).all()
    assert (allocated % POOL.slab_bytes == 0).all()
    assert ((allocated > 0) == (used > 0)).all()
    if len(used):
        assert not used[times == times[-1]].any()
    made = changes(result, POOL)
    for at in set(times.tolist()):
        todo = [c for c in made if c.time <= at]
        held = sum(c.block_bytes * c.blocks * (1 if c.taken else -1) for c in todo)
        assert held == used[times == at].sum()


def test_a_pool_that_is_too_small_is_named():
    small = HostPool(pool_bytes=16 * KB, slab_bytes=16 * KB, block_tokens=16, sample_s=0.1)
    with pytest.raises(UserError, match=r"host KV pool: 3 blocks.*give the pool more slabs"):
        host_pool(handed_over(), small)
    assert SlabLedger.nbytes(small.slab_bytes, small.slabs) > 0


def test_a_run_without_moves_has_an_empty_table_with_all_columns():
    plan = deployment({"m": cost()})
    result = simulate(Aegaeon(prefill=1, decode=1), plan, arriving(("m", 0.0, 40, 1)))
    table = pool_table(host_pool(result, POOL))
    assert table.empty
    assert "allocated_bytes" in table
