"""What every figure shares: print size, type, colours of rows, and which rows a page has room for.

Sizes are those of print: a figure goes into a paper at its own width (one column or the page), no type below
7 pt. Colours are seaborn's colour-blind safe ones, the two palest last.
"""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

COLUMN_INCHES = 3.4
PAGE_INCHES = 7.0
FONT_POINTS = 8
SMALL_POINTS = 7
PALE_LAST = [0, 1, 2, 3, 4, 5, 7, 9, 6, 8]
DASHES: list[tuple[float, ...]] = [(), (4, 1.5), (1, 1), (3, 1.25, 1, 1.25)]
ALIKE = 0.1  # two colours, where no part of red, green and blue differs by more
LETTER_INCHES = 0.06  # of small type, on average
LEANING_INCHES = 0.15  # from one name that leans to the next
MOST_ROWS = 34  # a page's height
LONGEST_NAME = 34
RC: dict[Any, Any] = {
    "font.size": FONT_POINTS,
    "axes.titlesize": FONT_POINTS,
    "axes.labelsize": FONT_POINTS,
    "xtick.labelsize": SMALL_POINTS,
    "ytick.labelsize": SMALL_POINTS,
    "legend.fontsize": SMALL_POINTS,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # type 3 fonts are turned away by many a submission site
    "axes.unicode_minus": True,
    "text.usetex": False,
    "text.parse_math": False,  # a row may be called $x$
    "figure.dpi": 100,
}


def paper() -> AbstractContextManager[None]:
    """matplotlib's settings for print."""
    return matplotlib.rc_context(RC)


def palette(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Row name -> colour: one hue a variant, from dark to light over a variant's rows.

    Of a single variant each row has its hue. Hues repeat after ten; dashes, order and labels then tell apart.
    """
    hues = _hues()
    rows_of: dict[str, list[str]] = {}
    for row in plan["rows"]:
        rows_of.setdefault(row["variant"], []).append(row["name"])
    if len(rows_of) == 1:
        return {row["name"]: hues[i % 10] for i, row in enumerate(plan["rows"])}
    colours = {
        name: _shade(hues[i % 10], j / (len(names) - 1) if len(names) > 1 else None)
        for i, names in enumerate(rows_of.values())
        for j, name in enumerate(names)
    }
    return {row["name"]: colours[row["name"]] for row in plan["rows"]}


def dashes(place: int) -> tuple[float, ...]:
    """The dashes of a line, so that with ten hues in turn no two of forty lines look alike."""
    return DASHES[(place + place // 10) % len(DASHES)]


def marks(
    plan: Mapping[str, Any], rows: Sequence[str], dashed: bool = True
) -> dict[str, tuple[Any, tuple[float, ...]]]:
    """Row -> colour and dashes among `rows`: those that it has in the whole plan or, where two of `rows` look
    alike, those of its place among them. Not `dashed`: where colour alone must tell rows apart."""
    places = {row["name"]: i for i, row in enumerate(plan["rows"])}
    colours = palette(plan)
    own = {row: (colours[row], dashes(places[row])) for row in rows}
    if any(_alike(one, two, dashed) for one, two in combinations(own.values(), 2)):
        return {row: (_hues()[i % 10], dashes(i)) for i, row in enumerate(rows)}
    return own


def _alike(one: tuple[Any, Any], two: tuple[Any, Any], dashed: bool) -> bool:
    apart = np.abs(np.subtract(to_rgb(one[0]), to_rgb(two[0]))).max()
    return bool(apart < ALIKE) and (one[1] == two[1] or not dashed)


def _hues() -> list[Any]:
    return [sns.color_palette("colorblind", 10)[i] for i in PALE_LAST]


def _shade(hue: Any, part: float | None) -> Any:
    """`hue` itself for None, else from a third darker (0) to half way to white (1)."""
    if part is None:
        return hue
    colour = np.array(to_rgb(hue))
    dark, light = colour * 0.65, colour + (1 - colour) * 0.5
    return tuple(float(c) for c in dark + (light - dark) * part)


def shown(plan: Mapping[str, Any], ranking: Sequence[str], most: int = MOST_ROWS) -> list[str]:
    """The rows that a figure has room for, in the plan's order: all, or the reference and the best.

    `ranking`: rows with a validation score, the best first; one without comes last.
    """
    names = [row["name"] for row in plan["rows"]]
    if len(names) <= most:
        return names
    reference = [plan["reference"]] if plan.get("reference") is not None else []
    kept = set(list(dict.fromkeys([*reference, *ranking, *names]))[:most])
    return [name for name in names if name in kept]


def variants(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Variant -> its hue."""
    names = dict.fromkeys(row["variant"] for row in plan["rows"])
    return {name: _hues()[i % 10] for i, name in enumerate(names)}


def short(name: str, most: int = LONGEST_NAME) -> str:
    """`name`, its middle left out where it is too long for a margin."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def folded(name: str, most: int = LONGEST_NAME) -> str:
    """`name` on one line or, where it is too long, on two, broken at a space; more is left out."""
    first, *rest = textwrap.wrap(name, most, break_on_hyphens=False) or [""]
    return first if not rest else f"{first}\n{short(' '.join(rest), most)}"


def legend_columns(names: Sequence[str]) -> int:
    """How many columns of `names` fit side by side in one column of the paper."""
    return 2 if len(names) > 1 and max(map(len, names)) <= 18 else 1


def legend_inches(names: Sequence[str]) -> float:
    """The height of a legend of `names`, folded, in legend_columns."""
    lines = sum(folded(name).count("\n") + 1 for name in names)
    return 0.14 * -(-lines // legend_columns(names))


def titles(names: Sequence[str], letters: int, lines: int = 3) -> tuple[list[str], str]:
    """`names` as titles of panels, and the words that all of them have, which no title repeats.

    A title has up to `lines` lines of `letters`, its middle left out where it is longer; where that makes two
    alike, as many lines as it takes.
    """
    words = [name.split() for name in names]
    common = set(words[0]).intersection(*words[1:]) if len(names) > 1 else set()
    kept = [" ".join(word for word in of if word not in common) for of in words]
    if not all(kept) or len(set(kept)) < len(set(names)):
        common, kept = set(), list(names)
    whole = [textwrap.wrap(name, letters, break_on_hyphens=False) or [""] for name in kept]
    cut = [
        [*of[: lines - 1], short(" ".join(of[lines - 1 :]), letters)] if of[lines:] else of for of in whole
    ]
    found = whole if len(set(map(tuple, cut))) < len(set(kept)) else cut
    return ["\n".join(of) for of in found], " ".join(w for w in words[0] if w in common)


def page(height_inches: float, width_inches: float = PAGE_INCHES) -> Figure:
    """An empty figure that no window shows."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def grid(
    count: int, columns: int, panel_inches: float, width_inches: float = PAGE_INCHES, sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels with one vertical scale, and their axes; places left over are empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = page(rows * panel_inches + 0.3, width_inches)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=True).ravel()
    for ax in axes[count:]:
        ax.set_visible(False)
    for ax in axes[max(count - columns, 0) : count]:  # nothing stands below these
        ax.xaxis.set_tick_params(labelbottom=True)
    return figure, list(axes[:count])


