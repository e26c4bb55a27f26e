"""What a live instance is given and what it reports; plain data that crosses process boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aegaeon.core import Request

NO_BLOCK = -1


@dataclass(frozen=True, slots=True)
class HostKv:
    """KV of one request's first `tokens` tokens in the host pool.

    `groups` has, per KV cache group of the model, each block's offset in the pool, NO_BLOCK where
    the group keeps none (outside a sliding window). A block holds the parts of `ranks` tensor-
    parallel ranks, one after the other. Whoever holds it loads or discards it, once.
    """

    tokens: int
    block_bytes: int
    groups: tuple[tuple[int, ...], ...]
    ranks: int = 1

    @property
    def offsets(self) -> list[int]:
        """The pool offsets of all blocks."""
        return [at for group in self.groups for at in group if at != NO_BLOCK]

    @property
    def nbytes(self) -> int:
        """Bytes in the pool."""
        return len(self.offsets) * self.block_bytes


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """What one step gave sequence `index` of a request (of the n that it asked for).

    `logprobs` has, per token, the log probability by token id. `finished` is about the request,
    `finish_reason` about the sequence. `kv` is the request's KV, if it asked to hand it over.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    text: str = ""
    logprobs: tuple[dict[int, float], ...] | None = None
    finish_reason: str | None = None
    finished: bool = False
    kv: HostKv | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in PEFT's format: its name, and its folder, the same on every node."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A request with its content: `params` are vLLM's sampling parameters by name.

    `generated` holds the tokens that other instances made. After a prefill elsewhere, `kv` is the
    KV of all but the last token in the host pool, None if there was no room or it was lost: then
    the prompt and what was generated are computed again. All of it is computed with `adapter`.
    It must produce exactly `due` tokens; with None the engine says when it ends.
    """

    spec: Request
    prompt: tuple[int, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    generated: tuple[int, ...] = ()
    kv: HostKv | None = None
    adapter: Adapter | None = None
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An instance has a request in its inbox since `time`."""

    time: float
    request: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one request, made by the step that ended at `time`."""

    time: float
    request: int
    output: TokenOutput


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prefill instance is done with a request, which now goes to a decoding one."""

    time: float
    request: LiveRequest


@dataclass(frozen=True, slots=True)
class Finished:
    """A request is complete, or was cancelled (`reason` is "abort")."""

    time: float
    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A request was given up, and why."""

    time: float
    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Switched:
    """The model changed; `seconds` until its weights were in place."""

    time: float
    model: str
    seconds: float
    nbytes: int
    prefetched: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """KV bytes left and entered the device for one step of `model`, until `time`."""

    time: float
    model: str
    seconds: float
    out_bytes: int
    in_bytes: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A piece of work is done: `kind` "prefill" or "decode", from `start` to `end`, what it cost.

    `start` is when the KV of the first step had come, which took `lead_s`. `busy_s` is the time
    inside engine steps without KV copies, `data_s` all copies' (`lead_s` included); what remains of
    `lead_s + end - start` is our own bookkeeping.
    """

    start: float
    end: float
    kind: str
    model: str
    requests: tuple[int, ...]
    steps: int
    busy_s: float
    data_s: float = 0.0
    lead_s: float = 0.0


Event = Accepted | Tokens | Prefilled | Finished | Failed | Switched | Moved | Ran
