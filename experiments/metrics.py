"""Series-only representations of windows, and the numbers that a trial reports beside the probe's.

W windows, F features, N codes. docs/metrics.md has a line for each name.
"""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score

from model.guided import GuidedVQShape

BATCH = 128  # windows a pass; evaluation is per series, so the size changes no number's meaning


class Encoded(NamedTuple):
    """features: {representation: (W, F)}; code (W, B/W x K) numbers, None without a codebook; mean
    errors per sample of standardised series: of the series, of its shapes, and of the series with its codes
    shuffled among all tokens."""

    features: dict[str, np.ndarray]
    code: np.ndarray | None
    series_mse: float
    shape_mse: float
    series_mse_shuffled_codes: float


@torch.no_grad()
def encode(model: GuidedVQShape, x_WMT: torch.Tensor) -> Encoded:
    """The series-only path over raw windows, in evaluation mode."""
    model.eval()
    shuffle = torch.Generator().manual_seed(0)
    features: dict[str, list[np.ndarray]] = {}
    codes, sums = [], np.zeros(3)
    for x in x_WMT.split(BATCH):
        tokens = model.tokenize(x)
        out = model.reconstruct(x, tokens)
        for name, value in model.features(x, tokens).items():
            features.setdefault(name, []).append(value.cpu().numpy())
        if out.code is not None:
            codes.append(out.code.reshape(len(x), -1).cpu().numpy())
        series, a = model.to_series(x), out.attributes
        order = torch.randperm(a.z.shape[0] * a.z.shape[1], generator=shuffle).to(x.device)
        x_shuffled = model.core.decode_series(series, a._replace(z=a.z.flatten(0, 1)[order].view_as(a.z)))
        errors = (
            torch.nn.functional.mse_loss(out.x_hat, series),
            torch.nn.functional.mse_loss(out.s_hat, model.core.true_shapes(series, a)),
            torch.nn.functional.mse_loss(x_shuffled, series),
        )
        sums += len(x) * np.array([float(e) for e in errors])
    means = sums / len(x_WMT)
    code = np.concatenate(codes) if codes else None
    return Encoded({k: np.concatenate(v) for k, v in features.items()}, code, *means)


def macro_f1(y: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    return float(f1_score(y, predicted, labels=range(classes), average="macro", zero_division=0))


def per_class(y: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    values = f1_score(y, predicted, labels=range(len(names)), average=None, zero_division=0)
    return {name: float(v) for name, v in zip(names, values, strict=True)}


def per_subject(y: np.ndarray, predicted: np.ndarray, subject: np.ndarray, classes: int) -> dict[str, float]:
    """Macro-F1 of each test subject; empty where no subjects are known."""
    known = [int(s) for s in np.unique(subject) if s >= 0]
    return {str(s): macro_f1(y[subject == s], predicted[subject == s], classes) for s in known}


def confusion(y: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Rows are true classes, columns predicted ones."""
    return confusion_matrix(y, predicted, labels=range(classes)).tolist()


def code_health(model: GuidedVQShape, code: np.ndarray | None) -> dict[str, float]:
    """Use of the codebook on the windows given; nothing without one. A duplicate is a code nearer to another
    than a tenth of the codes' mean distance."""
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
        "codes/dead_frac": float((counts == 0).mean()),
        "codes/duplicate_frac": float((off.min(1) < 0.1 * off.mean()).mean()),
    }
