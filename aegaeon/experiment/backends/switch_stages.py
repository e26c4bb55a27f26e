"""What a switch costs by how the weights come, from the cost model alone (paper figure 7)."""

from __future__ import annotations

from aegaeon.core import GB, Deployment
from aegaeon.runlog import StageCost

# What the authors measured of loading weights the usual way: LLaMA-13B over PCIe 4 (section 5).
NAIVE_LOAD_RATE = 2.83 * GB


def modelled_stages(deployment: Deployment) -> list[StageCost]:
    """Return what a switch costs per model type.

    The rest of a re-initialisation (executor, profiling, memory) is not modelled.
    """
    found, link = [], deployment.device.link_bandwidth / GB
    for kind, cost in {m.type: deployment.costs[m.name] for m in deployment.models}.items():
        size = cost.weight_bytes
        naive = f"weights alone, at the {NAIVE_LOAD_RATE / GB:g} GB/s of the paper's section 5"
        ways = (
            ("usual loader", size / NAIVE_LOAD_RATE, naive),
            ("packed arena", cost.switch.host_s, f"one copy over the host link, {link:g} GB/s"),
            ("prefetched", cost.switch.activate_s, "a copy on the device, into place"),
        )
        found += [
            StageCost(stage, order, kind, seconds, int(size), note)
            for order, (stage, seconds, note) in enumerate(ways)
        ]
    return found
