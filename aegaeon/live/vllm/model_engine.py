"""One vLLM engine core per model, in this process, whose memory is lent (paper section 5.1).

A shell is created once; switching models creates nothing. What depends on vLLM's insides is in
`vllm_parts.py` and `connector.py`. Prefix caching is off by design: a block belongs to one request,
so evicting and restoring blocks can never change what another request reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegaeon.errors import UserError, first_line
from aegaeon.live.events import Adapter, HostKv, TokenOutput
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.vllm.adapters import Adapters
from aegaeon.live.vllm.connector import LOAD, SAVE
from aegaeon.live.vllm.engine import (
    REFUSALS,
    ShellOptions,
    create_engine,
    prefer_unobstructed,
    release_memory,
    sampling_params,
    scheduler_of,
)
from aegaeon.live.vllm.worker import Lent

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a shell: the requests that ran, the tokens computed, and what came out."""

    ran: frozenset[str]
    computed: int
    outputs: tuple[TokenOutput, ...]


class Shell:
    """A model's engine on a device pool; only the active model's shell may step."""

    def __init__(
        self, name: str, path: Path, pool: DevicePool, options: ShellOptions | None = None
    ) -> None:
        if not (path / "config.json").is_file():
            raise UserError(f"model {name}: {path} holds no config.json; give a checkpoint folder")
        self.name = name
        self._lent = Lent(name, path, pool)
        try:
            self._engine = create_engine(self._lent, options or ShellOptions())
        except UserError:
            raise
        except Exception as error:
            why = f"model {name}: vLLM cannot run {path}: {first_line(error)}"
            raise UserError(why) from error
        self._scheduler = scheduler_of(self._engine)
        self._adapters = Adapters(self._engine)
        self._turn = -1
        self._internal: dict[str, list[str]] = {}
        self._external: dict[str, str] = {}

    @property
    def block_tokens(self) -> int:
        """Tokens per KV block (of the first cache group)."""
        return int(self._scheduler.block_size)

    @property
    def requests(self) -> Collection[str]:
        """The ids of unfinished requests."""
        return self._internal.keys()

    def add(
        self,
        request_id: str,
        prompt: Sequence[int] | str,
        params: Mapping[str, Any] | None = None,
        kv: HostKv | None = None,
        hand_over: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        """Queue a request; nothing runs yet.

        `params` are vLLM's sampling parameters by name. `kv` is what another engine of this model
        handed over for all of the prompt but its last token. With `hand_over` the request's KV goes
        to the host pool when it finishes. With an `adapter`, `kv` must have been computed with it
        too. Raises UserError for parameters and adapters that vLLM refuses.
        """
        ranks = self._lent.pool.ranks.size
        if kv is not None and kv.ranks != ranks:
            raise UserError(
                f"request {request_id} for {self.name}: its KV is that of {kv.ranks} "
                f"tensor-parallel rank(s), this instance has {ranks}; give all instances of a "
                "model the same tp"
            )
        given: Any = {"prompt": prompt} if isinstance(prompt, str) else _tokens(prompt)
        transfer = {LOAD: kv} if kv is not None else {SAVE: True} if hand_over else None
        self._scheduler.added.clear()
        try:
            values = {"detokenize": self._engine.tokenizer is not None, **(params or {})}
            sampling = sampling_params(values, transfer)
            lora = None if adapter is None else self._adapters.request(adapter)
            self._engine.add_request(request_id, given, sampling, lora_request=lora)
        except (*REFUSALS, UserError) as error:
            raise UserError(f"request {request_id} for {self.name}: {error}") from error
        self._internal[request_id] = list(self._scheduler.added)
        self._external.update(dict.fromkeys(self._scheduler.added, request_id))

    def abort(self, request_id: str) -> None:
        """Drop a request wherever it is; unknown and finished ones are ignored."""
        ids = self._internal.get(request_id)
        if ids is not None:
            self._engine.abort_request(ids, internal=True)
            self._forget(request_id)

    def step(self, batch: Collection[str] | None = None) -> Step:
        """Run one step of the requests in `batch` (all by default); the others stay as they are.

        A request whose KV does not fit beside the others' does not run, nor one whose adapter finds
        no slot beside theirs; one may be asked for too many. Raises RuntimeError if another model
        is active.
        """
        if self._lent.pool.active != self.name:
            raise RuntimeError(
                f"shell {self.name} may not step: {self._lent.pool.active} is active"
            )
        if self._turn != self._lent.pool.turns:
            self._turn = self._lent.pool.turns
            prefer_unobstructed(self._lent)
        scheduler = self._scheduler
        scheduler.batch = None if batch is None else self._ids(batch)
        scheduler.ran, scheduler.computed = frozenset(), 0
        outputs = [self._output(o, c) for o in self._engine.step() for c in o.outputs]
        ran = frozenset([self._external[i] for i in scheduler.ran if i in self._external])
        for output in outputs:
            if output.finished:
                self._forget(output.request_id)
        return Step(ran, scheduler.computed, tuple(outputs))

    def fits(self, batch: Collection[str] | None = None) -> bool:
        """Tell whether the next step can run the whole batch."""
        return self._scheduler.fits(None if batch is None else self._ids(batch))

    def give_up_kv(self, batch: Collection[str]) -> None:
        """Drop the KV of these requests; they are recomputed when they run again."""
        self._scheduler.give_up_kv(self._ids(batch))

    def close(self) -> None:
        """Drop all requests and give the shell's memory back; it cannot be used any more."""
        for request_id in list(self._internal):
            self.abort(request_id)
        config = self._engine.vllm_config
        self._engine.renderer.shutdown()
        del self._engine, self._scheduler, self._adapters
        release_memory(self._lent, config)

    def _ids(self, batch: Collection[str]) -> set[str]:
        return {internal for ident in batch for internal in self._internal.get(ident, ())}

    def _forget(self, request_id: str) -> None:
        for internal in self._internal.pop(request_id, ()):
            self._external.pop(internal, None)

    @staticmethod
    def _output(request: RequestOutput, part: CompletionOutput) -> TokenOutput:
        logprobs = None
        if part.logprobs is not None:
            logprobs = tuple([{t: p.logprob for t, p in at.items()} for at in part.logprobs])
        return TokenOutput(
            request.request_id,
            part.index,
            tuple(part.token_ids),
            part.text,
            logprobs,
            part.finish_reason,
            request.finished,
            (request.kv_transfer_params or {}).get(LOAD),
        )


def _tokens(prompt: Sequence[int]) -> dict[str, list[int]]:
    return {"prompt_token_ids": list(prompt)}
