"""The agents of a live run: one actor per node, the owner of the node's shared memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aegaeon.core import ModelSpec
from aegaeon.live.control.messages import Broken, Message
from aegaeon.live.control.tracks import LiveError
from aegaeon.live.options import LiveOptions
from aegaeon.live.ray.actors import CLOSE_S, end
from aegaeon.live.ray.calls import brief, fetch
from aegaeon.live.ray.node_agent import NodeAgent
from aegaeon.runlog import PoolSample

Prepared = Mapping[str, tuple[str, Mapping[str, str]]]


class Agents:
    """The agents by node; the first call for a node creates its agent."""

    def __init__(self, options: LiveOptions) -> None:
        self._options = options
        self._agents: dict[str, Any] = {}

    def of(self, node: str) -> Any:  # noqa: ANN401
        """Return a node's agent."""
        if node not in self._agents:
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            made = ray.remote(
                num_cpus=0, concurrency_groups={"life": 1}, scheduling_strategy=place
            )(NodeAgent)
            self._agents[node] = made.remote(self._options)
        return self._agents[node]

    def prepare(self, models: Sequence[ModelSpec], timeout_s: float) -> Prepared:
        """Reserve every node's memory; return (shared directory, checkpoint folders) by node.

        Raises UserError after `timeout_s` seconds, or as `NodeAgent.prepare` does.
        """
        asked = {node: agent.prepare.remote(models) for node, agent in self._agents.items()}
        return {node: fetch(ref, timeout_s, "checkpoints") for node, ref in asked.items()}

    def watch(
        self,
        began: Mapping[str, float],
        inbox: queue.Queue[Message],
        ending: Callable[[], bool],
    ) -> list[Any]:
        """Start sampling the host KV pools; return the pending calls.

        `began` is the run's time 0 on each node's clock, in seconds. The death of an agent puts a
        `Broken` message into `inbox`, unless the run is `ending`.
        """
        for node, agent in self._agents.items():
            arguments = (node, agent, inbox, ending)
            threading.Thread(target=_attend, args=arguments, daemon=True).start()
        return [agent.watch.remote(node, began[node]) for node, agent in self._agents.items()]

    def samples(self) -> list[PoolSample]:
        """Return the samples of all nodes' host KV pools over the run."""
        asked = [agent.samples.remote() for agent in self._agents.values()]
        return [s for found in fetch(asked, CLOSE_S, "host KV pool") for s in found]

    def check_empty(self) -> None:
        """Raise LiveError if a host KV pool still holds blocks."""
        for node, agent in self._agents.items():
            used = fetch(agent.used_bytes.remote(), CLOSE_S, "host KV pool")
            if used:
                raise LiveError(f"node {node[:8]}: the host KV pool still holds {used:,} bytes")

    def close(self, patience_s: float) -> None:
        """End every agent; the end of an agent removes the node's shared memory."""
        end(list(self._agents.values()), patience_s)


def _attend(
    node: str,
    agent: Any,  # noqa: ANN401
    inbox: queue.Queue[Message],
    ending: Callable[[], bool],
) -> None:
    """Wait for an agent's end, because a run cannot go on without the agent's host memory."""
    try:
        ray.get(agent.lifetime.options(concurrency_group="life").remote())
    except RayError as error:
        if not ending():
            what = f"node {node[:8]}: its agent died ({brief(error)}), and its host memory"
            inbox.put(Broken(what))
