"""Pictures of one trial. At its end, from test windows: reconstructions with their shapes, and code usage.
While it trains, from validation windows: x, s, z, t and l.

W windows, M channels, T steps, K tokens, S shape length, N codes.
"""

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.config import TrainConfig
from experiments.data.side import Side
from model.guided import GuidedVQShape
from model.representations import Tokens

matplotlib.use("Agg")
PICTURED = 3
STEPS = 5


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


def pictured(train: TrainConfig) -> set[int]:
    """The epochs of which a picture is kept: at most STEPS of those that are validated, the last included."""
    every = train.validate_every
    due = sorted({*range(every - 1, train.epochs, every), train.epochs - 1})
    return {due[round(at)] for at in np.linspace(0, len(due) - 1, min(STEPS, len(due)))}


@torch.no_grad()
def progress(model: GuidedVQShape, side: Side, tokens: list[Tokens], epoch: int, folder: Path) -> None:
    """What the model makes of validation windows after an epoch, as `epoch-0009.png`: of the first, on its
    liveliest channel, series x, reconstruction and shapes s; of the first pass's tokens the codes z (z's
    first two numbers where there are none), starts t and lengths l.

    `tokens` are `metrics.encode`'s of `side`.
    """
    x_1MT = side.at(np.array([0]))
    series, (a, q) = model.to_series(x_1MT), tokens[0]
    first = slice(0, len(series))
    quantized = q._replace(z=q.z[first], code=None if q.code is None else q.code[first])
    out = model.reconstruct(x_1MT, Tokens(type(a)(*(value[first] for value in a)), quantized))
    b, axis = divmod(int(series.std(-1).argmax()), series.shape[1])
    x, s_KS = series[b, axis].cpu().numpy(), out.s_hat[b, :, axis].cpu().numpy()
    figure = Figure(figsize=(7.2, 4.2))  # at fixed places: a layout engine draws everything twice
    ax = _panel(figure, (0.05, 0.57, 0.56, 0.35), f"x (grey) and its reconstruction, epoch {epoch}")
    ax.plot(x, color="0.3", lw=1.2)
    ax.plot(out.x_hat[b, axis].cpu(), color="C0", lw=1.2)
    _ticks(ax, len(x) - 1)
    ax = _panel(figure, (0.69, 0.57, 0.29, 0.35), "s: its shapes")
    ax.plot(s_KS.T, color="C1", lw=0.7, alpha=0.6)
    _ticks(ax, s_KS.shape[1] - 1)
    codes = model.config.codes
    if q.code is None:
        ax = _panel(figure, (0.05, 0.1, 0.25, 0.33), "z: first two numbers")
        ax.plot(*q.z[..., :2].flatten(0, 1).cpu().numpy().T, ".", color="C0", ms=2)
    else:
        counts = np.bincount(q.code.flatten().cpu().numpy(), minlength=codes)
        title = f"z: use of codes, {np.count_nonzero(counts)} of {codes}"
        ax = _panel(figure, (0.05, 0.1, 0.25, 0.33), title)
        ax.stairs(counts / counts.sum(), color="C0", fill=True)
        _ticks(ax, codes)
    for left, value, name in ((0.39, a.t, "t: start"), (0.73, a.l, "l: length")):
        counts, edges = np.histogram(value.flatten().cpu().numpy(), bins=25, range=(0, 1))
        ax = _panel(figure, (left, 0.1, 0.25, 0.33), f"{name}, parts of the window")
        ax.stairs(counts / counts.sum(), edges, color="C2", fill=True)
        _ticks(ax, 1)
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / f"epoch-{epoch:04}.png", dpi=100)


def take(source: Path, folder: Path) -> None:
    """The pictures by epoch of another trial, of the same training."""
    for file in sorted(source.glob("epoch-*.png")):
        folder.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / file.name)


def _panel(figure: Figure, place: tuple[float, float, float, float], title: str) -> Axes:
    ax = figure.add_axes(place)
    ax.set_title(title, fontsize=8, y=1.0)  # matplotlib would look for a place, which is a third of the cost
    ax.tick_params(labelsize=6)
    return ax


def _ticks(ax: Axes, end: float) -> None:
    """Two on each axis: each is 3 ms."""
    ax.set_xticks([0, end])
    low, high = ax.get_ylim()
    ax.set_yticks([low, high], [f"{low:.2g}", f"{high:.2g}"])
