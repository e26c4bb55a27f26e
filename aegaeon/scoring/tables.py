"""From a simulation and its scores to the stored row and the run's tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.core import GB, Deployment, Slo
from aegaeon.scoring.score import Scores, score
from aegaeon.sim.host_pool import HostPool, host_pool
from aegaeon.sim.simulator import Simulation

NO_TYPES: Mapping[str, str] = {}
# What the authors measured of loading weights the usual way: LLaMA-13B over PCIe 4 (section 5).
NAIVE_LOAD_RATE = 2.83 * GB


def summary(simulation: Simulation, scores: Scores, duration_s: float) -> dict[str, object]:
    """Return the measures of one run (columns of the stored table; docs/metrics.md)."""
    due = np.array([t.output_tokens for t in simulation.tracks])
    failed = sum(t.failed for t in simulation.tracks)
    switches = np.frombuffer(simulation.recorder.switch_s)
    ttft = scores.ttft_s[~np.isnan(scores.ttft_s)]
    waits = np.array([t.kv_wait_s for t in simulation.tracks if not t.failed])
    return {
        "requests": len(due),
        "finished": len(due) - failed,
        "failed": failed,
        "tokens": int(due.sum()),
        "slo_attainment": float(scores.on_time.sum() / due.sum()),
        "artifact_qos": float(scores.artifact_qos.mean()),
        "joint_attainment": float(scores.joint.mean()),
        "goodput_rps": float((scores.on_time == due).sum() / duration_s),
        "ttft_p50_s": _quantile(ttft, 0.5),
        "ttft_p99_s": _quantile(ttft, 0.99),
        "tbt_p50_s": scores.tbt_p50_s,
        "tbt_p99_s": scores.tbt_p99_s,
        "switches": len(switches),
        "switch_p50_s": _quantile(switches, 0.5),
        "kv_move_p50_s": _quantile(waits, 0.5),
    }


def score_simulation(simulation: Simulation, slo: Slo) -> Scores:
    """Score every request of a finished simulation, in order of id."""
    arrival = np.array([t.request.arrival for t in simulation.tracks])
    failed = np.array([t.failed for t in simulation.tracks], dtype=bool)
    return score(simulation.recorder.timelines(), arrival, slo, failed)


def requests_table(
    simulation: Simulation, scores: Scores, types: Mapping[str, str] = NO_TYPES
) -> pd.DataFrame:
    """Return one row a request: lengths, times in seconds, where they went, tokens on time.

    The six parts `prefill_wait_s` to `data_s` add up to finish less arrival. `types` names each
    model's type; a model that it lacks is a type of its own.
    """
    tracks = simulation.tracks
    first = np.array([t.first_token for t in tracks])
    finish = np.array([t.finish for t in tracks])
    arrival = np.array([t.request.arrival for t in tracks])
    begun = np.array([t.prefill_start for t in tracks])
    decode = np.array([t.decode_s for t in tracks])
    prefill = np.array([t.prefill_s for t in tracks])
    data = np.array([t.kv_wait_s for t in tracks])
    return pd.DataFrame(
        {
            "id": np.array([t.request.id for t in tracks], dtype=np.int64),
            "model": [t.request.model for t in tracks],
            "type": [types.get(t.request.model, t.request.model) for t in tracks],
            "status": ["failed" if t.failed else "finished" for t in tracks],
            "input_tokens": np.array([t.request.input_tokens for t in tracks], dtype=np.int64),
            "output_tokens": np.array([t.output_tokens for t in tracks], dtype=np.int64),
            "tokens_on_time": scores.on_time,
            "arrival_s": arrival,
            "first_token_s": first,
            "finish_s": finish,
            "ttft_s": scores.ttft_s,
            "mean_tbt_s": scores.mean_tbt_s,
            "prefill_wait_s": begun - arrival,
            "prefill_s": prefill,
            "decode_wait_s": finish - begun - prefill - decode - data,
            "decode_s": decode,
            "control_s": np.zeros(len(tracks)),
            "data_s": data,
            "artifact_qos": scores.artifact_qos,
        }
    )


def events_table(simulation: Simulation, types: Mapping[str, str] = NO_TYPES) -> pd.DataFrame:
    """Return one row a switch or KV move: when and where it began, what it took, its bytes."""
    recorder = simulation.recorder
    switches, moves = len(recorder.switch_s), len(recorder.move_s)
    owner = {track.request.id: track.request.model for track in simulation.tracks}
    models = [*recorder.switch_model, *[owner.get(i, "") for i in recorder.move_request]]
    return pd.DataFrame(
        {
            "kind": ["switch"] * switches + ["kv_move"] * moves,
            "time_s": np.concatenate([recorder.switch_at, recorder.move_at]),
            "instance": np.concatenate([recorder.switch_instance, recorder.move_instance]),
            "model": models,
            "type": [types.get(model, model) for model in models],
            "seconds": np.concatenate([recorder.switch_s, recorder.move_s]),
            "bytes": np.concatenate([recorder.switch_bytes, recorder.move_bytes]),
            "prefetched": np.concatenate(
                [np.array(recorder.switch_prefetched, dtype=bool), np.zeros(moves, dtype=bool)]
            ),
        }
    )


def pool_table(simulation: Simulation, pool: HostPool) -> pd.DataFrame:
    """Return the host KV pools' use over time by block size; S0 has the smallest blocks."""
    samples = host_pool(simulation, pool)
    sizes = np.array(samples.block_bytes, dtype=np.int64)
    rank = {size: f"S{place}" for place, size in enumerate(np.unique(sizes).tolist())}
    return pd.DataFrame(
        {
            "time_s": np.array(samples.time_s),
            "node": pd.Series([str(node) for node in samples.node], dtype=str),
            "shape": pd.Series([rank[size] for size in sizes.tolist()], dtype=str),
            "block_bytes": sizes,
            "used_bytes": np.array(samples.used, dtype=np.int64),
            "allocated_bytes": np.array(samples.allocated, dtype=np.int64),
        }
    )


def stages_table(deployment: Deployment) -> pd.DataFrame:
    """Return what a switch costs per model type by how its weights come (paper figure 7).

    Only what the cost model knows: the rest of a re-initialisation, executor, profiling and memory,
    is not modelled.
    """
    rows, link = [], deployment.device.link_bandwidth / GB
    for kind, cost in {m.type: deployment.costs[m.name] for m in deployment.models}.items():
        size = cost.weight_bytes
        naive = f"weights alone, at the {NAIVE_LOAD_RATE / GB:g} GB/s of the paper's section 5"
        stages = (
            ("usual loader", size / NAIVE_LOAD_RATE, naive),
            ("packed arena", cost.switch.host_s, f"one copy over the host link, {link:g} GB/s"),
            ("prefetched", cost.switch.activate_s, "a copy on the device, into place"),
        )
        rows += [
            {"stage": stage, "order": order, "model": kind, "seconds": seconds}
            | {"bytes": int(size), "note": note}
            for order, (stage, seconds, note) in enumerate(stages)
        ]
    return pd.DataFrame(rows)


def _quantile(values: NDArray[np.float64], q: float) -> float | None:
    return float(np.quantile(values, q)) if len(values) else None
