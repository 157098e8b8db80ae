"""Two pictures of one trial, drawn from test windows: reconstructions with their shapes, and code usage.

W windows, M channels, T steps, K tokens, S shape length, N codes.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.data.side import Side
from model.guided import GuidedVQShape

matplotlib.use("Agg")
PICTURED = 3


@torch.no_grad()
def reconstruction(
    model: GuidedVQShape, side: Side, classes: tuple[str, ...], channels: tuple[str, ...], path: Path
) -> None:
    """The first window of up to three classes, each on its liveliest channel: the series, its
    reconstruction, and every token's shape drawn where it lies."""
    label = side.label
    first = [int(np.flatnonzero(label == y)[0]) for y in range(len(classes)) if (label == y).any()][:PICTURED]
    figure = Figure(figsize=(3.2 * len(first), 2.6), layout="constrained")
    axes = figure.subplots(1, len(first), squeeze=False)[0]
    for ax, w in zip(axes, first, strict=True):
        x_1MT = side.at(np.array([w]))
        series = model.to_series(x_1MT)
        out = model.reconstruct(x_1MT, model.tokenize(x_1MT))
        b, a = divmod(int(series.std(-1).argmax()), series.shape[1])
        steps = series.shape[2]
        ax.plot(series[b, a].cpu(), color="0.3", lw=1.2, label="series")
        ax.plot(out.x_hat[b, a].cpu(), color="C0", lw=1.2, label="reconstruction")
        for k, shape_S in enumerate(out.s_hat[b, :, a].cpu()):
            t, length = float(out.attributes.t[b, k]), float(out.attributes.l[b, k])
            at = np.linspace(t, min(1.0, t + length), len(shape_S)) * (steps - 1)
            ax.plot(at, shape_S, color="C1", lw=0.7, alpha=0.5, label="shapes" if k == 0 else None)
        one_each = len(series) * series.shape[1] == len(channels)
        name = channels[b + a] if one_each else "channels end to end"
        ax.set_title(f"{classes[label[w]]}, {name}", fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].legend(fontsize=6)
    figure.savefig(path, dpi=110)


def code_usage(code: np.ndarray, label: np.ndarray, classes: tuple[str, ...], codes: int, path: Path) -> None:
    """How often each class uses each code, as parts of the class's tokens."""
    usage = np.stack(
        [np.bincount(code[label == y].ravel(), minlength=codes) for y in range(len(classes))]
    ).astype(float)
    usage /= np.maximum(usage.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6, 0.6 + 0.28 * len(classes)), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(usage, aspect="auto", cmap="viridis", interpolation="nearest")
    ax.set_yticks(range(len(classes)), classes, fontsize=7)
    ax.set_xlabel("code", fontsize=8)
    ax.tick_params(labelsize=7)
    figure.colorbar(image, label="part of tokens")
    figure.savefig(path, dpi=110)
