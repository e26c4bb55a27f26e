"""MuxServe: placement by memory and throughput, ADBS inside a unit, SMs shared in space."""

from baselines.muxserve.system import RELAXED, MuxServe

__all__ = ["RELAXED", "MuxServe"]
