"""One model's vLLM engine, in this process, whose memory is leased (paper section 5.1).

An engine is made once; a switch of models makes nothing. Prefix caching is off by design: a block
belongs to one request, so evicting and restoring blocks cannot change what another request reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegaeon.errors import UserError, first_line
from aegaeon.live.events import Adapter, HostKv, TokenOutput
from aegaeon.live.instance.device_pool import DevicePool
from aegaeon.live.vllm.adapters import LoadedAdapters
from aegaeon.live.vllm.connector import LOAD, SAVE
from aegaeon.live.vllm.engine import (
    REFUSALS,
    ModelEngineOptions,
    make_llm,
    prefer_unobstructed,
    release_memory,
    sampling_params,
    scheduler_of,
)
from aegaeon.live.vllm.lease import Lease

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an engine: the requests that ran, how many tokens it computed, its outputs."""

    ran: frozenset[str]
    computed: int
    outputs: tuple[TokenOutput, ...]


class ModelEngine:
    """A model's vLLM engine on a device pool; only the active model's engine may step."""

    def __init__(
        self, name: str, path: Path, pool: DevicePool, options: ModelEngineOptions | None = None
    ) -> None:
        if not (path / "config.json").is_file():
            raise UserError(f"model {name}: {path} holds no config.json; give a checkpoint folder")
        self.name = name
        self._lease = Lease(name, path, pool)
        try:
            self._llm = make_llm(self._lease, options or ModelEngineOptions())
        except UserError:
            raise
        except Exception as error:
            why = f"model {name}: vLLM cannot run {path}: {first_line(error)}"
            raise UserError(why) from error
        self._scheduler = scheduler_of(self._llm)
        self._adapters = LoadedAdapters(self._llm)
        self._switches = -1
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

        `params` are vLLM's sampling parameters by name. `kv` is the KV of all of the prompt but its
        last token, from another engine of this model and with the same `adapter`. With `hand_over`
        the request's own KV goes to the host pool when the request finishes. Raises UserError for
        parameters and adapters that vLLM refuses.
        """
        ranks = self._lease.pool.ranks.size
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
            values = {"detokenize": self._llm.tokenizer is not None, **(params or {})}
            sampling = sampling_params(values, transfer)
            lora = None if adapter is None else self._adapters.request(adapter)
            self._llm.add_request(request_id, given, sampling, lora_request=lora)
        except (*REFUSALS, UserError) as error:
            raise UserError(f"request {request_id} for {self.name}: {error}") from error
        self._internal[request_id] = list(self._scheduler.added)
        self._external.update(dict.fromkeys(self._scheduler.added, request_id))

    def abort(self, request_id: str) -> None:
        """Drop a request wherever it is; unknown and finished ones are ignored."""
        ids = self._internal.get(request_id)
        if ids is not None:
            self._llm.abort_request(ids, internal=True)
            self._forget(request_id)

    def step(self, batch: Collection[str] | None = None) -> Step:
        """Run one step of the requests in `batch` (all by default); the others stay as they are.

        A step leaves out requests of the batch for whose KV the arena, or for whose adapter the
        slots have no more room. Raises RuntimeError if another model is active.
        """
        if self._lease.pool.active != self.name:
            raise RuntimeError(
                f"engine {self.name} may not step: {self._lease.pool.active} is active"
            )
        if self._switches != self._lease.pool.switches:
            self._switches = self._lease.pool.switches
            prefer_unobstructed(self._lease)
        scheduler = self._scheduler
        scheduler.batch = None if batch is None else self._ids(batch)
        scheduler.ran, scheduler.computed = frozenset(), 0
        outputs = [self._output(o, c) for o in self._llm.step() for c in o.outputs]
        ran = frozenset([self._external[i] for i in scheduler.ran if i in self._external])
        for output in outputs:
            if output.finished:
                self._forget(output.request_id)
        return Step(ran, scheduler.computed, tuple(outputs))

    def fits(self, batch: Collection[str] | None = None) -> bool:
        """Return whether the next step can run the whole batch."""
        return self._scheduler.fits(None if batch is None else self._ids(batch))

    def give_up_kv(self, batch: Collection[str]) -> None:
        """Drop the KV of these requests; vLLM recomputes it when they run again."""
        self._scheduler.give_up_kv(self._ids(batch))

    def close(self) -> None:
        """Drop all requests and give the memory back; the engine cannot be used any more."""
        for request_id in list(self._internal):
            self.abort(request_id)
        config = self._llm.vllm_config
        self._llm.renderer.shutdown()
        del self._llm, self._scheduler, self._adapters
        release_memory(self._lease, config)

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
