"""The `aegaeon` command: run experiments, render figures, check claims, browse results."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from aegaeon import __version__
from aegaeon.errors import UserError
from aegaeon.paths import FIGURES, RUNS, STORED
from aegaeon.signals import stoppable

_Parser = argparse.ArgumentParser
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_Act = Callable[[argparse.Namespace], int]
_EPILOG = """examples:
  aegaeon run -m experiment=kick       a sweep of seconds, to see that everything works
  aegaeon run -m experiment=fig11a     all points of Figure 11a; started again, it resumes
  aegaeon results export fig11a        store its rows in runs/stored/fig11a.parquet
  aegaeon figures fig11a               draw it from the stored rows
  aegaeon claims                       the paper's claims against the stored rows
  aegaeon reproduce                    every experiment, compared with the stored rows
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message and code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        from aegaeon.experiment.hydra_job import main as run

        return run(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return stoppable(lambda: int(options.act(options)))
    except UserError as error:
        message = Text(f"error: {error}", style="red")
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "aegaeon", description=__doc__, epilog=_EPILOG, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="run one experiment or a sweep of them (Hydra)")
    figures = _command(commands, "figures", _figures, "draw figures from stored results")
    figures.add_argument("names", nargs="*", metavar="NAME", help="fig04, fig11a, … (all)")
    figures.add_argument("--out", type=Path, default=FIGURES, help="folder for PDF and PNG")
    figures.add_argument("--no-presets", action="store_true", help="leave thin curves out")
    _stored(figures)
    claims = _command(commands, "claims", _claims, "the paper's claims against stored results")
    claims.add_argument("--json", type=Path, default=RUNS / "claims.json", help="also write this")
    claims.add_argument("--markdown", type=Path, help="also put the table into this document")
    claims.add_argument("--strict", action="store_true", help="exit with 1 unless all pass")
    _stored(claims)
    _results(_command(commands, "results", None, "export, import or compare results"))
    reproduce = _command(commands, "reproduce", _reproduce, "run everything and compare")
    reproduce.add_argument("names", nargs="*", metavar="EXPERIMENT", help="which (all)")
    reproduce.add_argument("--all", action="store_true", help="variants and sensitivity too")
    _stored(reproduce)
    check = _command(commands, "validate", _validate, "compare with the artifact's simulator")
    check.add_argument("--data", type=Path, required=True, help="folder of the artifact's files")
    mlflow = _command(commands, "mlflow", _mlflow, "open the MLflow UI on the local runs")
    mlflow.add_argument("--port", type=int, default=5000)
    cluster = _command(commands, "cluster", _cluster, "print or run what starts Ray on nodes")
    cluster.add_argument("hosts", nargs="+", metavar="HOST", help="the first is the head")
    cluster.add_argument("--slots", type=int, default=8, help="devices per node")
    cluster.add_argument("--cpu", action="store_true", help="the nodes have no GPUs")
    cluster.add_argument("--port", type=int, default=6379, help="the head's port")
    cluster.add_argument("--run", action="store_true", help="run the commands, over ssh elsewhere")
    cluster.add_argument("--stop", action="store_true", help="those that stop Ray instead")
    cluster.add_argument("--setup", default="", help="a command before each, as '. venv/activate'")
    profile = _command(commands, "profile", _profile, "measure what models cost on live engines")
    profile.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for `aegaeon run`")
    profile.add_argument("--out", type=Path, help="folder to write to instead of profiles/")
    profile.add_argument("--repeats", type=int, default=3, help="times the grid is measured")
    doctor = _command(commands, "doctor", _doctor, "check this machine and environment")
    doctor.add_argument("--json", action="store_true", help="print findings as JSON")
    doctor.add_argument("--clean", action="store_true", help="remove crashed runs' shared memory")
    bench = _command(commands, "bench", _bench, "time the simulator")
    bench.add_argument("--large", action="store_true", help="also 2,000 models for an hour")
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the examples' lines and show defaults."""


def _command(commands: _Commands, name: str, act: _Act | None, text: str) -> _Parser:
    parser = commands.add_parser(name, help=text, description=text, formatter_class=_Formatter)
    parser.set_defaults(act=act)
    return parser


