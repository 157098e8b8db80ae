"""Data sets by name. Adding one is one file here and one line in DATASETS."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import DataConfig, RunConfig
from experiments.data.basic_motions import BASIC_MOTIONS
from experiments.data.spar import SPAR
from experiments.data.windows import DataSet, Split, Windows, split
from experiments.identity import digest

DATASETS: dict[str, DataSet] = {entry.name: entry for entry in (BASIC_MOTIONS, SPAR)}
READER_VERSION = 1  # raise it when a reader's output changes: the data digest and the cache follow

__all__ = [
    "DATASETS",
    "DataSet",
    "Loaded",
    "Split",
    "Windows",
    "check",
    "data_digest",
    "load",
    "load_split",
    "split",
]


def data_digest(raw: str) -> str:
    """Identity of the windows a reader makes: the raw files' digest and the readers' version."""
    return digest({"raw": raw, "reader": READER_VERSION})


def check(config: RunConfig) -> None:
    """Raise ValueError if the data has no such folds, or the model can't be cut from its windows."""
    entry = DATASETS[config.data.name]
    if config.data.split != "official" and config.data.folds > entry.subjects:
        raise ValueError(
            f"data.folds {config.data.folds} is above the {entry.subjects} subjects of {entry.name}"
        )
    if config.baseline == "none":
        model, channels = config.model, len(entry.channels)
        model.check_length(model.steps(channels, entry.window_length(config.data)))


def load(config: DataConfig, data_digest: str, cache: Path) -> Windows:
    """Windows as memory-mapped arrays, parsed on first use and cached by content."""
    key = digest([data_digest, config.name, config.window_s, config.overlap_frac])[:16]
    folder = cache / "windows" / key
    if not folder.is_dir():
        entry = DATASETS[config.name]
        windows = entry.read(entry.files(), config)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, array in windows._asdict().items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        try:
            os.rename(temporary, folder)
        except OSError:  # another process was first; its folder holds the same content
            shutil.rmtree(temporary)
    return Windows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Windows._fields))


class Loaded(NamedTuple):
    """A trial's windows, raw, with their sides."""

    entry: DataSet
    windows: Windows
    split: Split

    def side(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.windows.series[rows], np.asarray(self.windows.label[rows])

    def describe(self, config: DataConfig) -> dict[str, Any]:
        subjects = {
            f"{side}_subjects": sorted({int(s) for s in self.windows.subject[rows] if s >= 0})
            for side, rows in self.split._asdict().items()
        }
        official = config.split == "official"
        return {
            "name": self.entry.name,
            "classes": list(self.entry.classes),
            "channels": list(self.entry.channels),
            **{f"n_{side}": len(rows) for side, rows in self.split._asdict().items()},
            "validation": "stratified part" if official else "subjects",
            **subjects,
        }


def load_split(config: DataConfig, data_digest: str, cache: Path) -> Loaded:
    windows = load(config, data_digest, cache)
    return Loaded(DATASETS[config.name], windows, split(windows, config))
