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
def figures(names: tuple[str, ...], out: Path | None, no_presets: bool, stored: Path) -> int:
    """Draw figures from stored results, and from nothing else.

    The same results give the same bytes. A figure whose tables are not stored or cannot be used is
    left out with its reason. The exit code is then 2 for a figure that was named, else 0.
    """
    from figures.render import render

    _check(stored)
    place = out or (FIGURES if is_reference(stored) else stored / "figures")
    drawn = render(names, stored, place, presets=not no_presets)
    if len(names) == 1 and drawn.left:
        raise drawn.left[names[0]]
    click.echo(f"{len(drawn.paths)} files in {place}")
    for line in drawn.reasons:
        click.echo(f"left out {line}", err=bool(names))
    return 2 if names and drawn.left else 0


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
    what = "table in" if stored.is_dir() else "folder"
    if not any(stored.glob("*.parquet")):
        raise UserError(
            f"--stored: no {what} {stored}; give a folder of tables, as `aegaeon results export` "
            "writes it"
        )
