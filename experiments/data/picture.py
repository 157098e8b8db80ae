"""What windows of a data set look like: a few of each class, and who recorded how many of which.

W windows, M channels, T steps, Y classes shown, S subjects.
"""

from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.data.windows import DataSet, Windows

matplotlib.use("Agg")
EACH = 3
SHOWN = 12  # classes and channels at most, and subjects whose counts are written
TAB20 = matplotlib.color_sequences["tab20"]
COLOURS = [*TAB20[::2], *TAB20[1::2]]  # ten strong ones, then their light shades
SIZE = 7  # of text, in points


def draw(entry: DataSet, windows: Windows, rate_hz: float | None, path: Path) -> None:
    """Write the picture as a PNG; raises OSError."""
    picture(entry, windows, rate_hz).savefig(path, dpi=120)


def picture(entry: DataSet, windows: Windows, rate_hz: float | None) -> Figure:
    """A row a class: up to three of its windows, evenly picked, of the first sensor, all on one scale; on the
    right the counts, where subjects are known."""
    classes = [_short(name) for name in entry.classes[:SHOWN]]
    channels = next(iter(entry.triads().values()), [list(range(len(entry.channels)))])[0][:SHOWN]
    known = bool((windows.subject >= 0).any())
    widths = [2.6 * EACH + 1, 3][: 1 + known]
    figure = Figure(figsize=(sum(widths), 1 + 1.1 * len(classes)), layout="constrained")
    parts = figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0]
    axes = parts[0].subplots(len(classes), EACH, squeeze=False, sharex=True, sharey=True)
    at = np.arange(windows.series.shape[2]) / (rate_hz or 1)
    for y, (row, name) in enumerate(zip(axes, classes, strict=True)):
        _class(row, name, at, windows.series[_evenly(np.flatnonzero(windows.label == y))][:, channels])
    for column in axes.T:
        for ax in [ax for ax in column if ax.lines][-1:]:
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("s" if rate_hz else "steps", fontsize=SIZE)
    lines = [Line2D([], [], color=colour) for colour in COLOURS[: len(channels)]]
    names = [_short(entry.channels[m], 27) for m in channels]
    parts[0].legend(lines, names, loc="outside upper center", ncols=4, fontsize=SIZE - 1)
    if known:
        _counts(parts[1].subplots(), classes, windows)
    shown = [(len(classes), len(entry.classes), "classes"), (len(channels), len(entry.channels), "channels")]
    cut = [f"{part} of {whole} {what}" for part, whole, what in shown if part < whole]
    figure.suptitle(", ".join([entry.name, *cut]), fontsize=SIZE + 1)
    return figure


def _evenly(rows: np.ndarray) -> np.ndarray:
    """EACH of the rows, first and last among them, or all where they are fewer."""
    if len(rows) <= EACH:
        return rows
    return rows[np.linspace(0, len(rows) - 1, EACH).astype(int)]


def _class(axes: np.ndarray, name: str, at: np.ndarray, series: np.ndarray) -> None:
    """Each of the windows (W, M, T) on an axis of its own; the other axes are left blank."""
    axes[0].set_ylabel(name, fontsize=SIZE, rotation=0, ha="right", va="center")
    for ax, window in zip(axes, series, strict=False):
        for channel, colour in zip(window, COLOURS, strict=False):
            ax.plot(at, channel, lw=0.8, color=colour)
        ax.tick_params(labelsize=SIZE - 1)
        ax.yaxis.get_offset_text().set_fontsize(SIZE - 1)
    for ax in axes[len(series) :]:
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelleft=False, labelbottom=False)
    if not len(series):
        axes[0].text(0.02, 0.5, "no window", transform=axes[0].transAxes, va="center", fontsize=SIZE)


def _counts(ax: Any, classes: list[str], windows: Windows) -> None:
    """Windows of each class and subject; where the subjects are many, as colours alone."""
    subjects = np.unique(windows.subject)
    of = [windows.subject[windows.label == y] for y in range(len(classes))]
    count_YS = np.array([[int((own == s).sum()) for s in subjects] for own in of])
    many = len(subjects) > SHOWN
    top = max(1, count_YS.max()) * (1 if many else 2)  # light, where black text is on it
    image = ax.imshow(count_YS, aspect="auto", cmap="Blues", vmin=0, vmax=top)
    if many:
        bar = ax.figure.colorbar(image, ax=ax, location="bottom", pad=0.01, aspect=30)
        bar.ax.tick_params(labelsize=SIZE - 1)
    else:
        for (y, s), count in np.ndenumerate(count_YS):
            ax.text(s, y, str(count), ha="center", va="center", fontsize=SIZE - 2)
    ticks = range(0, len(subjects), -(-len(subjects) // SHOWN))
    names = ["-" if subjects[s] < 0 else str(subjects[s]) for s in ticks]
    upright = 90 if max(map(len, names)) > 2 else 0
    ax.set_xticks(ticks, names, fontsize=SIZE - 1, rotation=upright)
    ax.set_yticks(range(len(classes)), classes, fontsize=SIZE - 1)
    ax.set_title("windows, by class and subject", fontsize=SIZE)


def _short(name: str, width: int = 18) -> str:
    """A name in two or three short lines, no part of it read as a formula."""
    name = name if len(name) <= 40 else f"{name[:25]}…{name[-14:]}"
    return "\n".join(wrap(name, width)).replace("$", r"\$")
