"""All code that imports vLLM: a model's engine, our parts in it, corrections of vLLM on a CPU.

An upgrade of vLLM changes this package only.
"""

from __future__ import annotations

import os

from aegaeon.live.auth import default_auth

# vLLM reads these when it is imported or when the first engine is created.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# Runner V2 keeps a slot for every running request, including those outside the current batch.
os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# vLLM imports Ray, which reads its authentication mode on import.
default_auth()
