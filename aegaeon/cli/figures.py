"""`aegaeon figures` and `claims`: what is read from the stored results."""

from __future__ import annotations

from pathlib import Path

import click

from aegaeon.cli.options import FILE, path_option, stored_option
from aegaeon.cli.tree import examples
from aegaeon.errors import UserError
from aegaeon.paths import FIGURES, RUNS


@click.command(
    epilog=examples(
        "aegaeon figures                          every figure that has stored results",
        "aegaeon figures fig11a overview          two of them",
        "aegaeon figures --out mine --no-presets  without the thin curves of the authors' settings",
    )
)
@click.argument("names", metavar="[FIGURE]...", nargs=-1)
@path_option("--out", default=FIGURES, text="Folder for the PDF and PNG files.")
@click.option("--no-presets", is_flag=True, help="Leave the thin curves out.")
@stored_option
def figures(names: tuple[str, ...], out: Path, no_presets: bool, stored: Path) -> None:
    """Draw figures from stored results, and from nothing else.

    The same results give the same bytes.
    """
    from figures.render import render

    paths = render(names, stored, out, presets=not no_presets)
    click.echo(f"{len(paths)} files in {out}")


@click.command(
    epilog=examples(
        "aegaeon claims                              print the verdicts",
        "aegaeon claims --markdown docs/claims.md    put the table into the document too",
    )
)
@path_option("--json", "json_path", default=RUNS / "claims.json", text="File for the verdicts.")
@click.option("--markdown", type=FILE, help="Document whose table of claims is replaced.")
@click.option("--strict", is_flag=True, help="Exit with 1 unless every main claim passes.")
@stored_option
def claims(json_path: Path, markdown: Path | None, strict: bool, stored: Path) -> int:
    """Judge the paper's claims on the stored results.

    `PASS` and `MISS` say whether a claim holds here; docs/claims.md explains every MISS.
    """
    from aegaeon.claims import check, print_table, write_json, write_markdown

    if not stored.is_dir():
        raise UserError(f"--stored: no folder {stored}; give a folder of stored tables")
    verdicts = check(stored)
    print_table(verdicts)
    write_json(verdicts, json_path)
    if markdown:
        write_markdown(verdicts, markdown)
    missed = any(v.verdict != "PASS" for v in verdicts if v.setting == "main")
    return int(strict and missed)
