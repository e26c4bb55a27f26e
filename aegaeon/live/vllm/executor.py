"""vLLM's executor on the ranks of an instance: each call to a worker reaches that of every rank.

In an instance of one rank it is vLLM's executor within the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from vllm.config import VllmConfig as VllmConfig
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator
from vllm.distributed.parallel_state import get_tp_group
from vllm.platforms import current_platform
from vllm.utils.network_utils import get_file_store_init_method
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.serial_utils import run_method as run_method
from vllm.v1.worker.worker_base import WorkerWrapperBase

from aegaeon.live.tp.messages import CallWorker, MakeWorker
from aegaeon.live.vllm.lease import lease_of
from aegaeon.live.vllm.lora_ops import leave_tokens_without_adapter

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

# Rank 0 alone returns what this call gives; the other ranks' replies are awaited at the step's end.
_STEP = "execute_model"


def make_worker(config: VllmConfig, rendezvous: str = "", rank: int = 0) -> WorkerWrapperBase:
    """Make this rank's worker of an engine, its weights loaded.

    The first worker of a process joins the group of ranks that meet at `rendezvous`, a file's URL;
    later workers use the same group.
    """
    if config.lora_config is not None and current_platform.is_cpu():
        leave_tokens_without_adapter()
    # Ranks of vLLM's own shared-memory group busy-wait, and never stop waiting for a dead rank.
    CpuCommunicator._all_group_ranks_share_shm_group_name = lambda self: False
    worker = WorkerWrapperBase(rpc_rank=0, global_rank=rank)
    arguments = {
        "vllm_config": config,
        "local_rank": rank,
        "rank": rank,
        "distributed_init_method": rendezvous or get_file_store_init_method(),
        "is_driver_worker": rank == 0,
    }
    worker.init_worker(all_kwargs=[arguments])
    worker.init_device()
    # No message goes through this queue, and its shared memory would outlive a killed process.
    get_tp_group().mq_broadcaster = None
    worker.load_model()
    current_platform.update_block_size_for_backend(config)
    return worker


class EngineExecutor(UniProcExecutor):  # type: ignore[misc]
    """Runs rank 0's worker here and has the other ranks run theirs."""

    def _init_executor(self) -> None:
        self._lease = lease_of(self.vllm_config)
        self._ranks = self._lease.pool.ranks
        call = MakeWorker(
            self._lease.key,
            self._lease.name,
            self._lease.path,
            self.vllm_config,
            self._ranks.rendezvous,
        )

        def here(call: MakeWorker) -> WorkerWrapperBase:
            return make_worker(call.config, call.rendezvous)

        self.driver_worker = self._ranks.call(call, here)[0]

    def collective_rpc(
        self,
        method: str | Callable[..., object],
        timeout: float | None = None,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
        non_block: bool = False,
        single_value: bool = False,
    ) -> Any:  # noqa: ANN401
        """Call a method of every rank's worker; with `single_value` return rank 0's result only.

        A method's name is a string in vLLM's interface, which this method implements.
        """

        def here(_: CallWorker) -> Any:  # noqa: ANN401
            return super(EngineExecutor, self).collective_rpc(
                method, timeout, args, kwargs, non_block, single_value
            )

        call = CallWorker(self._lease.key, method, args, kwargs or {})
        if self._ranks.size == 1:
            return here(call)
        if method == _STEP:
            return self._ranks.post(call, here)
        mine, *others = self._ranks.call(call, here)
        if single_value:
            return mine
        if isinstance(mine, Future):
            joined: Future[Any] = Future()
            joined.set_result([*mine.result(), *others])
            return joined
        return [*mine, *others]

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:  # noqa: ANN401
        """Bring the step's blocks to the devices, then run it."""
        blocks = scheduler_output.kv_connector_metadata
        if blocks is not None:
            self._lease.pool.store.prepare(self._lease.name, blocks.live, blocks.fresh)
        return super().execute_model(scheduler_output, non_block)

    def check_health(self) -> None:
        """Do nothing: the group of ranks reports a lost rank at once."""

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        """Return False: an instance's scheduler decides after each step."""
        return False
