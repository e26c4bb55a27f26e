"""Colours, markers and names: one fixed look per system, safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer

STYLE_FILE = Path(__file__).with_name("aegaeon.mplstyle")
GREY = "#777777"
INK = "#333333"
NOTE_SIZE = 6.8
LABEL_SIZE = 8.0
ROW_SIZE = 7.6
# seaborn's errorbar from the least to the largest value of the seeds, as a pale band.
OVER_SEEDS: dict[str, Any] = {"errorbar": ("pi", 100), "err_kws": {"linewidth": 0}}
# seaborn's bars in exactly the given colour, without a legend or an interval.
BARS: dict[str, Any] = {"saturation": 1.0, "linewidth": 0, "legend": False, "errorbar": None}


@dataclass(frozen=True, slots=True)
class Look:
    """Label, colour, marker and dashes of a system; a preset has its system's colour and dashes."""

    label: str
    colour: str
    marker: str
    dash: tuple[float, ...] = ()

    @property
    def is_preset(self) -> bool:
        """True for a variant of a system; variants are drawn thin and dashed."""
        return bool(self.dash)

    @property
    def size(self) -> float:
        """Font size of the label, in points."""
        return LABEL_SIZE - 1 if self.is_preset else LABEL_SIZE

    @property
    def ink(self) -> tuple[float, float, float]:
        """The colour darkened for text, RGB in [0, 1]."""
        red, green, blue = to_rgb(self.colour)
        return red * 0.8, green * 0.8, blue * 0.8


# Okabe and Ito's palette without yellow, as yellow is unreadable on white.
_VERMILION, _BLUE, _SKY, _GREEN = "#D55E00", "#0072B2", "#56B4E9", "#009E73"

LOOKS = {
    "aegaeon": Look("Aegaeon", _VERMILION, "o"),
    "serverlessllm": Look("ServerlessLLM", _BLUE, "s"),
    "serverlessllm_plus": Look("ServerlessLLM+ (oracle)", _SKY, "^"),
    "muxserve": Look("MuxServe", _GREEN, "D"),
    "aegaeon_3p13d": Look("3 + 13 instances", _VERMILION, "", (6, 1.5, 1, 1.5)),
    "aegaeon_artifact": Look("artifact’s rules", _VERMILION, "", (4, 2)),
    "aegaeon_no_prefetch": Look("no prefetch", _VERMILION, "", (1, 1.5)),
    "serverlessllm_paper": Look("authors’ setting", _BLUE, "", (4, 2)),
    "serverlessllm_plus_paper": Look("authors’ setting (oracle)", _SKY, "", (4, 2)),
    "muxserve_relaxed": Look("relaxed placement", _GREEN, "", (4, 2)),
}
MAIN = tuple(name for name, look in LOOKS.items() if not look.is_preset)

_PURPLE, _ORANGE = "#CC79A7", "#E69F00"
# Systems that are not in the paper's comparison.
OTHERS = {
    "sleep_mode": Look("Sleep mode, drain", _PURPLE, "v"),
    "sleep_mode_preempt": Look("Sleep mode, slices", _ORANGE, "P"),
    "sleep_mode_in_order": Look("strictly in order", _PURPLE, "", (4, 2)),
    "sleep_mode_level1": Look("weights copied out", _ORANGE, "", (4, 2)),
}

# Targets of one system (Fig. 17), hardest first.
TARGETS = {
    "strict": Look("strict", _BLUE, "s"),
    "normal": Look("normal", _VERMILION, "o"),
    "loose": Look("loose", _GREEN, "^"),
}
_VARIANTS = ((3, 1), (1, 1), (5, 1, 1, 1), (3, 1, 1, 1, 1, 1))
# One colour each for set-ups, sizes and block shapes, in order.
SERIES = (_BLUE, _VERMILION, _GREEN, "#CC79A7", _SKY, "#666666")


def look(curve: str) -> Look:
    """Return a curve's look; an unknown system is drawn in grey under its own name.

    A curve `system letter` is a variant of the system: dashed, with the letter in its label.
    """
    system, _, letter = curve.partition(" ")
    known = LOOKS | OTHERS | TARGETS
    own = known.get(system) or Look(system, GREY, "v")
    if not letter:
        return own
    return replace(own, label=f"{own.label} ({letter})", marker="", dash=_dash(letter))


def _dash(letter: str) -> tuple[float, ...]:
    return _VARIANTS[(ord(letter[-1]) - ord("a")) % len(_VARIANTS)]


def palette(systems: Iterable[str]) -> dict[str, str]:
    """Return the colour of every system, as seaborn's `palette`."""
    return {name: look(name).colour for name in systems}


def series(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for every set-up or size, in order, as seaborn's `palette`."""
    return dict(zip(names, cycle(SERIES)))


def ordered(systems: list[str], presets: bool) -> list[str]:
    """Return systems in the order of `LOOKS`, then unknown systems by name.

    Presets are left out unless `presets`.
    """
    rank = {name: position for position, name in enumerate((*LOOKS, *OTHERS, *TARGETS))}
    kept = [name for name in systems if presets or not look(name).is_preset]
    return sorted(kept, key=lambda name: (rank.get(name.partition(" ")[0], len(rank)), name))


def bars_of(ax: Axes) -> list[BarContainer]:
    """Return the bars on `ax`, one container per series."""
    return [bars for bars in ax.containers if isinstance(bars, BarContainer)]
