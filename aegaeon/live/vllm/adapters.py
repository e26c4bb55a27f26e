"""LoRA adapters of one engine: what a request names becomes what vLLM takes, and is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu
from vllm.lora.request import LoRARequest

from aegaeon.errors import UserError, first_line
from aegaeon.live.tp.group import RankError

if TYPE_CHECKING:
    import torch
    from vllm.v1.engine.llm_engine import LLMEngine

    from aegaeon.live.events import Adapter


class Adapters:
    """The adapters that an engine's requests have named; each keeps its number for good.

    vLLM keeps `max_cpu_loras` of them on the host and `max_loras` in slots of its own on the
    device, beside the arena, so a switch of models does not touch them.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._known: dict[str, LoRARequest] = {}
        self._numbers = 0

    def request(self, adapter: Adapter) -> LoRARequest:
        """Return vLLM's name of an adapter, which is loaded now if it is new.

        A step could only fail with all its requests. Raises UserError if the engine takes no
        adapters, the folder holds none, vLLM cannot use it, or its name is another one's.
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
        if self._engine.vllm_config.lora_config is None:
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
            self._engine.add_lora(made)
        except RankError:
            raise
        except Exception as error:
            # One whose shapes do not fit has been registered by then.
            self._engine.remove_lora(made.lora_int_id)
            why = f"adapter {adapter.name}: vLLM cannot use {adapter.path}: {first_line(error)}"
            raise UserError(why) from error
        return made


def _sparing(op: Callable[..., None]) -> Callable[..., None]:
    """Make one of vLLM's CPU operations leave tokens without an adapter as they are."""

    def spared(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        slots: torch.Tensor,
        *rest: object,
        **more: object,
    ) -> None:
        # Such a token's slot is -1, which the operation takes for the last one.
        op(inputs.masked_fill((slots < 0)[:, None], 0), weights, output, slots, *rest, **more)

    return spared


for _name in ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"):
    _op = _sparing(getattr(lora_ops, _name))
    for _module in (lora_ops, punica_cpu):
        setattr(_module, _name, _op)
