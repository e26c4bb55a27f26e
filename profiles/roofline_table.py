"""The table of errors in `profiles/README.md`: of each fit, and of the roofline against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from aegaeon.errors import UserError
from aegaeon.files import write_text
from profiles.store import Profile

MARK = "<!-- errors -->"


def error_table(scored: Iterable[tuple[Profile, Mapping[str, float]]]) -> str:
    """Return a Markdown table with a row per fit and the roofline's held-out errors there."""
    head = "device | model | tp | points | fit: prefill | fit: decode"
    lines = [f"| {head} | roofline: prefill | roofline: decode |", "|---" * 8 + "|"]
    for fit, score in scored:
        cells = [fit.device, fit.model, str(fit.tp), str(fit.prefill_quality.points)]
        for quality in (fit.prefill_quality, fit.decode_quality):
            cells.append(_cell(quality.held_out_median_error, quality.held_out_p90_error))
        for phase in ("prefill", "decode"):
            cells.append(_cell(score[f"{phase}_median_error"], score[f"{phase}_p90_error"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(median: float, p90: float) -> str:
    return f"{100 * median:.1f} / {100 * p90:.1f}"


def update_readme(readme: Path, table: str) -> None:
    """Put `table` between the two `<!-- errors -->` marks of `readme`."""
    parts = readme.read_text(encoding="utf-8").split(MARK)
    if len(parts) != 3:
        raise UserError(f"{readme} needs two lines `{MARK}` with the table between; restore them")
    write_text(f"{MARK}\n{table}\n{MARK}".join(parts[::2]), readme)
