"""The critical-difference diagram (Demšar, 2006) of a leaderboard: rows on a line of mean ranks, bars over
rows that no test tells apart. Takes and returns an axis."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes

from analysis.style import PAGE_INCHES, SMALL_POINTS, short


def height_inches(rows: int) -> float:
    """What names in two blocks and the bars above them need."""
    return 0.9 + 0.2 * ((rows + 1) // 2)


def critical_difference(
    ranks: pd.Series, p: pd.DataFrame, colours: Mapping[str, Any], ax: Axes | None = None
) -> Axes:
    """`ranks`: row -> mean rank, 1 is best; `p`: adjusted p of each pair of rows (rows x rows).

    A bar has a dot for each of its rows, of which no two are told apart at 5 %; it may run over another row.
    Where there is no p, there is no difference.
    """
    if ax is None:
        size = (PAGE_INCHES, height_inches(len(ranks)))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    names = {row: short(str(row)) for row in ranks.index}
    if len(set(names.values())) == len(names):
        ranks, p = ranks.rename(names), p.rename(index=names, columns=names)
        colours = {names[row]: colours[row] for row in names}
    matrix = p.reindex(index=ranks.index, columns=ranks.index).astype("float64").fillna(1.0)
    spread = float(ranks.max() - ranks.min()) or 1.0
    drawn = scikit_posthocs.critical_difference_diagram(
        ranks,
        matrix,
        ax=ax,
        label_fmt_left="{label}  {rank:.2f} ",
        label_fmt_right=" {rank:.2f}  {label}",
        label_props={"fontsize": SMALL_POINTS},
        marker_props={"s": 14},
        elbow_props={"linewidth": 0.8},
        crossbar_props={"linewidth": 1.8, "solid_capstyle": "butt", "marker": "o", "markersize": 3.5},
        color_palette={row: colours[row] for row in ranks.index},
        text_h_margin=0.04 * spread,
    )
    for text in drawn["labels"]:
        text.set_color("black")  # light hues are for lines, not for letters
    ax.tick_params(labelsize=SMALL_POINTS)
    ax.set_title("mean rank over data sets (1 is best)")
    return ax
