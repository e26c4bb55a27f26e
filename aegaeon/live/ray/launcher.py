"""Commands that start or stop Ray on hosts, locally or over ssh; needs no Ray."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Callable, Sequence

from aegaeon.errors import UserError

SLOT = "gpu_slot"
Lines = Sequence[tuple[str, str]]

# The token goes through pipes, because every user of the host can read arguments.
_READ_TOKEN = "ray get-auth-token"
_WRITE_TOKEN = 'umask 077 && mkdir -p "$HOME/.ray" && cat > "$HOME/.ray/auth_token"'


def carry_out(lines: Lines, say: Callable[[str, str], None], setup: str = "") -> None:
    """Run (host, command) pairs one after the other.

    `say` is called with each pair before the command runs. `setup` is a command that precedes
    each command. Raises UserError at the first command that fails.
    """
    for host, line in lines:
        say(host, line)
        _run(host, line, setup)


def share_token(hosts: Sequence[str], setup: str = "") -> None:
    """Copy the first host's Ray token to the others; raises UserError if that fails."""
    others = [host for host in dict.fromkeys(hosts) if host != hosts[0]]
    if others:
        token = _run(hosts[0], _READ_TOKEN, setup).strip()
        for host in others:
            _run(host, _WRITE_TOKEN, "", token)


def check_port(host: str, port: int) -> None:
    """Raise UserError if `host` is this machine and the port is in use."""
    if not is_local(host):
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"cluster: port {port} of {host} is not free ({error.strerror}); stop the Ray that "
                "runs there with `aegaeon cluster --stop --run HOST...`, or choose another --port"
            ) from error


def is_local(host: str) -> bool:
    """Return whether a name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", socket.gethostname(), socket.getfqdn())


def _run(host: str, line: str, setup: str, given: str = "") -> str:
    command = f"{setup} && {line}" if setup else line
    # No terminal is attached, so a prompt for a password would wait without end.
    remote = ["ssh", "-o", "BatchMode=yes", host, command]
    words = ["sh", "-c", command] if is_local(host) else remote
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise UserError(
            f"cluster: on {host} `{line}` ended with {done.returncode}: {' / '.join(said[-3:])}; "
            "repair that, then stop what has been started with --stop --run"
        )
    return done.stdout


def start_lines(
    hosts: Sequence[str], slots: int, gpus: bool, port: int = 6379, auth: str = "token"
) -> list[tuple[str, str]]:
    """Return (host, command) pairs that start Ray on `hosts`, the first one as the head.

    `slots` is the number of devices that each host offers. With `auth` token, the first command
    makes a token on the head; the token must then be copied to the other hosts (docs/live.md).
    Raises UserError without hosts or slots, and for several hosts with a head called localhost.
    """
    if not hosts or slots < 1:
        raise UserError(f"cluster: needs hosts and slots of at least 1, got {list(hosts)}, {slots}")
    if hosts[0] == "localhost" and set(hosts) != {"localhost"}:
        raise UserError(
            f"cluster: others cannot reach a head called localhost (hosts are {' '.join(hosts)}); "
            "give the name by which they know it"
        )
    common = f"--resources='{{\"{SLOT}\": {slots}}}' --num-gpus={slots if gpus else 0}"
    common += " --disable-usage-stats"
    lines = []
    if auth == "token":
        lines.append((hosts[0], "ray get-auth-token --generate"))
    for i, host in enumerate(hosts):
        role = f"--head --port={port} --include-dashboard=false"
        if i:
            role = f"--address={hosts[0]}:{port}"
        # Each instance holds mapped files and sockets, more than the usual limit of 1,024.
        limits = f'ulimit -n "$(ulimit -Hn)" && RAY_AUTH_MODE={auth} OMP_NUM_THREADS=1'
        lines.append((host, f"{limits} ray start {role} {common}"))
    return lines


def stop_lines(hosts: Sequence[str]) -> list[tuple[str, str]]:
    """Return (host, command) pairs that stop Ray, the head last."""
    return [(host, "ray stop") for host in reversed(list(dict.fromkeys(hosts)))]
