"""A Ray token of this test session's own."""

import os
import uuid

# Spinning worker threads make tiny steps many times slower on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray would write one into the user's home; it also tells our processes from others'.
os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)
# Ray reads it when it is imported, which a test module may do before ours.
os.environ.setdefault("RAY_AUTH_MODE", "token")
