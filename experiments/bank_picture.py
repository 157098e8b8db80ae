"""The similarity of a bank's sub-actions as a picture, the proposed merges outlined."""

from pathlib import Path
from textwrap import fill, shorten

import matplotlib
import seaborn
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.bank_check import MERGE_COSINE, Similarity

matplotlib.use("Agg")
INCH_A_ROW = 0.16
LABEL = 60  # letters of a row's name


def draw(found: Similarity, path: Path) -> None:
    """A PNG. Red outlines: merges to decide; white: those that the bank's `concepts` made already."""
    side = 3.5 + INCH_A_ROW * len(found.order)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    ax = figure.subplots()
    phrases = [found.phrases[r] for r in found.order]
    names = [shorten(f"{phrase.label}: {phrase.text}", LABEL, placeholder="...") for phrase in phrases]
    seaborn.heatmap(
        found.cosine[found.order][:, found.order],
        ax=ax, vmax=1, cmap="viridis", square=True, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "cosine", "shrink": 0.5},
    )  # fmt: skip
    place = {int(r): i for i, r in enumerate(found.order)}
    for merge in found.merges:
        first, size = min(place[r] for r in merge.rows), len(merge.rows)
        colour = "white" if merge.done else "red"
        ax.add_patch(Rectangle((first, first), size, size, fill=False, edgecolor=colour, lw=1.5))
    ax.tick_params(labelsize=6, length=0)
    title = f"Sub-actions, mean-pooled MiniLM; outlined: cosine of {MERGE_COSINE} and above"
    figure.suptitle(fill(title, round(11 * side)), fontsize=9)  # about 11 such letters an inch
    figure.savefig(path, dpi=110)
