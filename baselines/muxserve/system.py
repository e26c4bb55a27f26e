"""MuxServe (Duan et al., ICML'24): models resident for good, sharing GPUs in space.

What its placement has no room for is refused: the scorer counts those requests as late throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aegaeon.constraints import above, at_least, check_fields
from aegaeon.core import Deployment, Fleet, InstanceSpec, Request, Stage
from aegaeon.errors import UserError
from aegaeon.policy.interface import Dispatcher, Placement, Refusal, Scheduler, System
from baselines.muxserve.adbs import Adbs
from baselines.muxserve.placement import MemoryRule, place
from baselines.muxserve.quotas import KvQuotas
from baselines.muxserve.sharing import A100_SHARING
from baselines.muxserve.throughput import describe


@dataclass
class MuxServe(System):
    """Spatial sharing with the planning constants of MuxServe's repository.

    Attributes:
        kv_share, activation_gb, overhead_gb: the memory rule, see `MemoryRule`; the constants, not
            the GPU's size, are what limits an 80 GB GPU to two 7B models.
        max_models_per_gpu: a further limit; None leaves it to the memory rule.
        adaptive: adapt KV quotas to use; False keeps them proportional to load.
    """

    name: str = "muxserve"
    kv_share: float = field(default=0.4, metadata=above(0, 1))
    activation_gb: float = field(default=6.0, metadata=at_least(0, 1e6))
    overhead_gb: float = field(default=1.6, metadata=at_least(0, 1e6))
    max_models_per_gpu: int | None = field(default=None, metadata=at_least(1, 1_000_000))
    adaptive: bool = True

    @property
    def shares_devices(self) -> bool:
        """All models of a device are resident, and run side by side."""
        return True

    def fleet(self, deployment: Deployment) -> Fleet:
        """Make every mesh that got a model an instance; raise `UserError` if none got any."""
        check_fields(self, "system")
        rule = MemoryRule(
            self.kv_share, self.activation_gb, self.overhead_gb, self.max_models_per_gpu
        )
        plan = place(deployment, rule, A100_SHARING)
        if not plan.units:
            device = deployment.device
            raise UserError(
                f"system.kv_share, activation_gb, overhead_gb: MuxServe's rule leaves "
                f"{rule.budget(device) / 1e9:.1f} GB of a {device.name} for weights and no model "
                "of the market fits; lower them, or choose a larger GPU or smaller models"
            )
        return tuple(
            InstanceSpec(
                id=i,
                stage=Stage.FULL,
                device=deployment.device,
                kv_bytes=unit.kv_bytes,
                link_bandwidth=deployment.device.link_bandwidth,
                tp=unit.gpus,
                node=unit.node,
                models=unit.models,
                sharing=A100_SHARING,
            )
            for i, unit in enumerate(plan.units)
        )

    def dispatcher(self, deployment: Deployment, fleet: Fleet) -> Dispatcher:
        """Send every model's requests to the instance that holds it."""
        return ByPlacement(self.name, fleet)

    def scheduler(self, deployment: Deployment, instance: InstanceSpec) -> Scheduler:
        """Build ADBS for the instance's models."""
        models = [model for model in deployment.models if model.name in instance.models]
        weights = {model.name: describe(model, deployment).kv_weight for model in models}
        kv = {model.name: deployment.costs[model.name].kv_bytes_per_token for model in models}
        quotas = KvQuotas(instance.kv_bytes, weights, self.adaptive)
        return Adbs(kv, quotas, deployment.mean_output_tokens)


class ByPlacement:
    """A fixed map from models to instances; models without one are refused."""

    def __init__(self, system: str, fleet: Fleet) -> None:
        self._system = system
        self._homes = {model: spec.id for spec in fleet for model in spec.models}

    def place(self, request: Request, stage: Stage, now: float) -> int | Refusal:
        """Return the model's instance, or why there is none."""
        home = self._homes.get(request.model)
        if home is None:
            return Refusal(f"{self._system}: no placement for {request.model}")
        return home

    def finished(
        self, request: Request, stage: Stage, instance: int, now: float
    ) -> Sequence[Placement]:
        """Release nothing: no request is ever held."""
        return ()

    def available(self, instance: int, up: bool, now: float) -> Sequence[Placement]:
        """Change nothing: a model has no second home, and its requests wait for this one."""
        return ()
