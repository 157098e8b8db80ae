"""What windows of a data set look like: a few of each class, and who recorded how many of which.

W windows, M channels, T steps.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.data.windows import DataSet, Windows, triads

matplotlib.use("Agg")
EACH = 3
SHOWN = 12  # classes and channels at most


def draw(entry: DataSet, windows: Windows, rate_hz: float | None, path: Path) -> None:
    """A row a class: three of its windows, evenly picked, of the first sensor; on the right the counts."""
    classes = entry.classes[:SHOWN]
    places = next(iter(triads(entry.channels).values()), [list(range(min(SHOWN, len(entry.channels))))])[0]
    at = np.arange(windows.series.shape[2]) / (rate_hz or 1)
    low, high = np.percentile(windows.series[:, places], [0.5, 99.5])
    figure = Figure(figsize=(2.6 * EACH + 3, 0.6 + 1.1 * len(classes)), layout="constrained")
    left, right = np.ravel(np.array(figure.subfigures(1, 2, width_ratios=(2.6 * EACH, 3))))
    axes = left.subplots(len(classes), EACH, squeeze=False, sharex=True)
    for row, name, y in zip(axes, classes, range(len(classes)), strict=True):
        rows = np.flatnonzero(windows.label == y)
        for ax, w in zip(row, rows[np.linspace(0, len(rows) - 1, EACH).astype(int)], strict=True):
            for m in places:
                ax.plot(at, windows.series[w, m], lw=0.8, label=entry.channels[m])
            ax.set_ylim(low, high)
            ax.tick_params(labelsize=6)
        row[0].set_ylabel(name, fontsize=7)
    axes[0, 0].legend(fontsize=5, ncols=3)
    axes[-1, 0].set_xlabel("s" if rate_hz else "steps", fontsize=7)
    count_YS, subjects = _counts(windows, len(classes))
    ax = right.subplots()
    ax.imshow(count_YS, aspect="auto", cmap="Blues", vmax=1.5 * count_YS.max())
    for (y, s), count in np.ndenumerate(count_YS):
        ax.text(s, y, str(count), ha="center", va="center", fontsize=5, color="k")
    ax.set_xticks(range(len(subjects)), ["-" if s < 0 else str(s) for s in subjects], fontsize=6)
    ax.set_yticks(range(len(classes)), classes, fontsize=6)
    ax.set_title("windows, by class and subject", fontsize=7)
    figure.savefig(path, dpi=120)


def _counts(windows: Windows, classes: int) -> tuple[np.ndarray, list[int]]:
    """Windows of each class and subject (Y, S), and the subjects."""
    subjects = np.unique(windows.subject)
    of = [windows.subject[windows.label == y] for y in range(classes)]
    return np.array([[int((own == s).sum()) for s in subjects] for own in of]), subjects.tolist()