def heat_map(
    ax: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "viridis",
    cells: np.ndarray | None = None,
    bar: bool = True,
) -> Axes:
    """`values` (rows x columns) as colours, with a colour bar; `cells`: what to print inside, same shape."""
    sns.heatmap(
        pd.DataFrame(values),
        ax=ax,
        vmin=vmin,
        vmax=vmax,
        cmap=cmap,
        annot=False if cells is None else cells,
        fmt="",
        annot_kws={"fontsize": SMALL_POINTS},
        cbar=bar,
        cbar_kws={"label": label, "aspect": 30, "pad": 0.02} if bar else None,
        linewidths=0,
    )
    ax.set_yticks(np.arange(len(rows)) + 0.5, [folded(name) for name in rows], rotation=0)
    # Names too long to lie lean, numbers and those without the room to lean stand, and too many are left out.
    every = max(1, -(-len(columns) // 48))
    longest = max(map(len, columns), default=0)
    each = _width_inches(ax, rows) / max(-(-len(columns) // every), 1)
    lies = longest * LETTER_INCHES + 0.03 <= each
    turned = 0 if lies else 90 if longest <= 3 or each < LEANING_INCHES else 45
    ax.set_xticks(
        [i + 0.5 for i in range(0, len(columns), every)],
        [short(name) for name in columns[::every]],
        rotation=turned,
        ha="right" if turned else "center",
        va="center" if turned == 90 else "top",
        rotation_mode="anchor",
    )
    ax.tick_params(length=0)
    ax.set_xlabel("")
    ax.set_ylabel("")
    return ax


def _width_inches(ax: Axes, rows: Sequence[str]) -> float:
    """About how wide a heat map will be beside the names of its rows and its bar, before it is laid out."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    panel = (PAGE_INCHES if figure is None else figure.get_size_inches()[0]) / (
        spec.get_gridspec().ncols if spec else 1
    )
    return float(panel - LETTER_INCHES * min(max(map(len, rows), default=0), LONGEST_NAME) - 0.65)


def within(ax: Axes, metric_scale: int) -> None:
    """End a horizontal axis of percentages at 0 and 100: an interval over two pairs may go far beyond."""
    if metric_scale == 100:
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -0.5), min(high, 100.5))


def capped(ax: Axes, metric_scale: int) -> None:
    """`within` of the vertical axis; of panels that share it after the last is drawn."""
    if metric_scale == 100:
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -1), min(high, 101))


def finish(ax: Axes, xlabel: str) -> Axes:
    ax.set_xlabel(xlabel, fontsize=FONT_POINTS)
    ax.tick_params(labelsize=FONT_POINTS)
    sns.despine(ax=ax)
    # Drawing changes the tick labels, and constrained layout makes room for those it saw last.
    # A page of many panels is drawn once, as it is saved.
    if (figure := ax.get_figure(root=True)) is not None and len(figure.axes) == 1:
        figure.draw_without_rendering()
    return ax
