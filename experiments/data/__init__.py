"""Data sets by name. Adding one is one file here and one line in DATASETS."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data.basic_motions import BASIC_MOTIONS
from experiments.data.spar import SPAR
from experiments.data.windows import DataSet, Split, Windows, split
from experiments.identity import digest

DATASETS: dict[str, DataSet] = {entry.name: entry for entry in (BASIC_MOTIONS, SPAR)}
READER_VERSION = 1  # raise it when a reader's output changes: the data digest and the cache follow

__all__ = ["DATASETS", "DataSet", "Split", "Windows", "data_digest", "load", "split"]


def data_digest(raw: str) -> str:
    """Identity of the windows a reader makes: the raw files' digest and the readers' version."""
    return digest({"raw": raw, "reader": READER_VERSION})


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
