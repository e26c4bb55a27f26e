"""What all commands share: help with examples, one line per error, exit codes."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from aegaeon.cli import cli
from aegaeon.errors import UserError

ROOT = Path(__file__).parents[2]
PLACES = {
    "": "run figures claims reproduce results mlflow "
    "profile bench workload validate cluster doctor",
    "results": "export import diff sync rehash columns",
    "profile": "measure fit roofline",
    "bench": "sim live memory kernels",
    "workload": "lengths describe generate",
}
MISTAKES = [
    ("figurs", "no such command 'figurs'. Did you mean 'figures'? See `aegaeon --help`."),
    ("bench simm", "no such command 'simm'. Did you mean 'sim'? See `aegaeon bench --help`."),
    ("figures --ouut x", "no such option '--ouut'. Did you mean '--out'?"),
    ("results diff", "missing argument 'EXPERIMENT...'. See `aegaeon results diff --help`."),
    ("results diff fig11a --rtol -1", "invalid value for '--rtol': -1.0 is not in the range"),
    ("figures nope", "unknown figure nope; known: overview"),
]


def commands(group, path=()):
    """Return the words and the command of every leaf below a group."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield (*path, name), command


ALL = {" ".join(path): command for path, command in commands(cli)}


def test_the_tree_holds_every_entry_point():
    for place, names in PLACES.items():
        group = ALL[place] if place else cli
        assert " ".join(group.list_commands(click.Context(group))) == names


@pytest.mark.parametrize("words", sorted(ALL))
def test_every_command_has_help_with_examples(words, aegaeon):
    if words == "run":
        pytest.skip("its help is Hydra's")
    shown = aegaeon(*words.split(), "--help")
    assert shown.exit_code == 0
    assert "Examples:\n    aegaeon " in shown.stdout
    assert ALL[words].get_short_help_str(62).endswith(".")
    assert "..." not in ALL[words].get_short_help_str(62)


def test_options_have_help_and_defaults():
    for words, command in ALL.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (words, option.name)
    figures = ALL["figures"].get_help(click.Context(ALL["figures"], show_default=True))
    assert "[default: (runs/stored)]" in figures
    export = ALL["results export"].get_help(click.Context(ALL["results export"], show_default=True))
    assert "[default: (runs/tables)]" in export


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, aegaeon):
    done = aegaeon(*arguments.split())
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_group_alone_shows_its_help(aegaeon):
    done = aegaeon("bench")
    assert done.exit_code == 2
    assert "Usage: aegaeon bench" in done.stderr


def test_errors_that_are_no_mistake_keep_their_traceback(monkeypatch, aegaeon):
    def broken(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(ALL["doctor"], "callback", broken)
    assert isinstance(aegaeon("doctor").exception, ZeroDivisionError)


def test_a_users_error_is_red_on_a_terminal(monkeypatch, capsys):
    def mistaken(**_):
        raise UserError("key: expected 1, got 2; set 1")

    monkeypatch.setattr(ALL["doctor"], "callback", mistaken)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor"], color=True)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip() == "error: key: expected 1, got 2; set 1"


@pytest.mark.parametrize("start", ["-m aegaeon", "-c from\taegaeon.cli\timport\tmain;main()"])
def test_the_module_and_the_script_are_the_same_command(start):
    command = [sys.executable, *start.split(" "), "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0\n"
