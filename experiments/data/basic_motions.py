"""BasicMotions: one smart watch, four motions, 10 s at 10 Hz; the copy inside aeon.

40 training and 40 test windows. Who wore the watch in which window is not published.
"""

from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data.windows import DataSet, Windows, inside_package

CLASSES = ("badminton", "running", "standing", "walking")


def files() -> list[Path]:
    folder = "datasets/data/BasicMotions/BasicMotions_"
    return inside_package("aeon", f"{folder}TRAIN.ts", f"{folder}TEST.ts")


def read(paths: list[Path], config: DataConfig) -> Windows:
    from aeon.datasets import load_from_ts_file

    parts = [load_from_ts_file(str(path)) for path in paths]
    series = np.concatenate([x for x, _ in parts]).astype(np.float32)
    label = np.array([CLASSES.index(str(name).lower()) for _, y in parts for name in y])
    official = np.repeat(np.arange(2, dtype=np.int8), [len(y) for _, y in parts])
    return Windows(series, label, np.full(len(label), -1), np.arange(len(label)), official)


BASIC_MOTIONS = DataSet(
    name="basic_motions",
    classes=CLASSES,
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    rate_hz=10,
    samples=100,
    subjects=0,
    licence="UEA archive, free for research",
    citation="Bagnall et al. 2018, The UEA multivariate time series classification archive, arXiv 1811.00075",
    files=files,
    read=read,
)
