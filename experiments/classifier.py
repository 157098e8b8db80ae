"""A finished trial as a classifier of raw windows, from the series alone.

W windows, M channels, T steps, Y classes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments import baselines
from experiments.data.side import Side
from experiments.metrics import encode
from experiments.probe import Blocks, Linear, blocks
from model import checkpoint

PROBE = Path("model/probe.npz")


class Classifier(NamedTuple):
    """classes: names; features: windows to the blocks that the probe reads."""

    classes: tuple[str, ...]
    features: Callable[[Side], Blocks]
    probe: Linear

    def scores(self, x_WMT: np.ndarray, device: str = "cpu") -> np.ndarray:
        """One of each class (W, Y) for raw windows; a class that no training window had gets -inf."""
        side = _side(x_WMT, device)
        score_WY = np.full((len(side), len(self.classes)), -np.inf)
        score_WY[:, self.probe.classes] = self.probe.scores(self.features(side))
        return score_WY

    def predict(self, x_WMT: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Numbers of classes (W,)."""
        return self.scores(x_WMT, device).argmax(1)


def keep(probe: Linear, folder: Path) -> None:
    """Beside the model of the trial that writes into `folder`."""
    (folder / PROBE).parent.mkdir(exist_ok=True)
    np.savez(folder / PROBE, **probe._asdict())


def load(folder: Path, device: str = "cpu") -> Classifier:
    """The classifier of the finished trial in `folder`.

    Raises FileNotFoundError for a trial that kept none, ValueError for one that is broken.
    """
    result = json.loads((folder / "result.json").read_bytes())
    kind = result["config"]["baseline"]
    if kind not in KINDS:
        raise FileNotFoundError(f"{folder}: trials of the baseline {kind} keep no model")
    if not (folder / PROBE).is_file():
        raise FileNotFoundError(f"{folder / PROBE} is missing: an older ShapeLex wrote this trial")
    with np.load(folder / PROBE, allow_pickle=False) as found:
        probe = Linear(**found)
    return Classifier(tuple(result["data"]["classes"]), KINDS[kind](folder, result, device), probe)


def _core(folder: Path, result: dict[str, Any], device: str) -> Callable[[Side], Blocks]:
    model = checkpoint.from_pretrained(folder / "model").to(device)
    name = result["config"]["probe"]["representation"]
    return lambda side: blocks(encode(model, side).features)[name]


def _statistics(folder: Path, result: dict[str, Any], device: str) -> Callable[[Side], Blocks]:
    return lambda side: [baselines.statistics(side)]


KINDS: dict[str, Callable[[Path, dict[str, Any], str], Callable[[Side], Blocks]]] = {
    "none": _core,
    "statistics": _statistics,
}


def _side(x_WMT: np.ndarray, device: str) -> Side:
    """Windows without labels or people. Raises ValueError for another shape, and for what is not finite."""
    x = np.asarray(x_WMT, dtype=np.float32)
    if x.ndim != 3 or not len(x):
        raise ValueError(f"expected windows (W, channels, steps), found shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("expected finite numbers")
    none = np.full(len(x), -1)
    return Side(torch.from_numpy(x).to(device), np.arange(len(x)), none, none, device)
