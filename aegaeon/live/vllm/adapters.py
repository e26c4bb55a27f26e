"""LoRA adapters of one engine: what a request names is loaded and becomes what vLLM takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vllm.lora.request import LoRARequest

from aegaeon.errors import UserError, first_line
from aegaeon.live.tp.group import RankError

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

    from aegaeon.live.events import Adapter


class LoadedAdapters:
    """The adapters that an engine's requests have named; an adapter's number never changes.

    vLLM keeps `max_cpu_loras` of them on the host and `max_loras` in slots of its own on the
    device. The slots are no part of the arena, so a switch of models does not touch them.
    """

    def __init__(self, llm: LLMEngine) -> None:
        self._llm = llm
        self._known: dict[str, LoRARequest] = {}
        self._numbers = 0

    def request(self, adapter: Adapter) -> LoRARequest:
        """Return vLLM's request for an adapter, and load the adapter if it is new.

        Loading here makes a bad adapter fail its own request; within a step it would fail the whole
        batch. Raises UserError if the engine takes no adapters, the folder holds none, vLLM cannot
        use it, or another adapter has its name.
        """
        known = self._known.get(adapter.name)
        if known is None:
            known = self._known[adapter.name] = self._load(adapter)
        elif known.lora_path != adapter.path:
            raise UserError(
                f"adapter {adapter.name}: {known.lora_path} has this name already, "
                f"{adapter.path} needs another"
            )
        return known

    def _load(self, adapter: Adapter) -> LoRARequest:
        if self._llm.vllm_config.lora_config is None:
            raise UserError(
                f"adapter {adapter.name}: the model's engine takes none; make it with enable_lora"
            )
        if not (Path(adapter.path) / "adapter_config.json").is_file():
            raise UserError(
                f"adapter {adapter.name}: {adapter.path} holds no adapter_config.json; "
                "give the folder of a LoRA adapter in PEFT's format"
            )
        self._numbers += 1
        made = LoRARequest(adapter.name, self._numbers, adapter.path)
        try:
            self._llm.add_lora(made)
        except RankError:
            raise
        except Exception as error:
            # vLLM registers an adapter before it finds that the shapes do not fit.
            self._llm.remove_lora(made.lora_int_id)
            why = f"adapter {adapter.name}: vLLM cannot use {adapter.path}: {first_line(error)}"
            raise UserError(why) from error
        return made
