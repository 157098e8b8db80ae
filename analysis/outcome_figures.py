"""How well rows do: points and intervals, differences in pairs, F1 by class, confusions.

Each figure takes and returns an axis. `frame` is load.frame's, `plan` load.plan's; a pair is a fold or a
seed, as stats.per_pair has it. `rows`: those to draw, in order; by default all of the plan's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from analysis import stats
from analysis.style import (
    COLUMN_INCHES,
    SMALL_POINTS,
    finish,
    folded,
    heat_map,
    legend_columns,
    marks,
    palette,
    within,
)
from analysis.wording import metric_scale, metric_title

LINKED_ROWS = 8  # lines that link a pair across more rows than these hide the points
LINKED_PAIRS = 12
DOT_ROWS = 5
DOTS = 60


def strip_and_interval(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    ax: Axes | None = None,
    metric: str = "test/macro_f1",
    rows: Sequence[str] | None = None,
) -> Axes:
    """A point per pair, the mean with its 95 % t interval below, and a line at the reference's mean.

    A pair keeps its height within every row, so that it can be followed; among up to eight rows a thin line
    links it.
    """
    rows = list(palette(plan)) if rows is None else list(rows)
    ax = _axes(0.7 + 0.32 * len(rows)) if ax is None else ax
    scale = metric_scale(metric)
    pairs = scale * stats.per_pair(frame, metric, plan["unit"]).reindex(columns=rows)
    _strip(ax, pairs, palette(plan))
    numbers = scale * stats.summary(frame, metric, plan["unit"]).reindex(rows)[["mean", "low", "high"]]
    _intervals(ax, numbers.to_numpy())
    if plan.get("reference") in rows:
        reference = numbers.loc[plan["reference"], "mean"]
        ax.axvline(reference, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    within(ax, scale)
    return _rows_axis(ax, rows, metric_title(metric))


def paired_differences(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    ax: Axes | None = None,
    metric: str = "test/macro_f1",
    rows: Sequence[str] | None = None,
) -> Axes:
    """Each row minus the reference: a point per pair, the mean and its 95 % t interval below, a line at zero.

    As in the table, over the cells that both rows have. Raises ValueError for a plan without a reference.
    """
    if plan.get("reference") is None:
        raise ValueError("expected a plan with a reference, found none")
    rows = list(palette(plan)) if rows is None else list(rows)
    ax = _axes(0.7 + 0.32 * len(rows)) if ax is None else ax
    scale, reference = metric_scale(metric), plan["reference"]
    columns, intervals = {}, []
    for row in rows:
        pair = stats.per_pair(frame, metric, plan["unit"], common=list(dict.fromkeys([row, reference])))
        columns[row] = scale * (pair[row] - pair[reference]) if row != reference else pair[row] * np.nan
        found = stats.difference(pair[row], pair[reference])
        known = [found.mean, found.low, found.high] if row != reference else [None] * 3
        intervals.append([np.nan if value is None else scale * value for value in known])
    _strip(ax, pd.DataFrame(columns).reindex(columns=rows), palette(plan), linked=False)
    _intervals(ax, np.array(intervals, dtype=float))
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    other = reference if len(reference) <= 18 else "the reference"
    return _rows_axis(ax, rows, f"difference to {other}" + (" in points" if scale == 100 else ""))


def per_class_f1(
    classes: pd.DataFrame, plan: Mapping[str, Any], ax: Axes | None = None, rows: Sequence[str] | None = None
) -> Axes:
    """F1 of each class, mean over pairs: dots with 95 % t intervals for few rows, else a heat map.

    `classes` is load.per's by class.
    """
    rows = list(palette(plan)) if rows is None else list(rows)
    ax = _axes(3.0) if ax is None else ax
    pairs = (
        classes.groupby(["row", "class", plan["unit"]], dropna=False, sort=False)["value"].mean().sort_index()
    )
    names = list(dict.fromkeys(classes["class"]))
    mean = 100 * pairs.groupby(level=["row", "class"]).mean().unstack("class").reindex(rows)[names]
    if not dotted(len(rows), len(names)):
        lowest = mean.min().min()
        inside = np.where(mean.isna(), "", mean.round().fillna(0).astype(int).astype(str))
        return heat_map(
            ax,
            mean.to_numpy(),
            rows,
            names,
            "F1 in percent",
            0 if np.isnan(lowest) else min(10 * np.floor(lowest / 10), 90),
            100,
            "Blues",
            cells=inside if len(names) <= 18 else None,
        )
    looks = marks(plan, rows, dashed=False)
    for i, row in enumerate(rows):
        offset = 0.7 * ((i + 0.5) / len(rows) - 0.5)
        for j, name in enumerate(names):
            if (row, name) not in mean.stack().index:
                continue
            low, high = stats.interval(100 * pairs[row, name].dropna().to_numpy())
            ax.plot([low, high], [j + offset] * 2, color=looks[row][0], linewidth=1)
        ax.plot(
            mean.loc[row],
            np.arange(len(names)) + offset,
            "o",
            markersize=3.5,
            color=looks[row][0],
            label=folded(row),
        )
    for j in range(1, len(names)):
        ax.axhline(j - 0.5, color="0.9", linewidth=0.6, zorder=0)
    across = legend_columns(rows)  # long names end where the axis ends, lest they leave the page
    at = (0.5, 1.0) if across > 1 else (1.0, 1.0)
    ax.legend(
        loc="lower center" if across > 1 else "lower right", bbox_to_anchor=at, ncols=across, frameon=False
    )
    within(ax, 100)
    return _rows_axis(ax, names, "F1 in percent")


def dotted(rows: int, classes: int) -> bool:
    """Whether per_class_f1 has room for dots."""
    return rows <= DOT_ROWS and rows * classes <= DOTS


def confusion(matrix: np.ndarray, classes: Sequence[str], ax: Axes | None = None, bar: bool = True) -> Axes:
    """A confusion matrix (true classes x predicted, windows) in percent of each true class's windows."""
    ax = _axes(3.0) if ax is None else ax
    totals = matrix.sum(1, keepdims=True)
    percent = 100 * matrix / np.where(totals == 0, 1, totals)
    percent = np.where(totals == 0, np.nan, percent)
    rounded = np.where(np.isnan(percent), 0, percent).round().astype(int)
    cells = np.where((matrix == 0), "", np.where(rounded == 0, "<1", rounded.astype(str)))
    few = len(classes) <= 14
    inside, label = cells if few else None, "percent of the true class"
    heat_map(ax, percent, classes, classes, label, 0, 100, "Blues", inside, bar)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


