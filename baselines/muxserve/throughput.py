"""What MuxServe's placement expects of models that share GPUs (its throughput estimator)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aegaeon.core import Deployment, ModelCost, ModelSpec, SharingModel

SM_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Llm:
    """A model to place, its load, and its costs as affine functions of the batch size B.

    A prefill of B mean prompts takes prefill[0] + prefill[1] * B seconds, and the decode steps of
    one mean answer decode[0] + decode[1] * B with all SMs. `tokens` is a request's mean length.
    """

    name: str
    tp: int
    rate: float
    cost: ModelCost
    tokens: float
    prefill: tuple[float, float]
    decode: tuple[float, float]

    @property
    def load(self) -> float:
        """Rate times size, MuxServe's measure of how much computing a model asks for."""
        return self.rate * self.cost.weight_bytes * self.tp

    @property
    def kv_weight(self) -> float:
        """Bytes of KV per second of arrivals; KV memory is divided in proportion."""
        return self.rate * self.cost.kv_bytes_per_token


def describe(model: ModelSpec, deployment: Deployment) -> Llm:
    """Return a model's load and costs at the deployment's mean lengths."""
    cost = deployment.costs[model.name]
    prompt, answer = deployment.mean_input_tokens, deployment.mean_output_tokens
    per_prompt = cost.prefill.token_s * prompt + cost.prefill.token_sq_s * prompt * prompt
    per_request = cost.decode.request_s + cost.decode.context_s * (prompt + answer / 2)
    return Llm(
        name=model.name,
        tp=model.tp,
        rate=deployment.rates.get(model.name, 1.0),
        cost=cost,
        tokens=prompt + answer,
        prefill=(cost.prefill.base_s, per_prompt),
        decode=(answer * cost.decode.base_s, answer * per_request),
    )


def sm_share(llm: Llm, kv_bytes: float, sharing: SharingModel) -> float:
    """Return the smallest share of the SMs with which the model alone reaches its rate."""
    batch = _largest_batch(llm, kv_bytes)
    for share in SM_SHARES:
        decode = (llm.decode[0] + llm.decode[1] * batch) * sharing.decode_slowdown(share, (share,))
        if batch / (llm.prefill[0] + llm.prefill[1] * batch + decode) >= llm.rate:
            return share
    return SM_SHARES[-1]


def joint_throughput(llms: Sequence[Llm], stretches: Sequence[float], kv_bytes: float) -> float:
    """Return the requests/s that models on one mesh serve together, each at most at its rate.

    Model i with batch B_i serves B_i / (S * t_dec_i(B_i) + sum_k t_prefill_k(B_k)); every batch is
    the smallest that reaches the model's rate, as far as its part of `kv_bytes` allows.
    `stretches` are the slow-downs of decoding with the models' shares of the SMs.
    """
    weight = sum([llm.kv_weight for llm in llms]) or 1.0
    limits = [_largest_batch(llm, kv_bytes * llm.kv_weight / weight) for llm in llms]
    batches = [1.0] * len(llms)
    for _ in range(_ROUNDS):
        prefill = _prefill_s(llms, batches)
        for i, llm in enumerate(llms):
            slack = 1.0 - llm.rate * llm.decode[1] * stretches[i]
            need = (
                llm.rate * (llm.decode[0] * stretches[i] + prefill) / slack
                if slack > 0
                else math.inf
            )
            batches[i] = min(max(need, 1.0), limits[i])
    prefill = _prefill_s(llms, batches)
    total = 0.0
    for llm, batch, stretch in zip(llms, batches, stretches, strict=True):
        decode = (llm.decode[0] + llm.decode[1] * batch) * stretch
        total += min(llm.rate, batch / (decode + prefill))
    return total


def _largest_batch(llm: Llm, kv_bytes: float) -> float:
    return max(1.0, kv_bytes // (llm.tokens * llm.cost.kv_bytes_per_token))


def _prefill_s(llms: Sequence[Llm], batches: Sequence[float]) -> float:
    return sum([m.prefill[0] + m.prefill[1] * b for m, b in zip(llms, batches, strict=True)])
