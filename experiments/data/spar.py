"""SPAR: seven shoulder exercises of ten people with a watch on the wrist; seglearn's data file.

140 recordings (subject x exercise x side) of 20 repetitions, 6 axes at 50 Hz.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import DataConfig
from experiments.data.windows import DataSet, Windows, inside_package

RATE_HZ = 50.0
CLASSES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
_ALLOWED = {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class _ArraysOnly(pickle.Unpickler):
    """The file is a pickled dict of arrays; nothing but numpy's own array parts may be built from it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refused {module}.{name} in a data file")
        return super().find_class(module, name)


def files() -> list[Path]:
    return inside_package("seglearn", "data/watch_dataset.npy")


def read(paths: list[Path], config: DataConfig) -> Windows:
    """Windows of `window_s` with `overlap_frac`, cut inside one recording each."""
    with paths[0].open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        data = _ArraysOnly(file).load().item()
    assert config.overlap_frac is not None
    length = SPAR.window_length(config)
    step = max(1, round(length * (1 - config.overlap_frac)))
    parts = [
        np.lib.stride_tricks.sliding_window_view(x, length, axis=0)[::step]
        for x in data["X"]
        if len(x) >= length
    ]
    kept = np.array([i for i, x in enumerate(data["X"]) if len(x) >= length])
    session = np.repeat(kept, [len(p) for p in parts])
    return Windows(
        series=np.concatenate(parts).astype(np.float32),
        label=np.asarray(data["y"])[session].astype(np.int64),
        subject=np.asarray(data["subject"])[session].astype(np.int64),
        session=session.astype(np.int64),
        official=np.full(len(session), -1, dtype=np.int8),
    )


SPAR = DataSet(
    name="spar",
    classes=CLASSES,
    channels=("ax", "ay", "az", "wx", "wy", "wz"),
    rate_hz=RATE_HZ,
    samples=None,
    subjects=10,
    licence="BSD-3-Clause (seglearn)",
    citation="Burns et al. 2018, Shoulder physiotherapy exercise recognition, arXiv 1802.01489",
    files=files,
    read=read,
)
