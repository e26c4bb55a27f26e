"""The live backend: real vLLM engines in one process per device, switched between tokens."""

import os

# Ray reads it when it is imported, which modules here and vLLM do; see `nodes.use_auth`.
os.environ.setdefault("RAY_AUTH_MODE", "token")
