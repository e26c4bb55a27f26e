# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How many models fit my SLO on my GPUs?
#
# This file opens as a notebook with jupytext, or runs as a script: `python notebooks/capacity.py`.
# The first part shows the paper's set-up from stored results, if results are stored.
# The second part simulates your own market.

# %%
from functools import cache

import matplotlib.pyplot as plt

from aegaeon.errors import UserError
from aegaeon.experiment.compose import composed
from aegaeon.experiment.execute import execute
from aegaeon.experiment.plan import plan
from aegaeon.paths import stored_folder
from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import LEVEL, sweep
from aegaeon.sim.occupancy import expected_active

# %% [markdown]
# ## The paper's set-up: 16 H800, 0.1 requests per second and model
# A curve is the share of tokens on time. The printed number is the load at which the curve falls
# below 90 %.

# %%
try:
    stored = sweep(load_stored("fig11a", stored_folder()), "fig11a")
except UserError as error:
    print(error)
else:
    _, axes = plt.subplots(figsize=(6, 3.5))
    for system in map(str, stored.mean):
        axes.plot(stored.mean.index, stored.mean[system], label=system)
        found = stored.crossing(system)
        print(f"{system:28s} {'-' if found is None else f'{found.x:.1f}'} models")
    axes.axhline(LEVEL, color="grey", linewidth=0.8)
    axes.set(xlabel="models", ylabel="tokens on time")
    axes.legend(fontsize=6)

# %% [markdown]
# ## Your market
# Change the settings below. Every key of `conf/` is allowed: `aegaeon run --help` lists choices.
# The example has eight GPUs, mostly small models, a stricter TTFT target, and traffic in bursts.

# %%
MARKET = [
    "hardware=h800x8",
    "models.shares={qwen:8,yi:1,llama:1}",
    "workload=bursty",
    "workload.rate_rps=0.1",
    "workload.duration_s=60",
    "slo.ttft_s=5",
]
SYSTEMS = {
    "aegaeon": ["system=aegaeon", "system.prefill=3", "system.decode=5"],
    "serverlessllm": ["system=serverlessllm"],
}
COUNTS = (8, 16, 32, 64)
MOST = 128
SEED = 0

# %% [markdown]
# How many models have a request in flight at a time? A request that never waits takes about 3 s
# (300 tokens of 10 ms each). The mean number of active models then follows from theorem 3.1 of the
# paper. If the number of active models exceeds the number of GPUs, models queue or take turns.

# %%
for count in COUNTS:
    print(f"{count} models: {expected_active(count, 0.1, 3.0):.1f} active on average")


# %%
@cache
def attainment(system: str, count: int) -> float:
    """Return the share of tokens on time with `count` models."""
    overrides = [*MARKET, *SYSTEMS[system], f"models.count={count}"]
    return float(str(execute(plan(composed(overrides), SEED)).row["slo_attainment"]))


def largest(system: str, step: int = 4) -> int:
    """Return the largest tried number of models with 90 % of tokens on time; 0 without one."""
    low, high = 0, step
    while high < MOST and attainment(system, high) >= LEVEL:
        low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // 2
        low, high = (middle, high) if attainment(system, middle) >= LEVEL else (low, middle)
    return low


# %%
_, axes = plt.subplots(figsize=(6, 3.5))
for system in SYSTEMS:
    print(f"{system:15s} {largest(system)} models at {LEVEL:.0%} of tokens on time")
    axes.plot(COUNTS, [attainment(system, count) for count in COUNTS], marker="o", label=system)
axes.axhline(LEVEL, color="grey", linewidth=0.8)
axes.set(xlabel="models", ylabel="tokens on time")
axes.legend()

# %% [markdown]
# One seed and one minute give a rough number, no basis for a purchase. Repeat with more seeds and
# a longer `workload.duration_s`, or replay your own trace (`workload=azure`, `workload.path=...`).
