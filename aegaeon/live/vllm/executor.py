"""vLLM's executor on the ranks of an instance: what it tells a worker, it tells that of each rank.

In an instance of one rank this is vLLM's executor within the process, and nothing else.
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

from aegaeon.live.vllm.worker import lease_of

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

# What these give comes from rank 0; a step's other replies are awaited when it ends.
_STEP = "execute_model"


def make_worker(config: VllmConfig, rendezvous: str = "", rank: int = 0) -> WorkerWrapperBase:
    """Make this process's worker of an engine, its weights loaded.

    The first one of a process joins the group of ranks that meet at `rendezvous`, a file's URL; the
    others use it too.
    """
    # Its ranks would spin, and wait for ever for one that died.
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
    # Nobody speaks through it, and its shared memory would outlive a process that is killed.
    get_tp_group().mq_broadcaster = None
    worker.load_model()
    current_platform.update_block_size_for_backend(config)
    return worker


class EngineExecutor(UniProcExecutor):  # type: ignore[misc]
    """Runs rank 0's worker here and has the other ranks run theirs."""

    def _init_executor(self) -> None:
        config = self.vllm_config
        self._lease = lease_of(config)
        pool, self._key = self._lease.pool, self._lease.key
        self._ranks = pool.ranks
        meet = self._ranks.rendezvous
        given = (self._key, self._lease.name, str(self._lease.path), config, meet)
        (self.driver_worker, *_) = self._ranks.call(
            "create", *given, local=lambda: make_worker(config, meet)
        )

    def collective_rpc(
        self,
        method: str | Callable[..., object],
        timeout: float | None = None,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
        non_block: bool = False,
        single_value: bool = False,
    ) -> Any:  # noqa: ANN401
        """Call the method of every rank's worker; `single_value` asks for rank 0's result."""

        def local() -> Any:  # noqa: ANN401
            return super(EngineExecutor, self).collective_rpc(
                method, timeout, args, kwargs, non_block, single_value
            )

        if self._ranks.size == 1:
            return local()
        given = (self._key, method, args, kwargs or {})
        if method == _STEP:
            return self._ranks.post("rpc", *given, local=local)
        mine, *others = self._ranks.call("rpc", *given, local=local)
        if single_value:
            return mine
        if isinstance(mine, Future):
            mine.set_result([*mine.result(), *others])
            return mine
        return [*mine, *others]

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:  # noqa: ANN401
        """Bring the step's blocks to the devices, then run it."""
        blocks = scheduler_output.kv_connector_metadata
        if blocks is not None:
            self._lease.pool.store.prepare(self._lease.name, blocks.live, blocks.fresh)
        return super().execute_model(scheduler_output, non_block)

    def check_health(self) -> None:
        """Do nothing: a rank that is lost is noticed at once."""

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        """Return False: an instance's scheduler decides after each step."""
        return False
