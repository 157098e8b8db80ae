"""Windows of wearable series, what a data set says of itself, and who is on which side of a split.

W windows, M channels, T steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import DataConfig


class Windows(NamedTuple):
    """series (W, M, T) float32; label, subject, session (W,) int64, subject -1 where none is known;
    official (W,) int8: 0 train, 1 test, -1 no official split."""

    series: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    session: np.ndarray
    official: np.ndarray


class Split(NamedTuple):
    """Window indices; no subject and no recording is on two sides (where subjects are known)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class DataSet:
    """One entry of the registry. `files` finds the raw files without importing the package that carries
    them; `read` parses them into windows. samples: a window's length where the set comes pre-cut, else None.
    subjects: how many are known, 0 where none is."""

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    rate_hz: float
    samples: int | None
    subjects: int
    licence: str
    citation: str
    files: Callable[[], list[Path]]
    read: Callable[[list[Path], DataConfig], Windows]

    def window_length(self, config: DataConfig) -> int:
        """Samples of one window."""
        return self.samples if self.samples is not None else round((config.window_s or 0) * self.rate_hz)


def inside_package(package: str, *names: str) -> list[Path]:
    """Files inside an installed package, which is not imported. Raises FileNotFoundError."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package} is not installed")
    root = Path(spec.submodule_search_locations[0])
    files = [root / name for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"package {package} carries no {file.relative_to(root)}")
    return files


def split(windows: Windows, config: DataConfig) -> Split:
    """Deterministic. subject_kfold: test is this fold's subjects, validation the next fold's. official:
    validation is a stratified part of the official training windows (there are no subjects to keep apart).
    """
    if config.split == "official":
        from sklearn.model_selection import StratifiedShuffleSplit

        official = np.flatnonzero(windows.official == 0)
        cut = StratifiedShuffleSplit(1, test_size=config.validation_frac, random_state=0)
        train, val = next(cut.split(official, windows.label[official]))
        test = np.flatnonzero(windows.official == 1)
        return Split(np.sort(official[train]), np.sort(official[val]), test)
    from sklearn.model_selection import GroupKFold

    folds = [test for _, test in GroupKFold(config.folds).split(windows.label, groups=windows.subject)]
    test, val = folds[config.fold], folds[(config.fold + 1) % config.folds]
    rest = np.setdiff1d(np.arange(len(windows.label)), np.concatenate([test, val]))
    return Split(rest, val, test)
