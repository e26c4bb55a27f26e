"""All that imports Ray: the cluster, the session of a run, actors and node agents."""

from aegaeon.live.auth import default_auth

# Ray reads the mode when it is imported, which modules of this package do.
default_auth()
