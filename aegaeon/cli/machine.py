"""`aegaeon doctor` and `cluster`: this machine, and the nodes that live runs use."""

from __future__ import annotations

import click

from aegaeon.cli.tree import examples


@click.command(epilog=examples("aegaeon doctor", "aegaeon doctor --json", "aegaeon doctor --clean"))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--clean", is_flag=True, help="Remove the shared memory of crashed runs first.")
def doctor(as_json: bool, clean: bool) -> int:
    """Check this machine and environment.

    Each finding names the results that it affects and what to do. The exit code is 1 if there is a
    problem; warnings alone give 0.
    """
    from aegaeon.doctor import doctor as examine

    return examine(as_json=as_json, clean=clean)


@click.command(
    epilog=examples(
        "aegaeon cluster node1 node2                print the commands, for other tools",
        "aegaeon cluster --run node1 node2          start Ray here and over ssh",
        "aegaeon cluster --stop --run node1 node2   stop it",
    )
)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option("--slots", type=click.IntRange(min=1), default=8, help="Devices per node.")
@click.option("--cpu", is_flag=True, help="The nodes have no GPUs.")
@click.option("--port", type=click.IntRange(1, 65535), default=6379, help="Port of the head.")
@click.option("--run", "carry", is_flag=True, help="Run the commands, over ssh on other hosts.")
@click.option("--stop", is_flag=True, help="Stop Ray on the nodes instead.")
@click.option("--setup", default="", help="Command to run before each, as '. venv/activate'.")
def cluster(
    hosts: tuple[str, ...], slots: int, cpu: bool, port: int, carry: bool, stop: bool, setup: str
) -> None:
    """Print or run the commands that start Ray on nodes.

    The first HOST is the head. Live runs there join the cluster with backend.address=auto
    (docs/live.md).
    """
    from aegaeon.live.ray import launcher

    if stop:
        lines = launcher.stop_lines(hosts)
    else:
        lines = launcher.start_lines(hosts, slots, not cpu, port)
    if not carry:
        for host, line in lines:
            _say(host, line)
    elif stop:
        launcher.carry_out(lines, _say, setup)
    else:
        launcher.check_port(hosts[0], port)
        launcher.carry_out(lines[:1], _say, setup)
        launcher.share_token(hosts, setup)
        launcher.carry_out(lines[1:], _say, setup)


def _say(host: str, line: str) -> None:
    click.echo(f"{host}: {line}")
