"""The pages of outcomes: what each figure of scores, classes, factors, epochs and disturbances shows.

A function takes a Source and returns what it drew, or raises Missing with the reason.
"""

from collections.abc import Collection, Sequence
from itertools import combinations

import pandas as pd

from analysis import grid_figures, stats, style
from analysis.curve_figures import UNDISTURBED, learning_curves, robustness, strengths
from analysis.outcome_figures import (
    confusion,
    dotted,
    paired_differences,
    per_class_f1,
    strip_and_interval,
)
from analysis.source import Drawn, Missing, Source
from analysis.wording import metric_scale, metric_title

MOST_PANELS, ACROSS = 9, 3
MOST_CURVES, TOGETHER = 20, 5
CURVES_ACROSS = 4
MOST_LINES = 6


def scores(source: Source) -> list[Drawn]:
    frame, plan, rows = source.done(), source.plan, source.shown()
    height, what = 0.7 + (0.32 if len(rows) <= 12 else 0.24) * len(rows), metric_title(source.metric)
    said = f"{source.pairs()}{source.fit(rows)}"
    reference = plan.get("reference")
    if reference is None or len(rows) < 2:
        figure = style.page(height, style.COLUMN_INCHES)
        strip_and_interval(frame, plan, figure.subplots(), source.metric, rows)
        text = f"{_upper(what)} of {source.sweep}: pairs, mean and 95 % t interval. {said}"
        return [Drawn(figure, text)]
    figure = style.page(height)
    left, right = figure.subplots(1, 2)
    strip_and_interval(frame, plan, left, source.metric, rows)
    paired_differences(frame, plan, right, source.metric, rows)
    right.set_yticklabels([])
    text = (
        f"{_upper(what)} of {source.sweep}: pairs, mean and 95 % t interval. Left: scores, dashed the mean "
        f"of {reference}; right: the difference to {reference} in pairs, to compare rows by. {said}"
    )
    return [Drawn(figure, text)]


def per_class(source: Source) -> list[Drawn]:
    if source.classes.empty:
        raise Missing("no result has F1 by class")
    able = set(source.classes["row"])
    rows = _room(source, able)
    names = source.classes["class"].nunique()
    dots = dotted(len(rows), names)
    figure = (
        style.page(0.8 + 0.35 * names + style.legend_inches(rows), style.COLUMN_INCHES)
        if dots
        else style.page(1.0 + (0.19 if max(map(len, rows)) <= style.LONGEST_NAME else 0.24) * len(rows))
    )
    per_class_f1(source.classes, source.plan, figure.subplots(), rows)
    how = "mean and 95 % t interval over pairs" if dots else "mean over pairs"
    left = source.fit(rows, able, "have F1 by class")
    text = f"Test F1 of each class in percent, {how}. {source.pairs(rests=stats.APART)}{left}"
    return [Drawn(figure, text)]


def confusions(source: Source) -> list[Drawn]:
    try:
        ranked = [row for row in source.ranking if row in source.confusions]
    except ValueError as error:
        raise Missing(str(error)) from None
    if not ranked:
        raise Missing("no result has a confusion matrix")
    rows = [ranked[0]]
    if (reference := source.plan.get("reference")) in source.confusions and reference != ranked[0]:
        rows.append(str(reference))
    classes = max(len(source.confusions[row][0]) for row in rows)
    wide = len(rows) > 1 or classes > 10
    stacked = wide and classes > 10
    size = 3.2 if not stacked else min(0.6 + 0.22 * classes, 9.0 / len(rows), 6.0)
    figure = style.page(
        size * (len(rows) if stacked else 1), style.PAGE_INCHES if wide else style.COLUMN_INCHES
    )
    axes = figure.subplots(*((len(rows), 1) if stacked else (1, len(rows))), squeeze=False).ravel()
    for ax, row in zip(axes, rows, strict=True):
        names, matrix = source.confusions[row]
        confusion(matrix, names, ax, bar=stacked or ax is axes[-1]).set_title(style.folded(row, 40))
    best = f"{ranked[0]} (best on validation)" + (
        f" and {reference} (the reference)" if len(rows) > 1 else ""
    )
    said = f"in percent of each true class, summed over done cells. {source.pairs(rests=stats.APART)}"
    text = f"Test confusions of {best}, {said}"
    return [Drawn(figure, text)]


def main_effects(source: Source) -> list[Drawn]:
    grid = _grid(source)
    width = style.PAGE_INCHES if len(grid.factors) > 1 else style.COLUMN_INCHES
    figure, axes = style.grid(len(grid.factors), ACROSS, 2.1, width, sharex=False)
    for i, (ax, name) in enumerate(zip(axes, grid.factors, strict=True)):
        grid_figures.main_effect(grid, name, source.metric, ax)
        if i % ACROSS:
            ax.set_ylabel("")
    style.capped(axes[0], metric_scale(source.metric))
    what, of = _upper(metric_title(source.metric)), _list(grid.factors)
    text = f"{what} at each level of {of}, {_rested(source, grid)}"
    return [Drawn(figure, text)]


def interactions(source: Source) -> list[Drawn]:
    grid = _grid(source)
    two = list(combinations(grid.factors, 2))
    if not two:
        raise Missing(f"{grid.factors[0]} is the grid's only factor")
    two, left = two[:MOST_PANELS], len(two) - MOST_PANELS
    width = style.PAGE_INCHES if len(two) > 1 else style.COLUMN_INCHES
    figure, axes = style.grid(len(two), ACROSS, 2.7, width, sharex=False)
    colours = style.variants(source.plan)
    for i, (ax, (first, second)) in enumerate(zip(axes, two, strict=True)):
        if len(grid.across(first)) < len(grid.across(second)):  # the longer one across, the fewer lines
            first, second = second, first
        grid_figures.interaction(grid, (first, second), source.metric, colours, ax)
        if i % ACROSS:
            ax.set_ylabel("")
    style.capped(axes[0], metric_scale(source.metric))
    what, of = _upper(metric_title(source.metric)), _list(grid.factors)
    text = f"{what} at each two levels of {of}, {_rested(source, grid)}"
    return [Drawn(figure, text + (f" {left} more pairs of factors are not drawn." if left > 0 else ""))]


