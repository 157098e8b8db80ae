"""SPAR: seven shoulder exercises of ten people with a watch on the wrist; seglearn's data file.

140 recordings (subject x exercise x side) of 20 repetitions, 6 axes at 50 Hz.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import cut
from experiments.data.windows import DataSet, Raw, Recording, inside_package

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


def files(root: Path) -> list[Path]:
    return inside_package("seglearn", "data/watch_dataset.npy")


def read(paths: list[Path], config: DataConfig) -> Raw:
    with paths[0].open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        data = _ArraysOnly(file).load().item()
    recordings = [
        Recording(x, np.full(len(x), int(y)), int(subject))
        for x, y, subject in zip(data["X"], data["y"], data["subject"], strict=True)
    ]
    return cut(recordings, config, RATE_HZ)


SPAR = DataSet(
    name="spar",
    kind="recordings",
    classes=CLASSES,
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    rate_hz=RATE_HZ,
    subjects=10,
    placement="a smart watch on the wrist",
    units={"acc": "g", "gyro": "rad/s"},
    licence="BSD-3-Clause (seglearn)",
    citation="Burns et al. 2018, Shoulder physiotherapy exercise recognition, arXiv 1802.01489",
    origin="package seglearn",
    files=files,
    read=read,
)
