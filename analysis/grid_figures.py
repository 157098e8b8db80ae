"""What the factors of a grid do: main effects and two-way interactions. Each figure takes and returns an axis.

A factor is what rows of one variant differ in, and the variant itself where several share the grid. Levels are
compared like with like: over the blocks (fold, seed and the other factors' levels) that have a result at every
level, averaged within a pair, so that a hole in the grid moves no level alone.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from analysis import stats, style
from analysis.style import COLUMN_INCHES, DASHES, finish, short
from analysis.wording import metric_scale, metric_title

VARIANT = "variant"


def factors(plan: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of the grid x factors, each level as text, levels in the order of the plan; no columns without a grid.

    A row that lacks a factor (a baseline has no codes) is left out.
    """
    rows = {row["name"]: row for row in plan["rows"]}
    by_variant: dict[str, dict[str, set[str]]] = {}
    for row in rows.values():
        for name, level in row["factors"].items():
            by_variant.setdefault(row["variant"], {}).setdefault(name, set()).add(_level(level))
    names = [
        name
        for name in dict.fromkeys(name for row in rows.values() for name in row["factors"])
        if any(len(levels.get(name, ())) > 1 for levels in by_variant.values())
    ]
    if not names:
        return pd.DataFrame(index=pd.Index(rows, name="row"))
    levels = {
        row: [_level(found["factors"].get(name)) for name in names] + [found["variant"]]
        for row, found in rows.items()
        if all(name in found["factors"] for name in names)
    }
    table = pd.DataFrame.from_dict(levels, orient="index", columns=[*names, VARIANT]).rename_axis(index="row")
    return table if table[VARIANT].nunique() > 1 else table.drop(columns=VARIANT)


def levels(plan: Mapping[str, Any], factor: str) -> list[str]:
    """Numbers in their order, other levels as the plan has them."""
    found = list(dict.fromkeys(factors(plan)[factor]))
    try:
        return sorted(found, key=float)
    except ValueError:
        return found


def balanced(frame: pd.DataFrame, plan: Mapping[str, Any], metric: str, over: Sequence[str]) -> pd.DataFrame:
    """`metric` as pairs x combinations of the levels of `over` (columns), over the blocks that have them all.

    Empty where no block has. Columns: the level for one factor, a tuple of levels for several.
    """
    table = factors(plan)
    done = frame[(frame["status"] == "done") & frame["row"].isin(table.index)]
    cells = done[["row", "seed", "fold"]].assign(value=done[metric]).dropna(subset=["value"])
    cells = cells.join(table, on="row")
    others = [name for name in table.columns if name not in over]
    wide = cells.pivot_table(
        index=["fold", "seed", *others], columns=list(over), values="value", aggfunc="mean", dropna=True
    )
    wanted = pd.MultiIndex.from_product([levels(plan, name) for name in over], names=list(over))
    columns = wanted.get_level_values(0) if len(over) == 1 else wanted
    whole = wide.reindex(columns=columns).dropna()
    return whole.groupby(level=plan["unit"]).mean()


def main_effects(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    factor: str,
    ax: Axes | None = None,
    metric: str = "test/macro_f1",
) -> Axes:
    """Mean and 95 % t interval over pairs at each level of one factor, the other factors averaged."""
    ax = _axes() if ax is None else ax
    pairs = metric_scale(metric) * balanced(frame, plan, metric, [factor])
    bounds = np.array([stats.interval(pairs[level].to_numpy()) for level in pairs])
    places = np.arange(pairs.shape[1])
    ax.vlines(places, bounds[:, 0], bounds[:, 1], color="black", linewidth=1)
    ax.plot(places, pairs.mean(), "D", color="black", markersize=3.5)
    return _levels_axis(ax, list(pairs.columns), factor, metric)


def interaction(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    over: tuple[str, str],
    ax: Axes | None = None,
    metric: str = "test/macro_f1",
) -> Axes:
    """Means at each pair of levels: the first factor across, a line per level of the second, 95 % t intervals."""
    ax = _axes() if ax is None else ax
    first, second = over
    pairs = metric_scale(metric) * balanced(frame, plan, metric, over)
    across, lines = levels(plan, first), levels(plan, second)
    graded = sns.color_palette("viridis", len(lines) + 1)[: len(lines)]  # the last is too pale for a line
    colours = [style.variants(plan)[line] for line in lines] if second == VARIANT else graded
    for i, line in enumerate(lines):
        found = pairs.xs(line, axis=1, level=second)[across]
        bounds = np.array([stats.interval(found[level].to_numpy()) for level in across])
        x = np.arange(len(across)) + 0.3 * ((i + 0.5) / len(lines) - 0.5)
        ax.vlines(x, bounds[:, 0], bounds[:, 1], color=colours[i], linewidth=0.8)
        ax.plot(
            x,
            found.mean(),
            marker="o",
            ms=3,
            lw=1.1,
            color=colours[i],
            dashes=DASHES[i % 4],
            label=short(line, 20),
        )
    ax.legend(
        title=short(_name(second), 26),
        title_fontsize="small",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.28),
        ncols=2,
        frameon=False,
    )
    return _levels_axis(ax, across, first, metric)


def _levels_axis(ax: Axes, names: Sequence[str], factor: str, metric: str) -> Axes:
    steep = sum(map(len, names)) > 24
    ax.set_xticks(
        range(len(names)),
        [short(name, 20) for name in names],
        rotation=40 if steep else 0,
        ha="right" if steep else "center",
        rotation_mode="anchor",
    )
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel(metric_title(metric))
    return finish(ax, xlabel=_name(factor))


def _name(factor: str) -> str:
    return factor.rsplit(".", 1)[-1]


def _level(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _axes() -> Axes:
    return plt.subplots(figsize=(COLUMN_INCHES, 2.6), layout="constrained")[1]