def curves(source: Source) -> list[Drawn]:
    found = source.curves
    done = source.frame.loc[source.frame["status"] == "done", ["row", "seed", "fold"]]
    ended = found.merge(done)
    under_way = not _logged(ended)
    if under_way:
        ended = found
    if not (metric := _logged(ended)):
        raise Missing("no trial logs epochs")
    lines = ended.loc[ended[metric].notna(), ["row", "seed", "fold", "epoch", metric]]
    able = set(lines["row"])
    rows = _room(source, able, MOST_CURVES)
    n = lines.groupby("row")[source.plan["unit"]].nunique()[rows].max()
    text = f"{_upper(metric_title(metric))} by epoch: mean over pairs, band of one sd."
    if under_way:
        text += " Trials that are under way or failed: none that logs epochs is done."
    said = f"{source.pairs(int(n), stats.APART)}{source.fit(rows, able, 'log epochs')}"
    if len(rows) <= TOGETHER:
        figure = style.page(2.4 + style.legend_inches(rows), style.COLUMN_INCHES)
        ax = learning_curves(lines, source.plan, figure.subplots(), metric, rows)
        style.capped(ax, metric_scale(metric))
        return [Drawn(figure, f"{text} {said}")]
    across = CURVES_ACROSS
    letters = int(style.PAGE_INCHES / (across + 0.5) / style.LETTER_INCHES)
    titles, common = style.titles(rows, letters)
    high = 0.95 + 0.12 * max(title.count("\n") + 1 for title in titles)
    figure, axes = style.grid(len(rows), across, high)
    reference = source.plan.get("reference")
    for ax, row, title in zip(axes, rows, titles, strict=True):
        beside = reference if reference in rows and row != reference else None
        mine = lines[lines["row"].isin([row, beside])]
        learning_curves(mine, source.plan, ax, metric, [row], legend=False, beside=beside)
        ax.set_title(title, fontsize=style.SMALL_POINTS)
        ax.set_ylabel("")
        ax.set_xlabel("")
    style.capped(axes[0], metric_scale(metric))
    figure.supxlabel("epoch", fontsize=style.FONT_POINTS)
    figure.supylabel(metric_title(metric), fontsize=style.FONT_POINTS)
    text += f" All rows: {common}." if common else ""
    text += f" Grey: {reference}." if reference in rows else ""
    return [Drawn(figure, f"{text} {said}")]


def disturbances(source: Source) -> list[Drawn]:
    frame, plan = source.frame, source.plan
    found = strengths(frame)
    if not found:
        raise Missing(f"no evaluation yet: run `shapelex evaluate sweeps/{source.sweep}.yaml` first")
    done = frame[frame["status"] == "done"]
    whole = done[done[[name for metrics in found.values() for _, name in metrics]].notna().all(axis=1)]
    if whole.empty:
        raise Missing(
            "no trial was evaluated at every strength, as if by several versions: "
            f"run `shapelex evaluate sweeps/{source.sweep}.yaml --force`"
        )
    able = set(whole["row"])
    rows = _room(source, able, MOST_LINES)
    figure, axes = style.grid(len(found), 2, 2.2, sharex=False)
    for i, (ax, kind) in enumerate(zip(axes, found, strict=True)):
        robustness(whole, plan, kind, ax, rows, legend=False)
        ax.set_title(kind)
        if i % 2:
            ax.set_ylabel("")
    style.capped(axes[0], 100)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    part = f" {len(whole)} of {len(done)} done cells were evaluated." if len(whole) < len(done) else ""
    n = stats.per_pair(whole, UNDISTURBED, plan["unit"]).count().max()
    text = (
        "Test macro-F1 against the strength of a disturbance of the test windows, none at 0: mean and 95 % t "
        f"interval over pairs. {source.pairs(int(n), stats.APART)}{part}"
        f"{source.fit(rows, able, 'were evaluated')}"
    )
    return [Drawn(figure, text)]


def _room(source: Source, able: Collection[str], most: int = style.MOST_ROWS) -> list[str]:
    """Of the rows `able` those that a figure has room for."""
    rows = [row for row in source.plan["rows"] if row["name"] in able]
    reference = source.plan.get("reference")
    plan = {"rows": rows, "reference": reference if reference in able else None}
    return style.shown(plan, [row for row in source.ranking if row in able], most)


def _logged(curves: pd.DataFrame) -> str:
    """The metric to draw by epoch, "" where no trial logs one."""
    names = ("val/macro_f1", "train/loss")
    return next((name for name in names if name in curves and curves[name].notna().any()), "")


def _grid(source: Source) -> grid_figures.Grid:
    grid = grid_figures.crossed(source.done(), source.plan, source.metric)
    if grid is None:
        raise Missing("the rows cross no settings: the sweep has no grid")
    if grid.pairs.empty:
        raise Missing(f"in no {source.plan['unit']} does every row of the grid have a result yet")
    return grid


def _rested(source: Source, grid: grid_figures.Grid) -> str:
    return (
        f"averaged over the {len(grid.levels)} rows that cross them: mean and 95 % t interval over pairs. "
        f"{source.pairs(len(grid.pairs), stats.CROSSED)}"
    )


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
