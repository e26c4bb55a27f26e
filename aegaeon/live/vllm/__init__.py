"""All that imports vLLM: a model's engine, the parts of vLLM that it replaces, patches for a CPU.

An upgrade of vLLM is checked here.
"""

from __future__ import annotations

import os

from aegaeon.live.auth import default_auth

# vLLM reads these when it is imported or when the first engine is created.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# Runner V2 keeps a slot per running request, also for those that wait for their batch's turn.
os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# vLLM imports Ray, which reads its mode then.
default_auth()
