"""Random small markets, with and without enough memory for their KV."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from aegaeon.core import GB, Arrival, Deployment, ModelCost, Request
from aegaeon.policy.interface import System
from aegaeon.policy.system import Aegaeon
from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper
from baselines.sleep_mode import SleepMode
from tests.support.small_market import arriving, cost, deployment

SYSTEMS: dict[str, System] = {
    "aegaeon": Aegaeon(prefill=1, decode=1),
    "aegaeon_wide": Aegaeon(prefill=2, decode=2, qmax_s=1.0),
    "aegaeon_no_prefetch": Aegaeon(prefill=1, decode=2, prefetch=False),
    "aegaeon_eager": Aegaeon(prefill=1, decode=1, lazy_eviction=False),
    "aegaeon_artifact": Aegaeon(
        prefill=2,
        decode=2,
        accumulative=False,
        count_requests=True,
        batch_term=False,
        pools=2,
        lazy_eviction=False,
    ),
    "serverlessllm": ServerlessLLM(),
    "serverlessllm_plus": ServerlessLLM(shortest_first=True, max_batch=2, drop_after_s=3.0),
    "serverlessllm_paper": ServerlessLLMPaper(drop_after_s=4.0, load_gbps=8.0),
    "serverlessllm_plus_paper": ServerlessLLMPaper(
        shortest_first=True, drop_after_s=4.0, load_gbps=8.0
    ),
    "sleep_mode": SleepMode(),
    "sleep_mode_in_order": SleepMode(switch="in_order"),
    "sleep_mode_preempt": SleepMode(switch="preempt", slice_share=0.03, copy_out=True),
}

# Multiples of unlike square roots: no two times are equal, so rounding never decides an order.
_ROOT2, _ROOT3, _ROOT5, _ROOT7 = 2**0.5, 3**0.5, 5**0.5, 7**0.5


@dataclass(frozen=True)
class SmallMarket:
    costs: dict[str, ModelCost]
    arrivals: list[Arrival]
    kv_bytes: float

    @property
    def requests(self) -> list[Request]:
        return [a.request for a in self.arrivals]

    def deployment(self, system: System) -> Deployment:
        gpus = system.prefill + system.decode if isinstance(system, Aegaeon) else 2
        slots = 2 if getattr(system, "prefetch", False) else 1
        return deployment(self.costs, gpus, self.kv_bytes, slots)


def _cost(draw: st.DrawFn, index: int) -> ModelCost:
    odd = 1.0 + 0.01 * _ROOT7 * index
    return cost(
        prefill_base_s=draw(st.integers(1, 15)) * 0.01 * _ROOT2 * odd,
        prefill_token_s=draw(st.integers(0, 3)) * 1e-4 * _ROOT3,
        decode_base_s=draw(st.integers(1, 12)) * 0.005 * _ROOT3 * odd,
        decode_context_s=draw(st.integers(0, 3)) * 1e-6 * _ROOT2,
        decode_request_s=draw(st.integers(0, 3)) * 3e-4 * _ROOT5,
        switch_s=draw(st.integers(1, 12)) * 0.1 * _ROOT5 * odd,
        activate_s=draw(st.integers(0, 2)) * 0.007 * _ROOT2,
        kv_bytes_per_token=draw(st.sampled_from([2_000_000, 10_000_000, 20_000_000])),
    )


@st.composite
def crowds(draw: st.DrawFn) -> SmallMarket:
    """Draw requests of one or two models that arrive close together and outgrow the KV memory."""
    costs = {f"m{i}": _cost(draw, i) for i in range(draw(st.integers(1, 2)))}
    costs = {m: replace(c, kv_bytes_per_token=20_000_000) for m, c in costs.items()}
    row = st.tuples(st.sampled_from(sorted(costs)), st.integers(1, 80), st.integers(20, 90))
    rows = draw(st.lists(row, min_size=4, max_size=9))
    largest = 20_000_000 * max(read + write + 1 for _, read, write in rows)
    gap = draw(st.sampled_from([0.01, 0.1, 0.4])) * _ROOT5
    timed = [(m, (i + 1) * gap, read, write) for i, (m, read, write) in enumerate(rows)]
    spare = draw(st.sampled_from([1.0001, 1.3, 1.8]))
    return SmallMarket(costs, arriving(*timed), max(1.001 * GB, largest * spare))


@st.composite
def markets(draw: st.DrawFn) -> SmallMarket:
    """Draw up to four models and ten requests; KV memory often holds little more than one."""
    costs = {f"m{i}": _cost(draw, i) for i in range(draw(st.integers(1, 4)))}
    row = st.tuples(
        st.sampled_from(sorted(costs)), st.integers(0, 40), st.integers(1, 150), st.integers(1, 80)
    )
    rows, clock = [], 0.0
    for model, gap, read, write in draw(st.lists(row, min_size=1, max_size=10)):
        clock += gap * 0.037 * _ROOT5 + 1e-4 * _ROOT7
        rows.append((model, clock, read, write))
    largest = max((r + w + 1) * costs[m].kv_bytes_per_token for m, _, r, w in rows)
    spare = draw(st.sampled_from([1.0, 1.3, 2.0, 10.0]))
    return SmallMarket(costs, arriving(*rows), max(1.001 * GB, largest * spare * 1.0001))
