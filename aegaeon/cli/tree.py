"""What all groups of commands share: order, look of the help, and how an error is reported."""

from __future__ import annotations

import sys
from typing import Any

import click

from aegaeon.errors import UserError
from aegaeon.files import of_place

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
USER_ERROR = 2


class Tree(click.Group):
    """A group of commands, listed in the order in which they are used."""

    # Groups made by a Tree are Trees.
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return list(self.commands)

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401
        """Run a command and exit with the code that it returns; None counts as 0.

        A mistake of the user's (UserError, or arguments that click refuses) is one line on stderr
        and exit code 2. So is a disk or a folder that refuses a file.
        """
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.UsageError as error:
            code = report(_with_hint(error))
        except UserError as error:
            code = report(str(error))
        except OSError as error:
            if (reason := of_place(error)) is None:
                raise
            code = report(reason)
        sys.exit(code or 0)


def examples(*lines: str) -> str:
    """Return an epilog that shows each example on a line of its own."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def report(message: str) -> int:
    """Print an error of the user's on stderr, and return the exit code."""
    click.secho(f"error: {message}", fg="red", err=True)
    return USER_ERROR


def _with_hint(error: click.UsageError) -> str:
    message = error.format_message()
    hint = f" See `{error.ctx.command_path} --help`." if error.ctx else ""
    return f"{message[:1].lower()}{message[1:]}{hint}"
