"""How MuxServe's colocated models slow one another down, calibrated on its published numbers.

The numbers were measured on A100-80GB with LLaMA. No publication says how they carry over to other
devices or models.

* SM shares: the placement cost table of its repository, examples/placement/llama.json, LLaMA-13B on
  one GPU. With 70, 60 and 50 % of the SMs a prefill of 2,048 tokens takes 1.31, 1.42 and 1.62 times
  as long as with all, one of 512 tokens with 30 % 2.44 times. A decode step takes 1.05, 1.10 and
  1.18 times as long (typical of batches of 1 to 64), with 30 % 1.53 times (batch of 1).
  `1 + f * (1 / share - 1)` follows the prefills with f = 0.62 and the decodes with f = 0.20, each
  within 5 %.
* Bandwidth: benchmark/chatlmsys of its repository compares MuxServe (`flexsm`) with taking turns
  (`temporal`) on the same 32 GPUs at five loads: 1.20, 1.97, 1.34, 1.46 and 1.46 times the
  throughput. Two decodes at once finish 1 / decode_bandwidth times as much as in turns; with the
  median gain of 1.46, decode_bandwidth is 0.68. Two checks agree: a decode step of LLaMA-13B
  reads 26 GB in 19.8 ms, 0.64 of an A100's bandwidth; and a prefill on 60 % of the SMs with a
  decode on 40 % comes out here as 1.48 times the throughput of turns.
"""

from __future__ import annotations

from aegaeon.core import SharingModel

A100_SHARING = SharingModel(
    prefill_sm=0.62,
    decode_sm=0.20,
    decode_bandwidth=0.68,
    source="hao-ai-lab/MuxServe: examples/placement/llama.json, benchmark/chatlmsys (A100-80GB)",
)
