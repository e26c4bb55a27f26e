"""The kinds of distribution tables, described here and nowhere else (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from aegaeon.errors import UserError

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float32(), "bool": pa.bool_()}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type (a float has 32 bits), unit and meaning."""

    name: str
    type: Literal["str", "int", "float", "bool"]
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One kind of table: what a line is, its columns, and those that lines are sorted by."""

    line: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the stored table, tags first."""
        return pa.schema([(c.name, _TYPES[c.type]) for c in (*TAGS, *self.columns)])


TAGS = (
    Column("config_hash", "str", "", "key of the run; joins the line to its stored row"),
    Column("seed", "int", "", "seed of the run"),
)
_MODEL = Column("model", "str", "", "name of the model on the market")
_TYPE = Column("type", "str", "", "type of the model, as in conf/model")

DETAILS: Mapping[str, Detail] = {
    "requests": Detail(
        "one request",
        (
            _MODEL,
            _TYPE,
            Column("prefill_wait_s", "float", "s", "arrival to the start of its prefill"),
            Column("prefill_s", "float", "s", "in the prefill batch that made its first token"),
            Column("decode_wait_s", "float", "s", "between its turns of decoding"),
            Column("decode_s", "float", "s", "in decoding steps that it was part of"),
            Column("control_s", "float", "s", "messages and bookkeeping; 0 in the simulator"),
            Column("data_s", "float", "s", "waiting for its KV, the weights being in place"),
            Column("arrival_s", "float", "s", "when it arrived"),
            Column("ttft_s", "float", "s", "arrival to first token"),
            Column("mean_tbt_s", "float", "s", "mean time between its tokens"),
            Column("output_tokens", "int", "tokens", "length of its answer"),
        ),
        ("arrival_s", "model", "output_tokens"),
    ),
    "events": Detail(
        "one switch of an instance to a model, or one move of a request's KV",
        (
            Column("kind", "str", "", "`switch`, `kv_move`, `kv_carry` (between nodes), `fault`"),
            Column("time_s", "float", "s", "when it began"),
            Column("instance", "int", "", "number of the instance"),
            _MODEL,
            _TYPE,
            Column(
                "seconds", "float", "s", "switch: until the weights are in place; move: its copy"
            ),
            Column("bytes", "int", "bytes", "weights on the device, or KV that moved"),
            Column(
                "prefetched", "bool", "", "the switch was to the model that had been prefetched"
            ),
        ),
        ("kind", "time_s", "instance", "model", "seconds", "bytes"),
    ),
    "pool": Detail(
        "one size of KV block in one node's host pool at one moment",
        (
            Column("time_s", "float", "s", "when the pool was looked at"),
            Column("node", "str", "", "name or number of the node"),
            Column("shape", "str", "", "S0, S1, … by bytes per block"),
            Column("block_bytes", "int", "bytes", "size of a block: the KV of its tokens"),
            Column("used_bytes", "int", "bytes", "in blocks that hold KV"),
            Column("allocated_bytes", "int", "bytes", "in slabs bound to this size"),
        ),
        ("time_s", "node", "block_bytes"),
    ),
    "stages": Detail(
        "one way for a model to get ready",
        (
            Column("stage", "str", "", "name of the way"),
            Column("order", "int", "", "0 for the slowest way, then what each step adds"),
            Column("model", "str", "", "type of the model"),
            Column("seconds", "float", "s", "until it can run, the median where measured"),
            Column("bytes", "int", "bytes", "weights on one device"),
            Column("note", "str", "", "what the seconds are made of"),
        ),
        ("model", "order", "seconds"),
    ),
    "series": Detail(
        "one second of figure 4",
        (
            Column("time_s", "float", "s", "since the start"),
            Column("active_models", "int", "models", "models with a request in flight"),
        ),
        ("time_s",),
    ),
}


def check_names(names: Sequence[str]) -> None:
    """Raise `UserError` unless each of `keep` names a kind of table, once."""
    if strange := [name for name in names if name not in DETAILS or names.count(name) > 1]:
        raise UserError(
            f"keep: {strange[0]!r} is unknown or named twice; known: {', '.join(DETAILS)}"
        )


def details_text() -> str:
    """Return all tables and their columns as Markdown, for the docs and `results columns`."""
    lines = []
    for name, detail in {"": Detail("", TAGS, ()), **DETAILS}.items():
        title = f"`{name}`: {detail.line}" if name else "Every table"
        lines += [f"### {title}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in detail.columns]
        lines.append("")
    return "\n".join(lines).rstrip()
