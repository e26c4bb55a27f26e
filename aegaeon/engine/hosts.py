"""Carries out the lines that start or stop Ray on hosts: here, or over ssh; needs no Ray."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Callable, Sequence

from aegaeon.errors import UserError

Lines = Sequence[tuple[str, str]]

# The token goes through pipes: an argument could be read by every user of the host.
_READ_TOKEN = "ray get-auth-token"
_WRITE_TOKEN = 'umask 077 && mkdir -p "$HOME/.ray" && cat > "$HOME/.ray/auth_token"'


def carry_out(lines: Lines, say: Callable[[str, str], None], setup: str = "") -> None:
    """Run (host, shell command) pairs one after the other; `say` is told of each beforehand.

    `setup` is a command that comes before each of them. Raises UserError at the first that fails.
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
    """Raise UserError if `host` is this machine and something listens on the port."""
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
    """Tell whether a name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", socket.gethostname(), socket.getfqdn())


def _run(host: str, line: str, setup: str, given: str = "") -> str:
    command = f"{setup} && {line}" if setup else line
    # Without a terminal nobody could answer a question for a password.
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
