"""Curves of rows: over epochs, and over the strength of a disturbance. Each takes and returns an axis."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis import stats
from analysis.style import (
    COLUMN_INCHES,
    FONT_POINTS,
    SMALL_POINTS,
    finish,
    folded,
    legend_columns,
    marks,
    palette,
)
from analysis.wording import metric_scale, metric_title

ROBUST = re.compile(r"robust/([^/]+)/([^/]+)/macro_f1")
UNDISTURBED = "test/macro_f1"
LEVELS = {
    "noise": "deviation of noise, in the channel's own",
    "scale": "part by which the gain is off",
    "rotation": "rotation in degrees",
    "dropped": "part of steps that never arrive",
}


def learning_curves(
    curves: pd.DataFrame,
    plan: Mapping[str, Any],
    ax: Axes | None = None,
    metric: str = "val/macro_f1",
    rows: Sequence[str] | None = None,
    legend: bool = True,
    beside: str | None = None,
) -> Axes:
    """`metric` per epoch and row: mean over pairs, seeds averaged within a fold, with a band of one sd.

    `curves` is load.curves'. Rows that log no epochs (the statistics baseline) have no curve; where trials
    stop early, the later epochs rest on fewer pairs. `beside`: a row whose mean to draw in grey as well.
    """
    names = list(palette(plan)) if rows is None else list(rows)
    ax = _axes(2.3 + 0.08 * len(names)) if ax is None else ax
    present: list[str] = []
    if metric in curves:
        lines = curves.assign(value=metric_scale(metric) * curves[metric]).dropna(subset=["value"])
        keys = ["row", plan["unit"], "epoch"]
        lines = lines.groupby(keys, dropna=False)[["value"]].mean().reset_index()
        present = [name for name in names if name in set(lines["row"])]
        if beside is not None:
            grey = lines[lines["row"] == beside].groupby("epoch")["value"].mean()
            ax.plot(grey.index, grey, color="0.6", linewidth=0.8, zorder=0.5)
        lines = lines[lines["row"].isin(present)]
    if present:
        looks = marks(plan, present)
        sns.lineplot(
            lines,
            x="epoch",
            y="value",
            hue="row",
            style="row",
            hue_order=present,
            style_order=present,
            palette={name: colour for name, (colour, _) in looks.items()},
            dashes={name: dashes if len(present) > 1 else () for name, (_, dashes) in looks.items()},
            errorbar="sd",
            err_kws={"alpha": 0.12, "linewidth": 0},
            linewidth=1.2,
            legend="full" if legend else False,
            ax=ax,
        )
        if legend:
            _legend(ax, present)
    else:
        ax.text(
            0.5, 0.5, f"no trial logged {metric}", ha="center", fontsize=FONT_POINTS, transform=ax.transAxes
        )
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_ylabel(metric_title(metric), fontsize=FONT_POINTS)
    return finish(ax, xlabel="epoch")


def strengths(frame: pd.DataFrame) -> dict[str, list[tuple[float, str]]]:
    """Kind of disturbance -> its strengths and the metric of each, from none (`UNDISTURBED`) upwards."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name in frame.columns:
        if (match := ROBUST.fullmatch(str(name))) and frame[name].notna().any():
            found.setdefault(match.group(1), [(0.0, UNDISTURBED)]).append((float(match.group(2)), str(name)))
    return {
        kind: sorted(found[kind]) for kind in [*LEVELS, *sorted(set(found) - set(LEVELS))] if kind in found
    }


def robustness(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    kind: str,
    ax: Axes | None = None,
    rows: Sequence[str] | None = None,
    legend: bool = True,
) -> Axes:
    """Test macro-F1 against the strength of a disturbance: mean over pairs and 95 % t interval of each row.

    Over the trials that were evaluated at every strength. Rows stand side by side at a strength, lest their
    intervals hide each other; the axis is in steps, not to scale.
    """
    metrics = [name for _, name in strengths(frame)[kind]]
    whole = frame[frame[metrics].notna().all(axis=1)]
    names = [row for row in (palette(plan) if rows is None else rows) if row in set(whole["row"])]
    ax = _axes(2.4 + 0.08 * len(names)) if ax is None else ax
    numbers = [100 * stats.summary(whole, name, plan["unit"])[["mean", "low", "high"]] for name in metrics]
    places, looks = np.arange(len(metrics)), marks(plan, names)
    for i, row in enumerate(names):
        mean, low, high = np.array([table.loc[row] for table in numbers]).T
        x = places + 0.5 * ((i + 0.5) / len(names) - 0.5)
        colour, dashes = looks[row]
        ax.plot(x, mean, color=colour, linewidth=1.1, dashes=dashes, marker="o", ms=2.5, label=folded(row))
        ax.vlines(x, low, high, color=colour, linewidth=0.7)
    ax.set_xticks(places, [f"{strength:g}" for strength, _ in strengths(frame)[kind]])
    ax.set_ylabel(metric_title(UNDISTURBED), fontsize=FONT_POINTS)
    if legend:
        _legend(ax, names)
    return finish(ax, xlabel=LEVELS.get(kind, kind))


def _legend(ax: Axes, names: Sequence[str]) -> None:
    """Below the axis, in two columns where the names leave room."""
    handles, _ = ax.get_legend_handles_labels()
    ax.legend(
        handles,
        [folded(name) for name in names],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=legend_columns(names),
        fontsize=SMALL_POINTS,
        frameon=False,
    )


def _axes(height_inches: float) -> Axes:
    return plt.subplots(figsize=(COLUMN_INCHES, height_inches), layout="constrained")[1]
