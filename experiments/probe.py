"""The ridge probe on frozen series-only representations: one problem for all its penalties.

W windows, F features of the first block, S of all further ones, Z = F + S, Y columns of targets, V = Y + S.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.preprocessing import LabelBinarizer, StandardScaler

from experiments.metrics import macro_f1, scores

Blocks = list[np.ndarray]  # the features of the same windows, (W, F_b) each


def blocks(features: dict[str, np.ndarray]) -> dict[str, Blocks]:
    """Each representation, and beside it the windows' `scale` where the model keeps that."""
    beside = [features["scale"]] if "scale" in features else []
    return {name: [x_WF, *beside] for name, x_WF in features.items() if name != "scale"}


class RidgePath:
    """Ridge regression of +-1 targets on standardised blocks, with a penalty p_b for each block:

        min over w, c of |y - c - sum_b x_b w_b|^2 + sum_b p_b |w_b|^2

    Blocks after the first are eliminated. With ridge(v) the weights and rest(v) the residual of v regressed
    on the first block alone,

        w_2 = (x_2' rest(x_2) + p_2)^-1 x_2' rest(y),    w_1 = ridge(y) - ridge(x_2) w_2

    so each p_1 costs one Cholesky factorisation and each p_2 a system of S unknowns. With one block this is
    StandardScaler and RidgeClassifier. Raises ValueError where a feature is not finite.
    """

    def __init__(self, x: Blocks, label_W: np.ndarray) -> None:
        self.widths = [block.shape[1] for block in x]
        self.scalers = [StandardScaler().fit(np.asarray_chkfinite(block, dtype=float)) for block in x]
        self.binarizer = LabelBinarizer(neg_label=-1)  # knows the classes that these windows have
        target_WY = self.binarizer.fit_transform(label_W)
        self.intercept_Y = target_WY.mean(0)
        self.x_WF, rest_WS = np.split(self.standardised(x), self.widths[:1], axis=1)
        v_WV = np.hstack([target_WY - self.intercept_Y, rest_WS])
        self.cross_SF, self.cross_SV = rest_WS.T @ self.x_WF, rest_WS.T @ v_WV
        self.dual = len(self.x_WF) < self.widths[0]
        self.gram = self.x_WF @ self.x_WF.T if self.dual else self.x_WF.T @ self.x_WF
        self.right = v_WV if self.dual else self.x_WF.T @ v_WV

    def standardised(self, x: Blocks) -> np.ndarray:
        """Blocks side by side (W, Z), standardised by the windows that the probe is fitted on."""
        pairs = zip(self.scalers, x, strict=True)
        return np.hstack([s.transform(np.asarray_chkfinite(block, dtype=float)) for s, block in pairs])

    def first_block(self, penalty: float) -> np.ndarray:
        """Weights (F, V) of targets and further blocks on the first block alone."""
        system = self.gram.copy()
        system.flat[:: len(system) + 1] += penalty
        solved = cho_solve(cho_factor(system, overwrite_a=True), self.right)
        return self.x_WF.T @ solved if self.dual else solved

    def weights(self, penalties: Sequence[Sequence[float]]) -> Iterator[tuple[tuple[float, ...], np.ndarray]]:
        """(p_1, p_2, ...) and the weights (Z, Y), for all combinations of each block's penalties."""
        targets = len(self.intercept_Y)
        for first in penalties[0]:
            b_FV = self.first_block(first)
            small_SV = self.cross_SV - self.cross_SF @ b_FV
            for others in product(*penalties[1:]):
                system = small_SV[:, targets:] + np.diag(np.repeat(others, self.widths[1:]))
                w_SY = cho_solve(cho_factor(system), small_SV[:, :targets])
                yield (first, *others), np.vstack([b_FV[:, :targets] - b_FV[:, targets:] @ w_SY, w_SY])

    def predict(self, x_WZ: np.ndarray, w_ZY: np.ndarray) -> np.ndarray:
        """Classes (W,) of standardised windows; one that the fitted windows lack is never predicted."""
        return self.binarizer.inverse_transform(x_WZ @ w_ZY + self.intercept_Y)

    def keep(self, w_ZY: np.ndarray) -> "Linear":
        mean, scale = (
            np.concatenate([getattr(s, name) for s in self.scalers]) for name in ("mean_", "scale_")
        )
        return Linear(self.binarizer.classes_, mean, scale, w_ZY, self.intercept_Y)


class Probe(NamedTuple):
    """The chosen penalties, one a block, and macro-F1 on validation."""

    penalties: tuple[float, ...]
    val_macro_f1: float


def tune(
    x_train: Blocks,
    y_train: np.ndarray,
    x_val: Blocks,
    y_val: np.ndarray,
    penalties: tuple[float, ...],
) -> Probe:
    """The penalties with the best macro-F1 on validation; among equals the largest, first block first."""
    path = RidgePath(x_train, y_train)
    val_WZ = path.standardised(x_val)
    tried = [
        Probe(chosen, macro_f1(y_val, path.predict(val_WZ, w_ZY)))
        for chosen, w_ZY in path.weights([penalties] * len(x_train))
    ]
    return max(tried, key=lambda probe: (probe.val_macro_f1, probe.penalties))


class Linear(NamedTuple):
    """A fitted probe as it is kept: classes (Y,), of each feature mean and scale (Z,), weight (Z, Y) and
    intercept (Y,); one column where there are two classes."""

    classes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray

    def scores(self, x: Blocks) -> np.ndarray:
        """One of each class (W, Y): the target of the right class is 1, of the others -1."""
        x_WZ = (np.hstack(x).astype(float) - self.mean) / self.scale
        score_WY = x_WZ @ self.weight + self.intercept
        return np.hstack([-score_WY, score_WY]) if len(self.classes) == 2 else score_WY

    def predict(self, x: Blocks) -> np.ndarray:
        """Classes (W,)."""
        return self.classes[self.scores(x).argmax(1)]


class Tested(NamedTuple):
    """Flat metrics of one representation, the test windows' predicted classes, and what predicted them."""

    metrics: dict[str, float]
    predicted: np.ndarray
    probe: Linear


def test(
    x: tuple[Blocks, Blocks, Blocks],
    y: tuple[np.ndarray, np.ndarray, np.ndarray],
    penalties: tuple[float, ...],
) -> Tested:
    """Tune on validation, fit again on training and validation together, then read the test split once.

    `x` and `y` are (train, val, test).
    """
    probe = tune(x[0], y[0], x[1], y[1], penalties)
    both = [np.concatenate(pair) for pair in zip(x[0], x[1], strict=True)]
    path = RidgePath(both, np.concatenate(y[:2]))
    ((_, w_ZY),) = path.weights([(penalty,) for penalty in probe.penalties])
    predicted = path.predict(path.standardised(x[2]), w_ZY)
    names = ("val/penalty", "val/penalty_scale")
    return Tested(
        {
            "val/macro_f1": probe.val_macro_f1,
            **dict(zip(names, probe.penalties, strict=False)),  # one block has no second penalty
            **{f"test/{name}": value for name, value in scores(y[2], predicted).items()},
        },
        predicted,
        path.keep(w_ZY),
    )
