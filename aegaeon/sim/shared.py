"""A simulated instance whose models are all resident and share its compute (MuxServe)."""


class SharedInstance:
    """Placeholder."""

    def __init__(self, *a):
        raise RuntimeError
