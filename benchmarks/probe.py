"""What the probe's choice of a penalty costs, against scikit-learn fitted once for each penalty, in one run.

    python benchmarks/probe.py [--repeats 5] [--real]

ours:    experiments/probe.py, one problem for all penalties
sklearn: StandardScaler and RidgeClassifier for each penalty, in single precision (float32 features as they
         come) and in double precision; a second block times sqrt(p_1 / p_2) has a penalty of its own

Both fit, predict validation and choose by macro-F1, on the same features in one thread; times are CPU time.
Features have the sizes of SPAR's first fold: correlated random ones, or with --real random projections of its
windows.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from experiments import baselines, data, probe
from experiments.config import DataConfig, ProbeConfig
from experiments.metrics import macro_f1

PENALTIES = ProbeConfig().penalties
WIDTHS = (1800, 384)  # like tokens and a histogram of six channels


class Fold(NamedTuple):
    """Blocks of training and validation windows, their labels."""

    x: probe.Blocks
    val_x: probe.Blocks
    y: np.ndarray
    val_y: np.ndarray


def spar_fold(width: int, real: bool) -> Fold:
    """Features (W, width) and twelve statistics of SPAR's first fold."""
    entry = data.DATASETS["spar"]
    config = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")
    windows, amount, _ = entry.read(entry.files(data.root()), config)
    every, rng = data.Side.of(windows, np.arange(len(windows.label)), "cpu"), np.random.default_rng(0)
    train, val, _ = data.split(windows, amount, config)
    if real:
        flat = windows.series.reshape(len(windows.label), -1)
        x = np.tanh(flat @ rng.standard_normal((flat.shape[1], width)) / 30)
    else:
        hidden = rng.standard_normal((len(windows.label), 60))
        hidden += 0.3 * rng.standard_normal((7, 60))[windows.label]
        x = hidden @ rng.standard_normal((60, width)) + rng.standard_normal((len(hidden), width))
    both = [x.astype(np.float32), baselines.statistics(every).astype(np.float32)]
    (x, val_x), label = ([b[rows] for b in both] for rows in (train, val)), windows.label
    return Fold(x, val_x, label[train], label[val])


Predicted = dict[tuple[float, ...], np.ndarray]  # validation's classes at each penalty, or pair of them


def ours(fold: Fold) -> Predicted:
    path = probe.RidgePath(fold.x, fold.y)
    val_WZ = path.standardised(fold.val_x)
    return {chosen: path.predict(val_WZ, w) for chosen, w in path.weights([PENALTIES] * len(fold.x))}


def scikit_learn(fold: Fold, dtype: type[np.floating]) -> Predicted:
    found = {}
    for chosen in product(PENALTIES, repeat=len(fold.x)):
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for x, val_x, penalty in zip(fold.x, fold.val_x, chosen, strict=True):
            scaler = StandardScaler().fit(x.astype(dtype))
            for side, block in zip(sides, (x, val_x), strict=True):
                side.append(scaler.transform(block.astype(dtype)) * dtype(np.sqrt(chosen[0] / penalty)))
        fitted = RidgeClassifier(alpha=chosen[0]).fit(np.hstack(sides[0]), fold.y)
        found[chosen] = fitted.predict(np.hstack(sides[1]))
    return found


def choice(fold: Fold, predicted: Predicted) -> tuple[float, ...]:
    return max(predicted, key=lambda chosen: (macro_f1(fold.val_y, predicted[chosen]), chosen))


def timed(fold: Fold, way: Callable[[Fold], Predicted], repeats: int) -> tuple[float, Predicted]:
    """Median seconds of fitting, predicting and choosing."""
    walls = []
    for _ in range(repeats):
        began = time.process_time()
        predicted = way(fold)
        choice(fold, predicted)
        walls.append(time.process_time() - began)
    return statistics.median(walls), predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--real", action="store_true", help="random projections of SPAR's windows")
    args = parser.parse_args()
    warnings.simplefilter("ignore", LinAlgWarning)  # small penalties strain single precision
    with threadpool_limits(1):
        for width in WIDTHS:
            fold = spar_fold(width, args.real)
            for one in (fold._replace(x=fold.x[:1], val_x=fold.val_x[:1]), fold):
                report(one, args.repeats)


def report(fold: Fold, repeats: int) -> None:
    sizes = " + ".join(str(x.shape[1]) for x in fold.x)
    print(f"\n{len(fold.y)} + {len(fold.val_y)} windows, {sizes} features, median of {repeats}")
    fast, predicted = timed(fold, ours, repeats)
    chosen = choice(fold, predicted)
    tuned = probe.tune(fold.x, fold.y, fold.val_x, fold.val_y, PENALTIES)
    assert tuned.penalties == chosen, (tuned, chosen)
    print(f"ours             {fast:8.3f} s  {len(predicted)} penalties, chosen {chosen}")
    for name, dtype in (("float32", np.float32), ("float64", np.float64)):
        slow, theirs = timed(fold, lambda f, dtype=dtype: scikit_learn(f, dtype), repeats)
        differ = sum(int((predicted[p] != theirs[p]).sum()) for p in predicted)
        same = "same choice" if choice(fold, theirs) == chosen else f"chosen {choice(fold, theirs)}"
        of = len(predicted) * len(fold.val_y)
        print(
            f"sklearn {name}  {slow:8.3f} s  {slow / fast:5.1f}x, {same}, {differ} of {of} predictions differ"
        )


if __name__ == "__main__":
    main()
