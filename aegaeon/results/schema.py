"""The one description of the stored tables: a typed row per run, and the detail tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from aegaeon.errors import UserError
from aegaeon.results.table import Column, Table, refusal

SOURCES = ("simulated", "live")
# Columns that another machine or commit may change.
VOLATILE = ("wall_s", "machine", "git_sha")
_ROW_COLUMNS = (
    Column("experiment", "str", "", "name of the experiment in conf/experiment", "identity"),
    Column("figure", "str", "", "figure or table of the paper that shows this row", "identity"),
    Column("system", "str", "", "serving system", "setting"),
    Column("source", "str", "", "`simulated` or `live`", "setting"),
    Column(
        "hardware",
        "str",
        "",
        "name of the hardware in conf/hardware; `none` in Fig. 4",
        "setting",
    ),
    Column("gpus", "int", "devices", "GPUs that serve; 0 in Fig. 4", "setting"),
    Column("num_models", "int", "models", "models on the market", "setting"),
    Column("rate_rps", "float", "requests/s", "mean arrival rate of one model", "setting"),
    Column("input_scale", "float", "factor", "multiplier of prompt lengths", "setting"),
    Column("output_scale", "float", "factor", "multiplier of output lengths", "setting"),
    Column("slo_scale", "float", "factor", "multiplier of both targets", "setting"),
    Column("ttft_slo_s", "float", "s", "target: arrival to first token", "setting"),
    Column("tbt_slo_s", "float", "s", "target: between two tokens", "setting"),
    Column("seed", "int", "", "seed of arrivals and lengths", "setting"),
    Column("duration_s", "float", "s", "length of the arrival window", "setting"),
    Column("workload", "str", "", "name of the workload in conf/workload", "setting"),
    Column("mix", "str", "", "model types with their shares of the market", "setting"),
    Column(
        "misprediction",
        "float",
        "",
        "standard deviation of log(true / predicted cost); 0 in live runs",
        "setting",
    ),
    Column(
        "costs",
        "str",
        "",
        "origin of the costs: `profile`, `roofline` with the model types, `measured`, `none`",
        "setting",
    ),
    Column(
        "overrides",
        "str",
        "",
        "settings that differ from the experiment's file, as arguments of `aegaeon run`",
        "setting",
    ),
    Column("requests", "int", "requests", "requests that arrived; 0 if none is served", "measure"),
    Column(
        "finished",
        "int",
        "requests",
        "requests that got their last token; 0 if none is served",
        "measure",
    ),
    Column("failed", "int", "requests", "requests refused, dropped or broken off", "measure"),
    Column(
        "requests_clipped",
        "int",
        "requests",
        "requests whose prompt or answer was cut to the model's longest",
        "measure",
        nullable=True,
        later=True,
    ),
    Column(
        "rows_skipped",
        "int",
        "rows",
        "rows of the trace that were left out, as its format says",
        "measure",
        nullable=True,
        later=True,
    ),
    Column(
        "tokens", "int", "tokens", "tokens due, over all requests; 0 if none is served", "measure"
    ),
    Column("slo_attainment", "float", "share", "tokens on time (section 2.1)", "measure", True),
    Column("artifact_qos", "float", "share", "the published plots' formula", "measure", True),
    Column(
        "joint_attainment",
        "float",
        "share",
        "requests that meet TTFT and mean TPOT",
        "measure",
        True,
    ),
    Column(
        "request_attainment",
        "float",
        "share",
        "mean over requests of the share of tokens on time",
        "measure",
        nullable=True,
        later=True,
    ),
    Column("goodput_rps", "float", "requests/s", "requests served within the SLO", "measure", True),
    Column("ttft_p50_s", "float", "s", "median time to first token", "measure", True),
    Column("ttft_p99_s", "float", "s", "99th percentile, time to first token", "measure", True),
    Column("tbt_p50_s", "float", "s", "median time between tokens", "measure", True),
    Column("tbt_p99_s", "float", "s", "99th percentile, time between tokens", "measure", True),
    Column(
        "switches",
        "int",
        "switches",
        "changes of model, all instances; 0 if none is served",
        "measure",
    ),
    Column("switch_p50_s", "float", "s", "median duration of a switch", "measure", True),
    Column("kv_move_p50_s", "float", "s", "median KV wait of a request", "measure", True),
    Column("mean_active_models", "float", "models", "models with work, over time", "measure", True),
    Column("wall_s", "float", "s", "wall-clock time of the run", "provenance"),
    Column("machine", "str", "", "machine of the run: processor, cores, GPUs", "provenance"),
    Column("config_hash", "str", "", "key of the run: hash of its configuration", "provenance"),
    Column("point", "str", "", "hash of the configuration without its seed", "provenance"),
    Column(
        "curve",
        "str",
        "",
        "hash of the configuration without its seed and without keys that have a column as a load",
        "provenance",
        nullable=True,
        later=True,
    ),
    Column("git_sha", "str", "", "commit of the run; `-dirty` if a file had changed", "provenance"),
)


def _check_rows(table: pa.Table, where: Path) -> None:
    """Refuse a row with tokens and without attainment; a row of figure 4 has no tokens."""
    served = pc.greater(table.column("tokens"), 0)
    for name in ("slo_attainment", "joint_attainment"):
        if pc.any(pc.and_(served, pc.is_null(table.column(name)))).as_py():
            raise refusal(
                where, name, "empty in some row with tokens", "a value in each row with tokens"
            )
    if strange := set(table.column("source").to_pylist()) - set(SOURCES):
        raise refusal(where, "source", repr(strange.pop()), f"one of {', '.join(SOURCES)}")


ROWS = Table(
    "rows",
    "one run",
    _ROW_COLUMNS,
    (
        *("system", "num_models", "rate_rps", "input_scale", "output_scale", "slo_scale"),
        *("seed", "config_hash"),
    ),
    key="config_hash",
    exact=True,
    check=_check_rows,
)

_TAGS = (
    Column("config_hash", "str", "", "key of the run; joins the line to its stored row"),
    Column("seed", "int", "", "seed of the run"),
)
_MODEL = Column("model", "str", "", "name of the model on the market")
_TYPE = Column("type", "str", "", "type of the model, as in conf/model")


def _detail(name: str, line: str, columns: tuple[Column, ...], order: tuple[str, ...]) -> Table:
    return Table(name, line, (*_TAGS, *columns), ("config_hash", *order))


_DETAILS = (
    _detail(
        "requests",
        "one request",
        (
            _MODEL,
            _TYPE,
            Column("prefill_wait_s", "float32", "s", "from arrival to the start of the prefill"),
            Column("prefill_s", "float32", "s", "in the prefill batch of the first token"),
            Column("decode_wait_s", "float32", "s", "between the turns of decoding"),
            Column("decode_s", "float32", "s", "in decoding steps of the request"),
            Column("control_s", "float32", "s", "messages and bookkeeping; 0 in the simulator"),
            Column("data_s", "float32", "s", "waiting for KV with the weights in place"),
            Column("arrival_s", "float32", "s", "time of arrival"),
            Column("ttft_s", "float32", "s", "arrival to first token"),
            Column("mean_tbt_s", "float32", "s", "mean time between tokens"),
            Column("output_tokens", "int", "tokens", "output tokens"),
        ),
        ("arrival_s", "model", "output_tokens"),
    ),
    _detail(
        "events",
        "one switch of an instance to a model, or one move of a request's KV",
        (
            Column("kind", "str", "", "`switch`, `kv_move`, `kv_carry` (between nodes), `fault`"),
            Column("time_s", "float32", "s", "time of the beginning"),
            Column("instance", "int", "", "number of the instance"),
            _MODEL,
            _TYPE,
            Column(
                "seconds", "float32", "s", "switch: until the weights are in place; move: its copy"
            ),
            Column("bytes", "int", "bytes", "weights on the device, or KV that moved"),
            Column(
                "prefetched", "bool", "", "the switch was to the model that had been prefetched"
            ),
        ),
        ("kind", "time_s", "instance", "model", "seconds", "bytes"),
    ),
    _detail(
        "pool",
        "one size of KV block in one node's host pool at one moment",
        (
            Column("time_s", "float32", "s", "time of the sample"),
            Column("node", "str", "", "name or number of the node"),
            Column("shape", "str", "", "S0, S1, … by bytes per block"),
            Column("block_bytes", "int", "bytes", "size of a block: the KV of the block's tokens"),
            Column("used_bytes", "int", "bytes", "in blocks that hold KV"),
            Column("allocated_bytes", "int", "bytes", "in slabs bound to this size"),
        ),
        ("time_s", "node", "block_bytes"),
    ),
    _detail(
        "stages",
        "one way for a model to get ready",
        (
            Column("stage", "str", "", "name of the way"),
            Column("order", "int", "", "0 for the slowest way, then one more per step"),
            Column("model", "str", "", "type of the model"),
            Column("seconds", "float32", "s", "until the model can run, the median where measured"),
            Column("bytes", "int", "bytes", "weights on one device"),
            Column("note", "str", "", "parts of the seconds"),
        ),
        ("model", "order", "seconds"),
    ),
    _detail(
        "series",
        "one second of figure 4",
        (
            Column("time_s", "float32", "s", "since the start"),
            Column("active_models", "int", "models", "models with a request in flight"),
        ),
        ("time_s",),
    ),
)
DETAILS: Mapping[str, Table] = {table.name: table for table in _DETAILS}


def check_names(names: Sequence[str]) -> None:
    """Raise `UserError` unless `keep` names known detail tables, each once."""
    if strange := [name for name in names if name not in DETAILS or names.count(name) > 1]:
        raise UserError(
            f"keep: {strange[0]!r} is unknown or named twice; known: {', '.join(DETAILS)}"
        )


def details_text() -> str:
    """Return the columns of the detail tables as Markdown."""
    tags = Table("", "", _TAGS, ())
    titled = {"Every table": tags} | {f"`{t.name}`: {t.line}": _own(t) for t in _DETAILS}
    return "\n\n".join([f"### {title}\n\n{t.markdown()}" for title, t in titled.items()])


def _own(table: Table) -> Table:
    """Return a detail table without the columns that all detail tables share."""
    return Table(table.name, table.line, table.columns[len(_TAGS) :], table.order)
