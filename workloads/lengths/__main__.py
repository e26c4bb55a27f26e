"""Command line: `python -m workloads.lengths fit CSV... -o FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aegaeon.errors import UserError
from workloads.lengths.fit import fit


def main(argv: Sequence[str] | None = None) -> int:
    """Fit a table and print its size; return the exit code, 2 on a user's error."""
    parser = argparse.ArgumentParser(prog="python -m workloads.lengths")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("fit", help="fit a length table to artifact CSVs")
    command.add_argument("csv", nargs="+", type=Path, help="trace in the artifact's format")
    command.add_argument("-o", "--output", required=True, type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    try:
        table = fit(options.csv)
        table.save(options.output)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    means = f"mean input {table.input_mean}, mean output {table.output_mean}"
    print(f"{options.output}: {table.n} draws, {means}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
