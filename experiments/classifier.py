"""A finished trial as a classifier of raw windows, from the series alone.

W windows, M channels, T steps, Y classes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

from experiments import baselines
from experiments.data.side import Side
from experiments.fcn import load_fcn, logits
from experiments.metrics import encode
from experiments.probe import Blocks, Linear, blocks
from model import checkpoint

PROBE = Path("model/probe.npz")


class Classifier(NamedTuple):
    """classes: names; score: windows to one score of each class (W, Y)."""

    classes: tuple[str, ...]
    score: Callable[[Side], np.ndarray]

    def scores(self, x_WMT: np.ndarray, device: str = "cpu") -> np.ndarray:
        """One of each class (W, Y) for raw windows; a class that the probe's windows lack gets -inf."""
        return self.score(_side(x_WMT, device))

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
    return Classifier(tuple(result["data"]["classes"]), KINDS[kind](folder, result, device))


Score = Callable[[Side], np.ndarray]


def _core(folder: Path, result: dict[str, Any], device: str) -> Score:
    model = checkpoint.from_pretrained(folder / "model").to(device)
    name = result["config"]["probe"]["representation"]
    return _probed(folder, result, lambda side: blocks(encode(model, side).features)[name])


def _statistics(folder: Path, result: dict[str, Any], device: str) -> Score:
    return _probed(folder, result, lambda side: [baselines.statistics(side)])


def _fcn(folder: Path, result: dict[str, Any], device: str) -> Score:
    model = load_fcn(folder / "model").to(device)
    return lambda side: logits(model, side).double().numpy()


def read(folder: Path) -> Linear:
    """What `keep` wrote. Raises as `load` does."""
    if not (folder / PROBE).is_file():
        raise FileNotFoundError(f"{folder / PROBE} is missing: an older ShapeLex wrote this trial")
    try:
        with np.load(folder / PROBE, allow_pickle=False) as found:
            return Linear(**found)
    except (BadZipFile, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / PROBE} is broken: {error}") from None


def _probed(folder: Path, result: dict[str, Any], features: Callable[[Side], Blocks]) -> Score:
    probe = read(folder)

    def score(side: Side) -> np.ndarray:
        score_WY = np.full((len(side), len(result["data"]["classes"])), -np.inf)
        score_WY[:, probe.classes] = probe.scores(features(side))
        return score_WY

    return score


KINDS: dict[str, Callable[[Path, dict[str, Any], str], Score]] = {
    "none": _core,
    "statistics": _statistics,
    "fcn": _fcn,
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
