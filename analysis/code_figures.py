"""What codes look like and who uses them, from one trial's lexicon.

A figure that has one panel takes and returns an axis; the codebook, a panel a code, returns its figure.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.lexicon import Lexicon
from analysis.style import PAGE_INCHES, SMALL_POINTS, folded, heat_map, page, short

MOST_CODES = 64
MOST_COLUMNS = 48  # of a heat map, each with its number
ACROSS = 8
PANEL_INCHES = 0.8
NAME_LETTERS = 14
CONCEPT_LETTERS = 46


def codebook(lexicon: Lexicon, most: int = MOST_CODES) -> Figure:
    """Each code decoded, the most used first: its number, its share of tokens, and its name if it has one.

    A line per axis where a code has several (channels joint).
    """
    order, share = lexicon.order[:most], lexicon.counts / max(lexicon.counts.sum(), 1)
    names = lexicon.names()
    axes_of = lexicon.shape.shape[1]
    colours = sns.color_palette("colorblind", axes_of) if axes_of > 1 else [(0.15, 0.15, 0.15)]
    lines = -(-len(order) // ACROSS)
    longest = max((len(_named(*names[n]).splitlines()) for n in order if n in names), default=0)
    figure = page(lines * (PANEL_INCHES + 0.12 * longest) + 0.3 * (axes_of > 1))
    grid = figure.subplots(lines, ACROSS, squeeze=False, sharex=True, sharey=True)
    for ax in grid.ravel():
        ax.set_axis_off()
    for ax, n in zip(grid.ravel(), order, strict=False):
        ax.axhline(0, color="0.85", linewidth=0.5, zorder=0)
        for a in range(axes_of):
            ax.plot(lexicon.shape[n, a], color=colours[a], linewidth=1.1 if axes_of == 1 else 0.8)
        title = f"{n}: {100 * share[n]:.1f} %" if share[n] >= 0.0005 else f"{n}: <0.1 %"
        if n in names:
            title += f"\n{_named(*names[n])}"
        ax.set_title(title, fontsize=SMALL_POINTS, pad=2)
    if axes_of > 1:
        figure.legend(
            [plt.Line2D([], [], color=colour) for colour in colours],
            [short(name, 16) for name in lexicon.channels[:axes_of]],
            loc="outside lower center",
            ncols=min(axes_of, 6),
            frameon=False,
        )
    return figure


def _named(name: str, p: float) -> str:
    return folded(f"{name} {p:.2f}".replace(" 0.", " ."), NAME_LETTERS)


def usage(lexicon: Lexicon, by: str, ax: Axes | None = None, most: int = MOST_COLUMNS) -> Axes:
    """Use of each code by class or subject (`by`), in percent of its tokens; the most used codes first."""
    if by not in ("class", "subject"):
        raise ValueError(f"expected by 'class' or 'subject', found {by!r}")
    owner = lexicon.label if by == "class" else lexicon.subject
    known = [int(one) for one in np.unique(owner) if one >= 0]
    ax = (
        plt.subplots(figsize=(PAGE_INCHES, usage_inches(len(known))), layout="constrained")[1]
        if ax is None
        else ax
    )
    order = lexicon.order[:most]
    counts = np.stack(
        [np.bincount(lexicon.code[owner == one].ravel(), minlength=len(lexicon.shape)) for one in known]
    )
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [lexicon.classes[one] if by == "class" else f"subject {one}" for one in known]
    heat_map(ax, percent[:, order], rows, [str(n) for n in order], "percent of tokens", 0, _top(percent))
    ax.set_xlabel("code, the most used first")
    return ax


def usage_inches(rows: int) -> float:
    return 0.6 + 0.17 * max(rows, 6)


def named(lexicon: Lexicon, evidence: str) -> list[int]:
    """The codes that any token has and that mean something by one kind of evidence, the most used first."""
    p = lexicon.p[lexicon.evidence.index(evidence)]
    return [int(n) for n in lexicon.order if np.isfinite(p[n]).all() and p[n].sum() > 0]


def sub_actions(lexicon: Lexicon, evidence: str, ax: Axes | None = None, most: int = MOST_COLUMNS) -> Axes:
    """Probability that each code means each concept by one kind of evidence: concepts x codes.

    Codes that any token has, the `most` used, sorted by their most probable concept, the surest first. Raises
    ValueError where none has a meaning.
    """
    p = lexicon.p[lexicon.evidence.index(evidence)]
    if ax is None:
        size = (PAGE_INCHES, usage_inches(len(lexicon.concepts)))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    if not (used := named(lexicon, evidence)):
        raise ValueError(f"expected a code that {evidence} names, found none")
    order = sorted(used[:most], key=lambda n: (p[n].argmax(), -p[n].max()))
    heat_map(
        ax, p[order].T, lexicon.concepts, [str(n) for n in order], "probability", 0, float(p[order].max())
    )
    ax.set_yticks(ax.get_yticks(), [short(name, CONCEPT_LETTERS) for name in lexicon.concepts])
    ax.set_xlabel("code, by its most probable sub-action")
    return ax


def similarity(
    lexicon: Lexicon,
    ax: Axes | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    inside: bool = True,
    bar: bool = True,
) -> Axes:
    """Mean cosine of the series of each class (down) and the text of each class (across).

    `limits`: of the colours, for panels that share them; `inside`: whether the numbers have room.
    """
    values = np.empty((0, 0)) if lexicon.similarity is None else lexicon.similarity
    if not values.size:
        raise ValueError("expected a trial that reads text, found no similarities")
    ax = plt.subplots(figsize=(3.4, 2.9), layout="constrained")[1] if ax is None else ax
    cells = np.array([[f"{v:.2f}".replace("0.", ".", 1) for v in line] for line in values])
    names, numbers = lexicon.classes, cells if inside else None
    heat_map(ax, values, names, names, "cosine", *limits, cells=numbers, bar=bar)
    ax.set_xlabel("text of class")
    ax.set_ylabel("series of class")
    return ax


def _top(values: Sequence[float] | np.ndarray) -> float:
    """Where the colours end: one code that takes nearly all tokens must not turn all others black."""
    return float(max(np.quantile(values, 0.99), 1e-9))
