"""`aegaeon figures` and `claims`: what is read from the stored results."""

from __future__ import annotations

from pathlib import Path

import click

from aegaeon.cli.options import FILE, stored_option
from aegaeon.cli.tree import examples
from aegaeon.errors import UserError
from aegaeon.paths import FIGURES, RUNS, is_reference

_OUT = "Folder for the PDF and PNG files.  [default: figures/out, or figures/ in your own --stored]"
_JSON = "File for the verdicts.  [default: runs/claims.json, or claims.json in your own --stored]"


@click.command(
    epilog=examples(
        "aegaeon figures                          every figure that has stored results",
        "aegaeon figures fig11a overview          two of them",
        "aegaeon figures --out mine --no-presets  without the thin curves of the authors' settings",
        "aegaeon figures --stored runs/tables     your own exported runs, to runs/tables/figures",
    )
)
@click.argument("names", metavar="[FIGURE]...", nargs=-1)
@click.option("--out", type=FILE, help=_OUT)
@click.option("--no-presets", is_flag=True, help="Leave the thin curves out.")
@stored_option
def figures(names: tuple[str, ...], out: Path | None, no_presets: bool, stored: Path) -> None:
    """Draw figures from stored results, and from nothing else.

    The same results give the same bytes. Without a name, figures are left out whose tables are not
    stored.
    """
    from figures.render import left_out, render

    _check(stored)
    place = out or (FIGURES if is_reference(stored) else stored / "figures")
    paths = render(names, stored, place, presets=not no_presets)
    click.echo(f"{len(paths)} files in {place}")
    if not names and (absent := left_out(paths)):
        click.echo(f"left out, as {stored} lacks a table: {', '.join(absent)}")


@click.command(
    epilog=examples(
        "aegaeon claims                              print the verdicts",
        "aegaeon claims --markdown docs/claims.md    put the table into the document too",
    )
)
@click.option("--json", "json_path", type=FILE, help=_JSON)
@click.option("--markdown", type=FILE, help="Document whose table of claims is replaced.")
@click.option("--strict", is_flag=True, help="Exit with 1 unless every main claim passes.")
@stored_option
def claims(json_path: Path | None, markdown: Path | None, strict: bool, stored: Path) -> int:
    """Judge the paper's claims on the stored results.

    `PASS` and `MISS` say whether a claim holds here; docs/claims.md explains every MISS.
    """
    from aegaeon.claims import check, print_table, write_json, write_markdown

    _check(stored)
    verdicts = check(stored)
    print_table(verdicts)
    write_json(verdicts, json_path or (RUNS if is_reference(stored) else stored) / "claims.json")
    if markdown:
        write_markdown(verdicts, markdown)
    missed = any(v.verdict != "PASS" for v in verdicts if v.setting == "main")
    return int(strict and missed)


def _check(stored: Path) -> None:
    if not stored.is_dir():
        raise UserError(
            f"--stored: no folder {stored}; give a folder of tables, as `aegaeon results export` "
            "writes it"
        )
