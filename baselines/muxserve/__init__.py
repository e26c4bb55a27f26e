"""MuxServe: placement by memory and throughput, ADBS inside a unit, SMs shared in space."""

from baselines.muxserve.system import MuxServe

__all__ = ["MuxServe"]
