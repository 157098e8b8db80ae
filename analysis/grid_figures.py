"""What the factors of a grid do: main effects and two-way interactions. Each takes and returns an axis.

Factors and their levels are design's, as in the table of factors; a level's mean is over all rows of the
complete grid that have it, within each pair.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from analysis import stats, style
from analysis.design import VARIANT, design
from analysis.design import short as short_settings
from analysis.style import COLUMN_INCHES, finish, short
from analysis.wording import metric_scale, metric_title

MOST_LEVELS = 12  # whose names one panel has room for


class Grid(NamedTuple):
    """levels: rows x factors, each level as text, every combination once. pairs: pairs x rows, the metric."""

    levels: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def factors(self) -> list[str]:
        return list(self.levels.columns)

    def across(self, factor: str) -> list[str]:
        """Its levels: numbers in their order, others as the file has them."""
        found = list(dict.fromkeys(self.levels[factor]))
        try:
            return sorted(found, key=float)
        except ValueError:
            return found

    def means(self, *over: str) -> pd.DataFrame:
        """Pairs x levels of one factor, or x (level, level) of two: means over the rows that have them."""
        by = [self.levels[name] for name in over]
        return self.pairs[list(self.levels.index)].T.groupby(by[0] if len(by) == 1 else by).mean().T

    def name(self, factor: str) -> str:
        return short_settings(self.factors)[factor]


def crossed(frame: pd.DataFrame, plan: Mapping[str, Any], metric: str) -> Grid | None:
    """The complete grid of the plan's rows that have results; None where nothing is crossed. The pairs are
    those for which every row of the grid has a result: there may be none yet."""
    every = stats.per_pair(frame, metric, plan["unit"])
    found = design(plan, list(every.columns[every.notna().any()]))
    if found is None:
        return None
    return Grid(found.levels, stats.per_pair(frame, metric, plan["unit"], common=list(found.levels.index)))


def main_effect(grid: Grid, factor: str, metric: str, ax: Axes | None = None) -> Axes:
    """Mean and 95 % t interval over pairs at each level of one factor, the other factors averaged."""
    ax = _axes() if ax is None else ax
    names = grid.across(factor)
    pairs = metric_scale(metric) * grid.means(factor)[names]
    bounds = np.array([stats.interval(pairs[level].to_numpy()) for level in names])
    places = np.arange(len(names))
    ax.vlines(places, bounds[:, 0], bounds[:, 1], color="black", linewidth=1)
    ax.plot(places, pairs.mean(), "D", color="black", markersize=3.5)
    return _levels_axis(ax, names, grid.name(factor), metric)


def interaction(
    grid: Grid,
    over: tuple[str, str],
    metric: str,
    colours: Mapping[str, Any],
    ax: Axes | None = None,
) -> Axes:
    """Means at each two levels: the first factor across, a line a level of the second, 95 % t intervals.

    `colours`: of variants, where they are the lines.
    """
    ax = _axes() if ax is None else ax
    first, second = over
    pairs = metric_scale(metric) * grid.means(first, second)
    across, lines = grid.across(first), grid.across(second)
    graded = sns.color_palette("viridis", len(lines) + 1)  # the last is too pale for a line
    for i, line in enumerate(lines):
        found = pairs.xs(line, axis=1, level=second)[across]
        bounds = np.array([stats.interval(found[level].to_numpy()) for level in across])
        x = np.arange(len(across)) + 0.3 * ((i + 0.5) / len(lines) - 0.5)
        colour, dashes = colours[line] if second == VARIANT else graded[i], style.dashes(i)
        ax.vlines(x, bounds[:, 0], bounds[:, 1], color=colour, linewidth=0.8)
        ax.plot(x, found.mean(), color=colour, dashes=dashes, marker="o", ms=3, lw=1.1, label=short(line, 20))
    ax.legend(
        title=short(grid.name(second), 26),
        title_fontsize=style.SMALL_POINTS,
        loc="lower center",  # on top: names of levels may hang down far
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        frameon=False,
    )
    return _levels_axis(ax, across, grid.name(first), metric)


def _levels_axis(ax: Axes, names: Sequence[str], factor: str, metric: str) -> Axes:
    every = -(-len(names) // MOST_LEVELS)
    steep = sum(map(len, names[::every])) > 24
    ax.set_xticks(
        range(0, len(names), every),
        [short(name, 20) for name in names[::every]],
        rotation=40 if steep else 0,
        ha="right" if steep else "center",
        rotation_mode="anchor",
    )
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel(metric_title(metric))
    return finish(ax, xlabel=factor)


def _axes() -> Axes:
    return plt.subplots(figsize=(COLUMN_INCHES, 2.6), layout="constrained")[1]
