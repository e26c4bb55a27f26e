"""From a run's log and its scores to the stored row and the run's tables, whatever the backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from aegaeon.core import CostModel, ModelCost
from aegaeon.runlog import Floats, Ints, PoolSample, RunLog, StageCost
from aegaeon.scoring.score import Scores

NO_TYPES: Mapping[str, str] = {}
PARTS = ("prefill_wait_s", "prefill_s", "decode_wait_s", "decode_s", "control_s", "data_s")


def summary(log: RunLog, scores: Scores, duration_s: float) -> dict[str, object]:
    """Return the measures of one run (columns of the stored table; docs/metrics.md)."""
    due = np.array([r.output_tokens for r in log.requests])
    failed = sum(r.failure is not None for r in log.requests)
    switches = log.switches.seconds
    ttft = scores.ttft_s[~np.isnan(scores.ttft_s)]
    waits = np.array([r.data_s for r in log.requests if r.failure is None])
    return {
        "requests": len(due),
        "finished": len(due) - failed,
        "failed": failed,
        "tokens": int(due.sum()),
        "slo_attainment": float(scores.on_time.sum() / due.sum()),
        "artifact_qos": float(scores.artifact_qos.mean()),
        "joint_attainment": float(scores.joint.mean()),
        "request_attainment": float((scores.on_time / due).mean()),
        "goodput_rps": float((scores.on_time == due).sum() / duration_s),
        "ttft_p50_s": _quantile(ttft, 0.5),
        "ttft_p99_s": _quantile(ttft, 0.99),
        "tbt_p50_s": scores.tbt_p50_s,
        "tbt_p99_s": scores.tbt_p99_s,
        "switches": len(switches),
        "switch_p50_s": _quantile(switches, 0.5),
        "kv_move_p50_s": _quantile(waits, 0.5),
    }


def requests_table(
    log: RunLog, scores: Scores, types: Mapping[str, str] = NO_TYPES
) -> pd.DataFrame:
    """Return one row a request: lengths, times in seconds, where they went, tokens on time.

    `types` names each model's type; a model that it lacks is a type of its own.
    """
    logs = log.requests
    return pd.DataFrame(
        {
            "id": np.array([r.request.id for r in logs], dtype=np.int64),
            "model": [r.request.model for r in logs],
            "type": [types.get(r.request.model, r.request.model) for r in logs],
            "status": ["finished" if r.failure is None else "failed" for r in logs],
            "input_tokens": np.array([r.request.input_tokens for r in logs], dtype=np.int64),
            "output_tokens": _ints(logs, "output_tokens"),
            "tokens_on_time": scores.on_time,
            "arrival_s": np.array([r.request.arrival for r in logs]),
            "first_token_s": _floats(logs, "first_token"),
            "finish_s": _floats(logs, "finish"),
            "ttft_s": scores.ttft_s,
            "mean_tbt_s": scores.mean_tbt_s,
            **{name: _floats(logs, name) for name in PARTS},
            "artifact_qos": scores.artifact_qos,
            "sent_s": _floats(logs, "sent"),
            "restarts": _ints(logs, "restarts"),
            "failure": pd.Series([r.failure or "" for r in logs], dtype=str),
        }
    )


def events_table(log: RunLog, types: Mapping[str, str] = NO_TYPES) -> pd.DataFrame:
    """Return one row an event: when and where it began, what it took, its bytes.

    Events are switches, KV moves between device and host, KV transfers to the node of an instance,
    and instances that died (until they served again, NaN if they never did).
    """
    switches, moves, transfers, faults = log.switches, log.moves, log.transfers, log.faults
    carried, died = [t.model for t in transfers], [""] * len(faults)
    kinds = {
        "switch": (switches.model, switches.time, switches.instance, switches.seconds),
        "kv_move": (moves.model, moves.time, moves.instance, moves.seconds),
        "kv_carry": (carried, *_event_columns(transfers)),
        "fault": (died, *_event_columns(faults)),
    }
    models = [model for columns in kinds.values() for model in columns[0]]
    sizes = [switches.nbytes, moves.nbytes, _floats(transfers, "nbytes"), np.zeros(len(faults))]
    prefetched = np.zeros(len(models), dtype=bool)
    prefetched[: len(switches.prefetched)] = switches.prefetched
    return pd.DataFrame(
        {
            "kind": [kind for kind, columns in kinds.items() for _ in columns[0]],
            "time_s": np.concatenate([columns[1] for columns in kinds.values()]),
            "instance": np.concatenate([columns[2] for columns in kinds.values()]),
            "model": models,
            "type": [types.get(model, model) for model in models],
            "seconds": np.concatenate([columns[3] for columns in kinds.values()]),
            "bytes": np.concatenate(sizes),
            "prefetched": prefetched,
        }
    )


def pool_table(samples: Sequence[PoolSample]) -> pd.DataFrame:
    """Return the host KV pools' use over time by block size; S0 has the smallest blocks.

    Nodes are numbered by their first sample.
    """
    nodes = {node: str(i) for i, node in enumerate(dict.fromkeys([s.node for s in samples]))}
    sizes = _ints(samples, "block_bytes")
    shapes = {size: f"S{i}" for i, size in enumerate(np.unique(sizes).tolist())}
    return pd.DataFrame(
        {
            "time_s": _floats(samples, "time"),
            "node": pd.Series([nodes[s.node] for s in samples], dtype=str),
            "shape": pd.Series([shapes[s.block_bytes] for s in samples], dtype=str),
            "block_bytes": sizes,
            "used_bytes": _ints(samples, "used"),
            "allocated_bytes": _ints(samples, "allocated"),
        }
    )


def stages_table(stages: Sequence[StageCost]) -> pd.DataFrame:
    """Return one row a way to get ready and model type, and a measurement where it was measured."""
    return pd.DataFrame(
        {
            "stage": [s.stage for s in stages],
            "order": [s.order for s in stages],
            "model": [s.model for s in stages],
            "seconds": [s.seconds for s in stages],
            "bytes": [s.nbytes for s in stages],
            "note": [s.note for s in stages],
            "round": [s.round for s in stages],
        }
    )


def costs_table(costs: CostModel) -> pd.DataFrame:
    """Return the costs that the policies planned with: a row per model, a column per number."""
    return pd.DataFrame([{"model": name, **_flat(cost)} for name, cost in costs.items()])


def _flat(cost: ModelCost) -> dict[str, object]:
    """Return a cost's fields with their part's name in front; a switch's as stored tables do."""
    parts = asdict(cost)
    prefill, decode, switch = (parts.pop(name) for name in ("prefill", "decode", "switch"))
    return {
        **{f"prefill_{key}": value for key, value in prefill.items()},
        **{f"decode_{key}": value for key, value in decode.items()},
        "switch_s": switch["host_s"],
        "activate_s": switch["activate_s"],
        **parts,
    }


def _event_columns(events: Sequence[object]) -> tuple[Floats, Ints, Floats]:
    return _floats(events, "time"), _ints(events, "instance"), _floats(events, "seconds")


def _ints(items: Sequence[object], name: str) -> Ints:
    return np.array([getattr(item, name) for item in items], dtype=np.int64)


def _floats(items: Sequence[object], name: str) -> Floats:
    return np.array([getattr(item, name) for item in items], dtype=np.float64)


def _quantile(values: Floats, q: float) -> float | None:
    return float(np.quantile(values, q)) if len(values) else None
