"""Series-only representations of windows, and the numbers that a trial reports beside the probe's.

W windows, F features, N codes. docs/metrics.md has a line for each name.
"""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score
from torch import Tensor
from torch.nn.functional import mse_loss

from experiments.data.side import Side
from model.guided import GuidedVQShape
from model.representations import Tokens

BATCH = 128  # windows a pass; evaluation is per series, so the size changes no number's meaning


class Encoded(NamedTuple):
    """features: {representation: (W, F)}; code (W, B/W x K) numbers, None without a codebook; the tokens that
    they are read from, a pass at a time."""

    features: dict[str, np.ndarray]
    code: np.ndarray | None
    tokens: list[Tokens]


@torch.no_grad()
def encode(model: GuidedVQShape, side: Side) -> Encoded:
    """The series-only path over raw windows, in evaluation mode; no decoder runs."""
    model.eval()
    features: dict[str, list[np.ndarray]] = {}
    tokens, codes = [], []
    for x in side.split(BATCH):
        tokens.append(model.tokenize(x))
        for name, value in model.features(x, tokens[-1]).items():
            features.setdefault(name, []).append(value.cpu().numpy())
        code = tokens[-1].quantized.code
        if code is not None:
            codes.append(code.reshape(len(x), -1).cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in features.items()}
    return Encoded(joined, np.concatenate(codes) if codes else None, tokens)


@torch.no_grad()
def series_mse(model: GuidedVQShape, side: Side, tokens: list[Tokens]) -> float:
    """Mean squared error of standardised series rebuilt from `encode`'s tokens; no shape is decoded."""
    model.eval()
    total = 0.0
    for x, found in zip(side.split(BATCH), tokens, strict=True):
        series = model.to_series(x)
        total += len(x) * float(mse_loss(model.core.decode_series(series, found.coded()), series))
    return total / len(side)


def series_r2(model: GuidedVQShape, side: Side, mse: float) -> float:
    """1 - series MSE over that of drawing each series' own mean on each of its axes: 0 where nothing of what
    happens within a window comes back."""
    total = 0.0
    for x in side.split(BATCH):
        total += len(x) * float(model.to_series(x).var(-1, correction=0).mean())
    return 1 - mse / max(total / len(side), 1e-12)


class Errors(NamedTuple):
    """Mean squared errors per sample of standardised series: of the series, of its shapes, and of the series
    with its codes shuffled among a pass's tokens."""

    series_mse: float
    shape_mse: float
    series_mse_shuffled_codes: float


@torch.no_grad()
def errors(model: GuidedVQShape, side: Side, tokens: list[Tokens]) -> Errors:
    """Everything that the decoders make of `encode`'s tokens."""
    model.eval()
    shuffle, sums = torch.Generator().manual_seed(0), np.zeros(3)
    for x, found in zip(side.split(BATCH), tokens, strict=True):
        series, out = model.to_series(x), model.reconstruct(x, found)
        a = out.attributes
        x_shuffled = model.core.decode_series(series, a._replace(z=shuffled(a.z, shuffle)))
        means = (
            mse_loss(out.x_hat, series),
            mse_loss(out.s_hat, model.core.true_shapes(series, a)),
            mse_loss(x_shuffled, series),
        )
        sums += len(x) * np.array([float(mean) for mean in means])
    return Errors(*(sums / len(side)).tolist())


def shuffled(z_BKC: Tensor, generator: torch.Generator) -> Tensor:
    """Codes dealt anew among all tokens of all series."""
    order = torch.randperm(z_BKC.shape[0] * z_BKC.shape[1], generator=generator).to(z_BKC.device)
    return z_BKC.flatten(0, 1)[order].view_as(z_BKC)


def macro_f1(y: np.ndarray, predicted: np.ndarray) -> float:
    """Unweighted mean F1 of the classes that `y` has: a subject that never rode a bicycle is not marked down
    for it, and windows taken for bicycle rides still miss their own class."""
    return float(f1_score(y, predicted, labels=np.unique(y), average="macro"))


def scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "macro_f1": macro_f1(y, predicted),
        "accuracy": float(accuracy_score(y, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(y, predicted)),
    }


def per_class(y: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """F1 of each class that `y` has."""
    found = np.unique(y)
    values = f1_score(y, predicted, labels=found, average=None)
    return {names[label]: float(value) for label, value in zip(found, values, strict=True)}


def per_subject(y: np.ndarray, predicted: np.ndarray, subject: np.ndarray) -> dict[str, float]:
    """Macro-F1 of each test subject; empty where no subjects are known."""
    known = [int(s) for s in np.unique(subject) if s >= 0]
    return {str(s): macro_f1(y[subject == s], predicted[subject == s]) for s in known}


def confusion(y: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Rows are true classes, columns predicted ones."""
    return confusion_matrix(y, predicted, labels=range(classes)).tolist()


def spans(tokens: list[Tokens]) -> dict[str, float]:
    """Where `encode`'s tokens lie: start and length, in parts of the series, over all tokens, and how much of
    a series lies under any token, mean over series."""
    t_BK, l_BK = (
        torch.cat([getattr(a, name)[..., 0] for a, _ in tokens]).double().cpu().numpy() for name in "tl"
    )
    order = t_BK.argsort(1)
    start_BK, end_BK = (np.take_along_axis(v, order, 1) for v in (t_BK, np.minimum(t_BK + l_BK, 1)))
    reached_BK = np.maximum.accumulate(end_BK, 1)
    start_BK[:, 1:] = np.maximum(start_BK[:, 1:], reached_BK[:, :-1])
    return {
        "tokens/t_mean": float(t_BK.mean()),
        "tokens/t_sd": float(t_BK.std()),
        "tokens/l_mean": float(l_BK.mean()),
        "tokens/l_sd": float(l_BK.std()),
        "tokens/covered_frac": float(np.maximum(end_BK - start_BK, 0).sum(1).mean()),
    }


def code_health(model: GuidedVQShape, code: np.ndarray | None) -> dict[str, float]:
    """Use of the codebook on the windows given; nothing without one. A duplicate is a code no
    farther from another than a tenth of the codes' mean distance."""
    book = model.core.codebook.codes()
    if code is None or book is None:
        return {}
    codes_NC = book.detach().cpu().numpy()
    counts = np.bincount(code.ravel(), minlength=len(codes_NC))
    p = counts / counts.sum()
    used = p[p > 0]
    distance = np.linalg.norm(codes_NC[:, None] - codes_NC[None], axis=-1)
    off = distance[~np.eye(len(distance), dtype=bool)].reshape(len(distance), -1)
    return {
        "codes/perplexity": float(np.exp(-(used * np.log(used)).sum())),
        "codes/used": float(len(used)),
        "codes/dead_frac": float((counts == 0).mean()),
        "codes/duplicate_frac": float((off.min(1) <= 0.1 * off.mean()).mean()),
    }
