"""The modules that import Ray: the cluster, the session of a run, actors and node agents."""

from aegaeon.live.auth import default_auth

# Ray reads the mode when a module of this package imports Ray.
default_auth()
