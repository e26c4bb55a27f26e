"""From a simulation and its scores to the stored row and the run's tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aegaeon.core import Request, Slo
from aegaeon.scoring import Scores, score
from aegaeon.sim.simulator import Simulation


def summary(
    requests: Sequence[Request], simulation: Simulation, scores: Scores, duration_s: float
) -> dict[str, object]:
    """Return the measures of one run (columns of the stored table; docs/metrics.md)."""
    due = np.array([r.output_tokens for r in requests])
    failed = sum(t.failed for t in simulation.tracks)
    switches = np.frombuffer(simulation.recorder.switch_s)
    ttft = scores.ttft_s[~np.isnan(scores.ttft_s)]
    waits = np.array([t.kv_wait_s for t in simulation.tracks if not t.failed])
    return {
        "requests": len(requests),
        "finished": len(requests) - failed,
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


def requests_table(simulation: Simulation, scores: Scores) -> pd.DataFrame:
    """Return one row a request: lengths, times in seconds, waits by cause, tokens on time."""
    tracks = simulation.tracks
    first = np.array([t.first_token for t in tracks])
    finish = np.array([t.finish for t in tracks])
    arrival = np.array([t.request.arrival for t in tracks])
    begun = np.array([t.prefill_start for t in tracks])
    decode = np.array([t.decode_s for t in tracks])
    kv_wait = np.array([t.kv_wait_s for t in tracks])
    return pd.DataFrame(
        {
            "id": np.array([t.request.id for t in tracks], dtype=np.int64),
            "model": [t.request.model for t in tracks],
            "status": ["failed" if t.failed else "finished" for t in tracks],
            "input_tokens": np.array([t.request.input_tokens for t in tracks], dtype=np.int64),
            "output_tokens": np.array([t.request.output_tokens for t in tracks], dtype=np.int64),
            "tokens_on_time": scores.on_time,
            "arrival_s": arrival,
            "first_token_s": first,
            "finish_s": finish,
            "ttft_s": scores.ttft_s,
            "mean_tbt_s": scores.mean_tbt_s,
            "prefill_wait_s": begun - arrival,
            "prefill_s": np.array([t.prefill_s for t in tracks]),
            "decode_wait_s": finish - first - decode - kv_wait,
            "decode_s": decode,
            "kv_wait_s": kv_wait,
            "artifact_qos": scores.artifact_qos,
        }
    )


def events_table(simulation: Simulation) -> pd.DataFrame:
    """Return one row a switch or KV move: when it began, where, its seconds and its bytes."""
    recorder = simulation.recorder
    switches, moves = len(recorder.switch_s), len(recorder.move_s)
    return pd.DataFrame(
        {
            "kind": ["switch"] * switches + ["kv_move"] * moves,
            "time_s": np.concatenate([recorder.switch_at, recorder.move_at]),
            "instance": np.concatenate([recorder.switch_instance, recorder.move_instance]),
            "seconds": np.concatenate([recorder.switch_s, recorder.move_s]),
            "bytes": np.concatenate([np.zeros(switches), recorder.move_bytes]),
            "prefetched": np.concatenate(
                [np.array(recorder.switch_prefetched, dtype=bool), np.zeros(moves, dtype=bool)]
            ),
        }
    )


def _quantile(values: NDArray[np.float64], q: float) -> float | None:
    return float(np.quantile(values, q)) if len(values) else None