def _strip(ax: Axes, pairs: pd.DataFrame, colours: Mapping[str, Any], linked: bool = True) -> None:
    """`pairs` (pairs x rows) as points, a line of the axis a row."""
    rows = list(pairs.columns)
    heights = [0.3 * i / max(len(pairs) - 1, 1) - 0.35 for i in range(len(pairs))]
    points = pd.concat(
        pd.DataFrame({"row": row, "x": pairs[row].to_numpy(), "y": [i + h for h in heights]})
        for i, row in enumerate(rows)
    ).dropna()
    if points.empty:
        return
    if linked and 1 < len(rows) <= LINKED_ROWS and 1 < len(pairs) <= LINKED_PAIRS:
        for values, height in zip(pairs.to_numpy(), heights, strict=True):
            ax.plot(values, np.arange(len(rows)) + height, color="0.8", linewidth=0.5, zorder=0.5)
    sns.scatterplot(
        points,
        x="x",
        y="y",
        hue="row",
        palette={row: colours[row] for row in rows},
        s=14 if len(pairs) <= 30 else 6,
        alpha=0.8,
        legend=False,
        ax=ax,
    )


def _intervals(ax: Axes, numbers: np.ndarray) -> None:
    """`numbers`: mean, low, high of each row."""
    for i, (mean, low, high) in enumerate(numbers):
        ax.plot([low, high], [i + 0.15] * 2, color="black", linewidth=1)
        ax.plot([mean], [i + 0.15], marker="D", markersize=3, color="black")


def _rows_axis(ax: Axes, rows: Sequence[str], xlabel: str) -> Axes:
    ax.set_yticks(range(len(rows)), labels=[folded(row) for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_ylabel("")
    finish(ax, xlabel=xlabel)
    ax.tick_params(axis="y", labelsize=SMALL_POINTS)
    return ax


def _axes(height_inches: float) -> Axes:
    return plt.subplots(figsize=(COLUMN_INCHES, height_inches), layout="constrained")[1]