def _stored(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stored", type=Path, default=STORED, help="folder of stored tables")


def _results(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    export = _command(actions, "export", _export, "write finished runs to stored tables")
    export.add_argument("names", nargs="+", metavar="EXPERIMENT")
    export.add_argument("--replace", action="store_true", help="drop rows that were not run now")
    load = _command(actions, "import", _import, "replay stored tables into MLflow")
    load.add_argument("--tracking", default="sqlite", help="sqlite or a server's address")
    diff = _command(actions, "diff", _diff, "compare finished runs with stored rows")
    diff.add_argument("names", nargs="+", metavar="EXPERIMENT")
    diff.add_argument("--rtol", type=float, default=0.0, help="relative tolerance")
    sync = _command(actions, "sync", _sync, "log finished runs that MLflow lacks")
    sync.add_argument("names", nargs="+", metavar="EXPERIMENT")
    sync.add_argument("--tracking", default="sqlite", help="sqlite or a server's address")
    rehash = _command(actions, "rehash", _rehash, "translate hashes of version 1; runs nothing")
    columns = _command(actions, "columns", _columns, "explain the columns of stored tables")
    for action in (export, load, diff, sync, rehash, columns):
        _stored(action)
        action.add_argument("--runs", type=Path, default=RUNS, help="folder of run directories")


def _figures(options: argparse.Namespace) -> int:
    from figures.render import render

    paths = render(options.names, options.stored, options.out, presets=not options.no_presets)
    Console().print(f"{len(paths)} files in {options.out}", highlight=False, soft_wrap=True)
    return 0


def _claims(options: argparse.Namespace) -> int:
    from aegaeon.claims import check, print_table, write_json, write_markdown

    verdicts = check(options.stored)
    print_table(verdicts)
    write_json(verdicts, options.json)
    if options.markdown:
        write_markdown(verdicts, options.markdown)
    missed = any(v.verdict != "PASS" for v in verdicts if v.setting == "main")
    return int(options.strict and missed)


def _export(options: argparse.Namespace) -> int:
    from aegaeon.results.commands import export_command

    export_command(options.names, options.runs, options.stored, replace=options.replace)
    return 0


def _import(options: argparse.Namespace) -> int:
    from aegaeon.results.commands import import_command

    count = import_command(options.stored, options.tracking, options.runs)
    Console().print(f"{count} runs new in MLflow; `aegaeon mlflow` shows them", highlight=False)
    return 0


def _diff(options: argparse.Namespace) -> int:
    from aegaeon.results.commands import diff_command

    return int(not diff_command(options.names, options.runs, options.stored, rtol=options.rtol))


def _sync(options: argparse.Namespace) -> int:
    from aegaeon.results.commands import sync_command

    count = sum(sync_command(name, options.runs, options.tracking) for name in options.names)
    Console().print(f"{count} runs new in MLflow", highlight=False)
    return 0


def _rehash(options: argparse.Namespace) -> int:
    from aegaeon.experiment.points import points
    from aegaeon.results.rehash import rehash_command

    return 0 if rehash_command(options.runs, options.stored, points) else 2


def _columns(options: argparse.Namespace) -> int:
    from aegaeon.results.commands import columns_text

    Console().print(columns_text(), highlight=False, markup=False, soft_wrap=True)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from aegaeon.experiment.reproduce import reproduce

    return reproduce(options.names, options.stored, everything=options.all)


def _validate(options: argparse.Namespace) -> int:
    from aegaeon.experiment.artifact_check import validate

    validate(options.data)
    return 0


def _mlflow(options: argparse.Namespace) -> int:
    database = RUNS / "mlflow.db"
    if not database.exists():
        raise UserError(
            f"{database}: no runs yet; `aegaeon results import` loads the stored ones, "
            "`aegaeon run` makes new ones"
        )
    server = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    server += ["--backend-store-uri", f"sqlite:///{database}", "--port", str(options.port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    Console().print(f"MLflow at http://localhost:{options.port} (Ctrl-C ends it)")
    return subprocess.call(server, env=os.environ | quiet)


def _cluster(options: argparse.Namespace) -> int:
    from aegaeon.live.ray.launcher import (
        carry_out,
        check_port,
        share_token,
        start_lines,
        stop_lines,
    )

    def say(host: str, line: str) -> None:
        Console().print(f"{host}: {line}", highlight=False, markup=False, soft_wrap=True)

    hosts, setup = options.hosts, options.setup
    if options.stop:
        lines = stop_lines(hosts)
    else:
        lines = start_lines(hosts, options.slots, not options.cpu, options.port)
    if not options.run:
        for host, line in lines:
            say(host, line)
    elif options.stop:
        carry_out(lines, say, setup)
    else:
        check_port(hosts[0], options.port)
        carry_out(lines[:1], say, setup)
        share_token(hosts, setup)
        carry_out(lines[1:], say, setup)
    return 0


def _profile(options: argparse.Namespace) -> int:
    from aegaeon.experiment.profile import profile

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    profile(options.overrides, options.out, options.repeats)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from aegaeon.doctor import doctor

    return doctor(as_json=options.json, clean=options.clean)


def _bench(options: argparse.Namespace) -> int:
    from aegaeon.bench import bench

    return bench(large=options.large)


if __name__ == "__main__":
    sys.exit(main())
