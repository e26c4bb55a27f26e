"""What rank 0 of an instance tells the other ranks: one class per message, and their answer.

Messages are pickled into a pipe. A rank carries them out in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegaeon.live.memory.kv_arena import Ids

# How long a failed rank waits for `Resume`. Then it exits, which ends any collective operation in
# which rank 0 waits for it.
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class RankPlan:
    """What a rank's process needs to set its memory up; sizes are of one rank, in bytes."""

    size: int
    device: str
    shared: str
    cache_bytes: int
    slot_bytes: int
    kv_bytes: int
    weight_slots: int


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a process: it is rank `rank` of the plan's ranks."""

    rank: int
    plan: RankPlan


@dataclass(frozen=True, slots=True)
class MakeWorker:
    """Make the worker of model `name`, its weights loaded; later messages call the worker `key`.

    `config` is vLLM's VllmConfig. Ranks meet at `rendezvous`, a file's URL.
    """

    key: str
    name: str
    path: Path
    config: Any
    rendezvous: str


@dataclass(frozen=True, slots=True)
class CallWorker:
    """Call a worker as vLLM's `collective_rpc` does.

    `method` is a name or a function: vLLM's own interface, which this message passes on.
    """

    key: str
    method: str | Callable[..., object]
    args: Sequence[object]
    kwargs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RemoveEngine:
    """Give back the memory of model `name`, and its worker `key`."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Activate:
    """Put a model's weights in place and wait for them."""

    model: str


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Start a copy of a model's weights to the spare slot."""

    model: str


@dataclass(frozen=True, slots=True)
class MoveOut:
    """Start a copy of KV blocks to the host pool: `blocks[i]` goes to byte `offsets[i]`."""

    engine: str
    blocks: Ids
    offsets: Ids


@dataclass(frozen=True, slots=True)
class MoveBack:
    """Start a copy of KV blocks from the host pool, and clear the blocks `zero`."""

    engine: str
    blocks: Ids
    offsets: Ids
    zero: Ids


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait until every copy of KV that was started is complete."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a failure: rank 0 knows of it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Give the node's memory back and end."""


Move = MoveOut | MoveBack
Call = MakeWorker | CallWorker | RemoveEngine | Activate | Prefetch | Move | Settle
Message = Call | Resume | Stop


@dataclass(frozen=True, slots=True)
class Reply:
    """A rank's answer to a call: a value, or the text of a failure.

    `moved` counts the rank's KV moves that are complete. `refused` says that the failure is a
    UserError.
    """

    moved: int
    value: Any = None
    failure: str | None = None
    refused: bool = False
