"""The pages of outcomes: what each figure of scores, classes, factors, epochs and disturbances shows.

A function takes a Source and returns what it drew, or raises Missing with the reason.
"""

from collections.abc import Sequence
from itertools import combinations

from matplotlib.axes import Axes

from analysis import grid_figures, style
from analysis.curve_figures import learning_curves, robustness, strengths
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
MOST_LINES = 6


def scores(source: Source) -> list[Drawn]:
    frame, plan, rows = source.done(), source.plan, source.shown()
    height, what = 0.7 + (0.32 if len(rows) <= 12 else 0.24) * len(rows), metric_title(source.metric)
    said = f"{source.pairs()}{source.fit(len(rows))}"
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
    rows = [row for row in source.shown() if row in set(source.classes["row"])]
    names = source.classes["class"].nunique()
    dots = dotted(len(rows), names)
    figure = (
        style.page(0.8 + 0.35 * names + 0.08 * len(rows), style.COLUMN_INCHES)
        if dots
        else style.page(1.0 + (0.19 if max(map(len, rows)) <= style.LONGEST_NAME else 0.24) * len(rows))
    )
    per_class_f1(source.classes, source.plan, figure.subplots(), rows)
    how = "mean and 95 % t interval over pairs" if dots else "mean over pairs"
    text = f"Test F1 of each class in percent, {how}. {source.pairs()}{source.fit(len(rows))}"
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
    size = 3.2 if not stacked else min(0.6 + 0.22 * classes, 6.0)
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
    text = (
        f"Test confusions of {best}, in percent of each true class, summed over done cells. {source.pairs()}"
    )
    return [Drawn(figure, text)]


def main_effects(source: Source) -> list[Drawn]:
    grid = _grid(source)
    width = style.PAGE_INCHES if len(grid.factors) > 1 else style.COLUMN_INCHES
    figure, axes = style.grid(len(grid.factors), ACROSS, 2.1, width, sharex=False)
    for i, (ax, name) in enumerate(zip(axes, grid.factors, strict=True)):
        grid_figures.main_effect(grid, name, source.metric, ax)
        if i % ACROSS:
            ax.set_ylabel("")
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
    what, of = _upper(metric_title(source.metric)), _list(grid.factors)
    text = f"{what} at each two levels of {of}, {_rested(source, grid)}"
    return [Drawn(figure, text + (f" {left} more pairs of factors are not drawn." if left > 0 else ""))]


def curves(source: Source) -> list[Drawn]:
    found = source.curves
    metric = next(
        (name for name in ("val/macro_f1", "train/loss") if name in found and found[name].any()), None
    )
    if metric is None:
        raise Missing("no trial logs epochs")
    lines = found.loc[found[metric].notna(), ["row", "seed", "fold", "epoch", metric]]
    shown = source.shown(MOST_CURVES)
    rows = [row for row in shown if row in set(lines["row"])]
    text = f"{_upper(metric_title(metric))} by epoch: mean over pairs, band of one sd."
    if len(rows) <= TOGETHER:
        figure = style.page(2.4 + 0.08 * len(rows), style.COLUMN_INCHES)
        _capped(learning_curves(lines, source.plan, figure.subplots(), metric, rows), metric)
        return [Drawn(figure, f"{text} {source.pairs()}{source.fit(len(shown))}")]
    figure, axes = style.grid(len(rows), 5, 1.15)
    reference = source.plan.get("reference")
    for ax, row in zip(axes, rows, strict=True):
        beside = reference if reference in rows and row != reference else None
        mine = lines[lines["row"].isin([row, beside])]
        learning_curves(mine, source.plan, ax, metric, [row], legend=False, beside=beside)
        ax.set_title(style.folded(row, 24), fontsize=style.SMALL_POINTS)
        ax.set_ylabel("")
        ax.set_xlabel("")
    _capped(axes[0], metric)
    figure.supxlabel("epoch", fontsize=style.FONT_POINTS)
    figure.supylabel(metric_title(metric), fontsize=style.FONT_POINTS)
    grey = f" Grey: {reference}." if reference in rows else ""
    return [Drawn(figure, f"{text}{grey} {source.pairs()}{source.fit(len(shown))}")]


def disturbances(source: Source) -> list[Drawn]:
    found = strengths(source.frame)
    if not found:
        raise Missing(f"no evaluation yet: run `shapelex evaluate sweeps/{source.sweep}.yaml` first")
    rows = source.shown(MOST_LINES)
    whole = source.frame[
        source.frame[[name for metrics in found.values() for _, name in metrics]].notna().all(axis=1)
    ]
    figure, axes = style.grid(len(found), 2, 2.2, sharex=False)
    for i, (ax, kind) in enumerate(zip(axes, found, strict=True)):
        robustness(source.frame, source.plan, kind, ax, rows, legend=False)
        ax.set_title(kind)
        if i % 2:
            ax.set_ylabel("")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    text = (
        "Test macro-F1 against the strength of a disturbance of the test windows, none at 0: mean and 95 % t "
        f"interval over pairs. {source.pairs(whole)}{source.fit(len(rows))}"
    )
    return [Drawn(figure, text)]


def _capped(ax: Axes, metric: str) -> None:
    """A band of one sd knows no bounds, a percentage does."""
    if metric_scale(metric) == 100:
        ax.set_ylim(top=min(ax.get_ylim()[1], 101))


def _grid(source: Source) -> grid_figures.Grid:
    grid = grid_figures.crossed(source.done(), source.plan, source.metric)
    if grid is None:
        raise Missing("the rows cross no settings: the sweep has no grid")
    if grid.pairs.empty:
        raise Missing(f"in no {source.plan['unit']} does every row of the grid have a result yet")
    return grid


def _rested(source: Source, grid: grid_figures.Grid) -> str:
    mine = source.frame[source.frame["row"].isin(grid.levels.index)]
    return (
        f"averaged over the {len(grid.levels)} rows that cross them: mean and 95 % t interval over pairs. "
        f"{source.pairs(mine)}"
    )


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
