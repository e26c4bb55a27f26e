"""KV quotas of the models of one unit: proportional to load, adapted to use (MuxServe, ADBS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ADAPT_S = 8.0
BUSY = 0.9
SPARE_TARGET = 0.95
STEP = 0.1


@dataclass(slots=True)
class _QuotaAccount:
    """One model's quota and reservations in bytes; `area` is reserved bytes times seconds."""

    quota: float
    reserved: float = 0.0
    area: float = 0.0
    since: float = 0.0

    def change(self, size: float, now: float) -> None:
        self.area += self.reserved * (now - self.since)
        self.since = now
        self.reserved += size


class KvQuotas:
    """Divides a unit's KV bytes among its models; the quotas always add up to all of them.

    MuxServe counts a request as one sequence of average length; here it reserves its prompt and a
    mean answer. Every `ADAPT_S` seconds a model that used `BUSY` of its quota on average and has
    requests waiting gains `STEP` of it from models that used less, each in proportion to what it
    leaves free below `SPARE_TARGET`. The original looks at its last 500 batches; this looks at the
    time since it last adapted.
    """

    def __init__(self, kv_bytes: float, weights: Mapping[str, float], adaptive: bool) -> None:
        total = sum(weights.values())
        even = 1.0 / len(weights)
        self._accounts = {
            model: _QuotaAccount(kv_bytes * (weight / total if total else even))
            for model, weight in weights.items()
        }
        self._kv_bytes = kv_bytes
        self._adaptive = adaptive
        self._adapted = 0.0

    def of(self, model: str) -> float:
        """Return a model's quota in bytes."""
        return self._accounts[model].quota

    def admits(self, model: str, size: float) -> bool:
        """Tell whether the quota has room for `size` more bytes, or the model nothing running."""
        account = self._accounts[model]
        return account.reserved == 0.0 or account.reserved + size <= account.quota

    def reserve(self, model: str, size: float, now: float) -> None:
        """Set `size` bytes aside for a request of `model`.

        A request larger than the whole quota of a model that has nothing else running takes what
        is missing from the others' quotas, so that it cannot starve.
        """
        account = self._accounts[model]
        size = min(size, self._kv_bytes)
        if size > account.quota:
            self._raise(model, size)
        account.change(size, now)

    def release(self, model: str, size: float, now: float) -> None:
        """Give back what a request had reserved."""
        account = self._accounts[model]
        account.change(-min(size, self._kv_bytes), now)
        if account.reserved < 1.0:
            account.reserved = 0.0

    def adapt(self, waiting: Mapping[str, int], now: float) -> None:
        """Move quota from models with room to busy ones with requests waiting, when it is time."""
        elapsed = now - self._adapted
        if not self._adaptive or elapsed < ADAPT_S:
            return
        use = {model: self._use(account, elapsed, now) for model, account in self._accounts.items()}
        spare = {
            model: max(0.0, (SPARE_TARGET - use[model]) * account.quota)
            for model, account in self._accounts.items()
            if use[model] < BUSY
        }
        for model, account in self._accounts.items():
            if use[model] >= BUSY and waiting[model]:
                self._take(account, STEP * account.quota, spare)
        self._adapted = now

    def _use(self, account: _QuotaAccount, elapsed: float, now: float) -> float:
        account.change(0.0, now)
        area, account.area = account.area, 0.0
        return area / (elapsed * account.quota) if account.quota else 1.0

    def _take(self, account: _QuotaAccount, wish: float, spare: dict[str, float]) -> None:
        available = sum(spare.values())
        part = min(1.0, wish / available) if available else 0.0
        for donor in spare:
            moved = spare[donor] * part
            spare[donor] -= moved
            self._accounts[donor].quota -= moved
            account.quota += moved

    def _raise(self, model: str, size: float) -> None:
        others = [a for name, a in self._accounts.items() if name != model]
        left = sum(a.quota for a in others)
        keep = max(0.0, (self._kv_bytes - size) / left) if left else 0.0
        for account in others:
            account.quota *= keep
        self._accounts[model].quota = self._kv_bytes - sum(a.quota for a in others)
