"""A live instance's requests and reports, as plain data that crosses process boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aegaeon.core import Request

NO_BLOCK = -1


@dataclass(frozen=True, slots=True)
class HostKv:
    """KV of one request's first `tokens` tokens in the host pool.

    `groups` has, per KV cache group of the model, each block's offset in the pool, in bytes;
    NO_BLOCK marks a block that the group does not keep (outside a sliding window). A block of
    `block_bytes` holds the parts of `ranks` tensor-parallel ranks, one after the other. The holder
    of the KV must load or discard the KV, once.
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
        """The bytes of all blocks."""
        return len(self.offsets) * self.block_bytes


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """The output of one step for sequence `index` of a request with n sequences.

    `logprobs` has, per token, the log probability by token id. `finished` concerns the request,
    `finish_reason` the sequence. `kv` is the request's KV, for a request that is handed over.
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
    """A LoRA adapter in PEFT's format; the folder `path` is the same on every node."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A request with its content.

    Attributes:
        prompt: token ids.
        params: vLLM's sampling parameters, by name.
        generated: token ids that other instances produced.
        kv: after a prefill on another instance, the KV of all tokens but the last in the host pool.
            None if the pool had no room or the KV is lost; the KV of `prompt` and `generated` is
            then recomputed.
        adapter: the LoRA adapter for all tokens; None for none.
        due: the exact number of tokens to produce; with None the engine decides when to end.
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
    """An instance took a request into its inbox at `time`."""

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
    """A prefill instance is done with a request; the request now goes to a decoding instance."""

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
    """A request failed, for `reason`."""

    time: float
    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Switched:
    """The model changed; its `nbytes` of weights were in place at `time`, after `seconds`."""

    time: float
    model: str
    seconds: float
    nbytes: int
    prefetched: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """KV left and entered the device for one step of `model`; the copies ended at `time`."""

    time: float
    model: str
    seconds: float
    out_bytes: int
    in_bytes: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A work item of `kind` "prefill" or "decode" is done; times are seconds on the run's clock.

    Attributes:
        start: the end of the KV copies before the first step.
        lead_s: seconds of those copies, before `start`.
        busy_s: seconds inside engine steps, without KV copies.
        data_s: seconds of all KV copies, `lead_s` included.

    The rest of `lead_s + end - start` is bookkeeping.
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
