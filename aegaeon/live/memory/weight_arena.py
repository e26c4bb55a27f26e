"""One reservation of device memory in which all models' weights take turns.

A module's parameters are views at fixed offsets of a slot. Where addresses must not change (CUDA
graphs), the active model is always in slot 0, and a prefetched one is copied there, device to
device. On other devices the views are re-pointed to the slot with the bytes (paper section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aegaeon.errors import UserError
from aegaeon.live.memory.device import Device, Stream, StreamEvent
from aegaeon.live.memory.weight_layout import WeightLayout, align_up, named_tensors

# A slot also holds buffers, and tensors that an engine pads.
_SLOT_MARGIN, _SLOT_EXTRA = 1.1, 4 << 20


def slot_bytes_for(weight_bytes: float) -> int:
    """Return the size of a slot for a model (one rank's share) with these bytes of weights."""
    return int(weight_bytes * _SLOT_MARGIN) + _SLOT_EXTRA


@dataclass(frozen=True, slots=True)
class Activation:
    """One switch: `nbytes` bytes came from `source` and are in place when `ready` is done.

    `source` is "active" (no copy needed), "slot" (a slot had the bytes) or "host". `ready` is an
    event of the compute stream: work queued there later needs no further wait.
    """

    model: str
    nbytes: int
    source: str
    ready: StreamEvent


@dataclass(slots=True)
class _Slot:
    """Has `model` once `ready` is done; may be overwritten once `idle` is done."""

    bytes: torch.Tensor
    model: str | None = None
    ready: StreamEvent | None = None
    idle: StreamEvent | None = None
    used: int = 0


@dataclass(slots=True)
class _Bound:
    layout: WeightLayout
    tensors: list[torch.Tensor]
    at: _Slot | None = None


class WeightArena:
    """`slots` slots of `slot_bytes` each; one model is active, others may be prefetched.

    `repoint` overrides the device's own strategy: True re-points views to the slot that has the
    bytes, False copies them to slot 0. Host copies are kept alive while they are being read.
    """

    def __init__(
        self, device: Device, slot_bytes: int, slots: int = 1, repoint: bool | None = None
    ) -> None:
        if slot_bytes < 1 or slots < 1:
            raise UserError(f"weight arena: needs bytes and slots >= 1, got {slot_bytes}, {slots}")
        self.slot_bytes = align_up(slot_bytes)
        self.repoint = not device.fixed_addresses if repoint is None else repoint
        self.active: str | None = None
        self._device = device
        self._side = device.stream() if slots > 1 else None
        self._memory = device.reserve(self.slot_bytes * slots)
        self._slots = [_Slot(part) for part in self._memory.split(self.slot_bytes)]
        self._home = self._slots[0]
        self._bound: dict[str, _Bound] = {}
        self._reading: list[tuple[StreamEvent, torch.Tensor]] = []
        self._clock = 0

    def bind(self, model: str, module: torch.nn.Module, layout: WeightLayout) -> None:
        """Re-point the module's tensors into the arena; they hold its weights after `switch`.

        Raises UserError if the model is larger than a slot. Raises ValueError if a tensor is in the
        arena already: two models that share a tensor would need different bytes in it.
        """
        if layout.nbytes > self.slot_bytes:
            raise UserError(
                f"model {model}: its weights take {layout.nbytes:,} bytes, a slot of the weight "
                f"arena has {self.slot_bytes:,}; make the arena larger or leave the model out"
            )
        named = named_tensors(module)
        arena = self._memory.untyped_storage().data_ptr()
        for name, tensor in named.items():
            if tensor.untyped_storage().data_ptr() == arena:
                raise ValueError(f"model {model}: tensor {name} is bound to the arena already")
        self._bound[model] = _Bound(layout, [named[packed.name] for packed in layout.tensors])
        self._point(self._bound[model], self._slots[0])

    def unbind(self, model: str) -> None:
        """Forget a model, whose module must not run any more."""
        del self._bound[model]
        for slot in self._slots:
            if slot.model == model:
                slot.model = None
        if self.active == model:
            self.active = None

    def resident(self, model: str) -> bool:
        """Return whether the bytes of `model` are on the device or on their way."""
        return self._find(model) is not None

    def prefetch(self, model: str, host: torch.Tensor) -> StreamEvent:
        """Start a copy of `model` to a spare slot on a side stream; return the event of its end.

        `host` is uint8 [layout.nbytes]. Raises UserError if the arena has one slot only.
        """
        if self._side is None:
            raise UserError("weight arena: prefetching needs two slots or more, it has one")
        found = self._find(model)
        if found is not None and found.ready is not None:
            return found.ready
        spare = self._oldest([slot for slot in self._slots if slot is not self._home])
        if spare.idle is not None:
            self._side.wait(spare.idle)
        return self._fill(spare, model, host, self._side)

    def switch(self, model: str, host: torch.Tensor) -> Activation:
        """Make `model` active; read `host`, uint8 [layout.nbytes], if no slot has its bytes."""
        compute = self._device.compute()
        bound = self._bound[model]
        if self.active == model:
            return Activation(model, 0, "active", compute.record())
        found = self._find(model)
        target = found if found is not None and self.repoint else self._target()
        for slot in (target, found):
            if slot is not None and slot.ready is not None:
                compute.wait(slot.ready)
        if found is None:
            ready = self._fill(target, model, host, compute)
        elif found is target:
            ready = compute.record()
        else:
            ready = self._fill(target, model, found.bytes[: bound.layout.nbytes], compute)
            found.idle = ready
        self._home.idle = ready
        self._home, self.active = target, model
        self._touch(target)
        self._point(bound, target)
        return Activation(model, bound.layout.nbytes, "host" if found is None else "slot", ready)

    def _target(self) -> _Slot:
        return self._oldest(self._slots) if self.repoint else self._slots[0]

    def _find(self, model: str) -> _Slot | None:
        return next((slot for slot in self._slots if slot.model == model), None)

    def _oldest(self, slots: list[_Slot]) -> _Slot:
        return min(slots, key=lambda slot: (slot.model is not None, slot.used))

    def _touch(self, slot: _Slot) -> None:
        self._clock += 1
        slot.used = self._clock

    def _fill(self, slot: _Slot, model: str, source: torch.Tensor, stream: Stream) -> StreamEvent:
        nbytes = self._bound[model].layout.nbytes
        if source.nbytes != nbytes:
            raise ValueError(f"model {model}: got {source.nbytes} packed bytes, expected {nbytes}")
        stream.copy(slot.bytes[:nbytes], source)
        slot.model, slot.ready = model, stream.record()
        self._touch(slot)
        self._reading = [(event, held) for event, held in self._reading if not event.done()]
        self._reading.append((slot.ready, source))
        return slot.ready

    def _point(self, bound: _Bound, slot: _Slot) -> None:
        if bound.at is slot:
            return
        for packed, tensor in zip(bound.layout.tensors, bound.tensors, strict=True):
            tensor.data = packed.view(slot.bytes)
        bound.at = slot
