"""The market generator: many models, each with its own stream of requests (paper section 7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aegaeon.core import ModelSpec
from aegaeon.errors import UserError
from workloads.arrivals import Arrivals, build_arrivals
from workloads.checks import require_market, require_positive
from workloads.lengths import LengthTable, sharegpt_lengths
from workloads.popularity import popularity
from workloads.streams import Purpose, stream

MIN_BURSTINESS, MAX_BURSTINESS = 0.01, 100.0


def expand_market(types: Sequence[tuple[ModelSpec, int]], count: int) -> tuple[ModelSpec, ...]:
    """Return `count` models named `model_000`..., taking the types in turn by their shares.

    Model i is of the type that i % sum(shares) falls on in the listed order; shares 6, 2, 2 give
    the paper's 60/20/20 mix. `UserError` unless count >= 1 and shares are >= 0 with a sum > 0.
    """
    shares = [share for _, share in types]
    if count < 1 or min(shares, default=-1) < 0 or sum(shares) == 0:
        raise UserError(
            f"models: expected a count >= 1 and shares >= 0 of positive sum, got {count}, {shares}"
        )
    cycle = [spec for spec, share in types for _ in range(share)]
    width = max(3, len(str(count - 1)))
    return tuple(replace(cycle[i % len(cycle)], name=f"model_{i:0{width}d}") for i in range(count))


def model_rates(
    models: Sequence[ModelSpec], rate_rps: float, skew: str = "uniform", seed: int = 0
) -> dict[str, float]:
    """Return each model's rate (requests/s); their mean is `rate_rps`.

    The ranks of a skewed market are dealt to the models by `seed`, so that popularity does not
    follow the order in which types were listed.
    """
    require_market(models)
    require_positive(rate_rps=rate_rps)
    if skew == "uniform":
        # Not rate * M * (1 / M): a last bit that depends on M would break the nesting.
        return {model.name: rate_rps for model in models}
    rates = rate_rps * len(models) * popularity(len(models), skew)
    ranks = stream(seed, Purpose.POPULARITY).permutation(len(models))
    return {model.name: float(rates[rank]) for model, rank in zip(models, ranks, strict=True)}


def market(
    models: Sequence[ModelSpec],
    rate_rps: float,
    duration_s: float,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    seed: int = 0,
    skew: str = "uniform",
    burstiness: float = 1.0,
    lengths: LengthTable | None = None,
) -> Arrivals:
    """Return the arrivals of `duration_s` seconds, `rate_rps` a model on average, by arrival.

    Model i's arrivals and lengths depend on (seed, i), its rate and `burstiness` alone: a smaller
    uniform market is part of a larger one, a longer run starts with the shorter one's
    requests, and scales multiply the same lengths. `skew` is `uniform`, `zipf` or `market`;
    `burstiness` is the coefficient of variation of the gaps (1 is Poisson); `lengths` defaults to
    ShareGPT's. Raises `UserError` on a value out of range.
    """
    require_positive(duration_s=duration_s, input_scale=input_scale, output_scale=output_scale)
    if not MIN_BURSTINESS <= burstiness <= MAX_BURSTINESS:
        bounds = f"{MIN_BURSTINESS}..{MAX_BURSTINESS:g}"
        raise UserError(f"workload.burstiness: expected a number in {bounds}, got {burstiness}")
    table = lengths or sharegpt_lengths()
    rates = model_rates(models, rate_rps, skew, seed)
    columns = []
    for i, model in enumerate(models):
        rng = stream(seed, Purpose.ARRIVALS, i)
        times = renewal_arrivals(rng, rates[model.name], duration_s, burstiness)
        rng = stream(seed, Purpose.LENGTHS, i)
        sizes = table.sample(rng, len(times), input_scale, output_scale)
        columns.append((np.full(len(times), i), times, *sizes))
    index, arrivals, inputs, outputs = map(np.concatenate, zip(*columns, strict=True))
    return build_arrivals(models, index, arrivals, inputs, outputs)


def renewal_arrivals(
    rng: np.random.Generator, rate_rps: float, duration_s: float, burstiness: float
) -> NDArray[np.float64]:
    """Return arrival times in [0, duration_s) with gamma gaps of the given variation.

    The process is stationary: its expected count is rate_rps * duration_s for any burstiness. A
    run that started with a full gap would hold (burstiness ** 2 - 1) / 2 requests too many.
    """
    shape = burstiness**-2
    scale = 1.0 / (rate_rps * shape)
    # The gap that covers time 0 is length-biased (gamma of shape + 1), cut at a uniform point.
    gaps = np.array([rng.random() * rng.standard_gamma(shape + 1.0)])
    chunk = 16 + int(1.2 * rate_rps * duration_s)
    while (times := scale * np.cumsum(gaps))[-1] < duration_s:
        gaps = np.concatenate([gaps, rng.standard_gamma(shape, chunk)])
    return times[times < duration_s]
