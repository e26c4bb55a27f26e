"""What seaborn draws is what the stored rows say: means, ranges, shares, CDFs."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import sweep
from figures import draw, fig14
from figures.distributions import parts, setups
from figures.style import MAIN, SERIES, look


def test_curves_are_means_of_the_seeds_and_bands_their_range(stored):
    data = sweep(load_stored("fig11a", stored), "fig11a")
    (ax,) = draw("fig11a", stored, presets=False).axes
    curves = {line.get_color(): line for line in ax.lines if len(line.get_xdata()) > 4}
    bands = {to_hex(band.get_facecolor()[0]).upper(): band for band in ax.collections}
    assert set(bands) == {look(name).colour for name in MAIN}
    for name in MAIN:
        runs = data.runs[data.runs["system"] == name].groupby("num_models")["slo_attainment"]
        colour = look(name).colour
        assert curves[colour].get_ydata() == pytest.approx(100 * runs.mean().to_numpy())
        corners = pd.DataFrame(bands[colour].get_paths()[0].vertices).groupby(0)[1]
        assert corners.min().to_numpy() == pytest.approx(100 * runs.min().to_numpy())
        assert corners.max().to_numpy() == pytest.approx(100 * runs.max().to_numpy())


def test_bars_of_figure_14_are_shares_of_all_time(stored):
    ax = draw("fig14", stored).axes[0]
    groups = setups(parts("requests", stored)[0].lines)
    assert [label.get_text() for label in ax.get_xticklabels()] == [name for name, _ in groups]
    for bars, column in zip(ax.containers, fig14.PARTS, strict=True):
        sums = [fig14.seconds(lines).sum() for _, lines in groups]
        heights = [bar.get_height() for bar in bars]
        assert heights == pytest.approx([total[column] / total.sum() for total in sums])


def test_cdfs_count_the_values_up_to_x(stored):
    ax = draw("fig15b", stored).axes[0]
    groups = setups(parts("requests", stored)[0].lines)
    curves = {line.get_color(): line for line in ax.lines}
    for colour, (_, lines) in zip(SERIES, groups, strict=False):
        x, y = curves[colour].get_xdata()[1:], curves[colour].get_ydata()[1:]
        assert x == pytest.approx(sorted(lines["data_s"]))
        assert y == pytest.approx([100 * (rank + 1) / len(x) for rank in range(len(x))])
