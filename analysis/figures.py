"""Two figures of a sweep, sized for one column of a two-column paper. Each takes and returns an axis.

A row has the same colour in both; the colours are seaborn's colour-blind safe ones, the two palest last.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis import stats
from analysis.wording import metric_scale, metric_title

COLUMN_INCHES = 3.4
FONT_POINTS = 8
PALE_LAST = [0, 1, 2, 3, 4, 5, 7, 9, 6, 8]
DASHES: list[tuple[float, ...]] = [(), (4, 1.5), (1, 1), (3, 1.25, 1, 1.25)]


def palette(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Row name -> colour. They repeat after ten rows; the dashes of learning_curves then tell rows apart."""
    colours = sns.color_palette("colorblind", 10)
    return {row["name"]: colours[PALE_LAST[i % 10]] for i, row in enumerate(plan["rows"])}


def strip_and_interval(
    frame: pd.DataFrame, plan: Mapping[str, Any], ax: Axes | None = None, metric: str = "test/macro_f1"
) -> Axes:
    """A point per pair, the mean with its 95 % t interval below, and a line at the reference's mean.

    `frame` is load.frame's. A pair keeps its height within every row, so that it can be followed.
    """
    rows = list(palette(plan))
    ax = _axes(0.7 + 0.32 * len(rows)) if ax is None else ax
    scale = metric_scale(metric)
    pairs = scale * stats.per_pair(frame, metric, plan["unit"]).reindex(columns=rows)
    spread = [0.3 * i / max(len(pairs) - 1, 1) for i in range(len(pairs))]
    points = pd.concat(
        pd.DataFrame({"row": row, "x": pairs[row], "y": [i - 0.35 + s for s in spread]})
        for i, row in enumerate(rows)
    ).dropna()
    sns.scatterplot(
        points, x="x", y="y", hue="row", palette=palette(plan), s=14, alpha=0.8, legend=False, ax=ax
    )
    numbers = scale * stats.summary(frame, metric, plan["unit"]).reindex(rows)[["mean", "low", "high"]]
    for i, (mean, low, high) in enumerate(numbers.to_numpy()):
        ax.plot([low, high], [i + 0.15] * 2, color="black", linewidth=1)
        ax.plot([mean], [i + 0.15], marker="D", markersize=3, color="black")
    if plan.get("reference") is not None:
        ax.axvline(
            numbers.loc[plan["reference"], "mean"], color="0.5", linewidth=0.8, linestyle="--", zorder=0
        )
    ax.set_yticks(range(len(rows)), labels=rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_ylabel("")
    return _finish(ax, xlabel=metric_title(metric))


def learning_curves(
    curves: pd.DataFrame, plan: Mapping[str, Any], ax: Axes | None = None, metric: str = "val/macro_f1"
) -> Axes:
    """`metric` per epoch and row: mean over pairs, seeds averaged within a fold, with a band of one sd.

    `curves` is load.curves'. Rows that log no epochs (the statistics baseline) have no curve; where trials
    stop early, the later epochs rest on fewer pairs.
    """
    names = list(palette(plan))
    ax = _axes(2.3 + 0.08 * len(names)) if ax is None else ax
    if metric in curves:
        lines = curves.assign(value=metric_scale(metric) * curves[metric]).dropna(subset=["value"])
        keys = ["row", plan["unit"], "epoch"]
        lines = lines.groupby(keys, dropna=False)[["value"]].mean().reset_index()
        present = [name for name in names if name in set(lines["row"])]
        sns.lineplot(
            lines,
            x="epoch",
            y="value",
            hue="row",
            style="row",
            hue_order=present,
            style_order=present,
            palette={name: palette(plan)[name] for name in present},
            dashes={name: DASHES[names.index(name) % len(DASHES)] for name in present},
            errorbar="sd",
            err_kws={"alpha": 0.12, "linewidth": 0},
            linewidth=1.2,
            ax=ax,
        )
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2, fontsize=FONT_POINTS - 1, frameon=False
        )
    else:
        ax.text(
            0.5, 0.5, f"no trial logged {metric}", ha="center", fontsize=FONT_POINTS, transform=ax.transAxes
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(metric_title(metric), fontsize=FONT_POINTS)
    return _finish(ax, xlabel="epoch")


def _axes(height_inches: float) -> Axes:
    return plt.subplots(figsize=(COLUMN_INCHES, height_inches), layout="constrained")[1]


def _finish(ax: Axes, xlabel: str) -> Axes:
    ax.set_xlabel(xlabel, fontsize=FONT_POINTS)
    ax.tick_params(labelsize=FONT_POINTS)
    sns.despine(ax=ax)
    # Drawing changes the tick labels, and constrained layout makes room for those it saw last.
    if (figure := ax.get_figure(root=True)) is not None:
        figure.draw_without_rendering()
    return ax
