"""UCI HAR: six activities of thirty people with a phone on the waist, in windows of 2.56 s that overlap by
half.

https://archive.ics.uci.edu/dataset/240, unpacked to the folder "UCI HAR Dataset" below the data folder. For
each side of the official split (21 people train, 9 test): nine files of Inertial Signals with a window of 128
numbers a line, and y and subject with one number a line. What the files don't say: which recording a window
comes from. People repeat activities, so a session here is a run of windows of one person and one activity.
`body_acc` is `total_acc` less its part below 0.3 Hz (the authors' gravity), so the two share their motion.

W windows, T steps.
"""

from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data import table
from experiments.data.cut import resize
from experiments.data.windows import DataError, DataSet, Raw, Windows, counted, inside_folder

ORIGIN = "https://archive.ics.uci.edu/dataset/240 (the zip inside the zip)"
CLASSES = ("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "laying")
SENSORS = {"bodyacc": "body_acc", "gyro": "body_gyro", "acc": "total_acc"}  # ours: theirs
SAMPLES = 128
SIDES = ("train", "test")


def _names(side: str) -> list[str]:
    signals = [f"{sensor}_{axis}" for sensor in SENSORS.values() for axis in "xyz"]
    inertial = [f"{side}/Inertial Signals/{signal}_{side}.txt" for signal in signals]
    return [f"{side}/y_{side}.txt", f"{side}/subject_{side}.txt", *inertial]


def files(root: Path) -> list[Path]:
    return inside_folder(root / "UCI HAR Dataset", [name for side in SIDES for name in _names(side)], ORIGIN)


def read(paths: list[Path], config: DataConfig) -> Raw:
    half = len(paths) // len(SIDES)
    sides = [_side(paths[first : first + half]) for first in (0, half)]
    series, label, subject = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    official = np.repeat(np.arange(len(SIDES), dtype=np.int8), [len(side[1]) for side in sides])
    new = (np.diff(label) != 0) | (np.diff(subject) != 0) | (np.diff(official) != 0)
    session = np.concatenate([[0], np.cumsum(new)])
    windows = Windows(resize(series, config), label, subject, session, official)
    return Raw(windows, counted(subject), {})


def _side(paths: list[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series (W, 9, T), label and subject (W,) of one side."""
    activity, subject = (_numbers(path, highest) for path, highest in zip(paths[:2], (6, 30), strict=True))
    signals = [table.matrix(path, SAMPLES) for path in paths[2:]]
    for path, found in zip(paths[1:], [subject, *signals], strict=True):
        if len(found) != len(activity):
            raise DataError(path, None, f"{len(found)} lines, and {paths[0].name} has {len(activity)}")
    return np.stack(signals, axis=1), activity - 1, subject


def _numbers(path: Path, highest: int) -> np.ndarray:
    found = table.whole(path, table.matrix(path, 1)[:, 0])
    wrong = np.flatnonzero((found < 1) | (found > highest))
    if len(wrong):
        raise DataError(path, int(wrong[0]) + 1, f"{found[wrong[0]]} is not from 1 to {highest}")
    return found


UCI_HAR = DataSet(
    name="uci_har",
    kind="windows",
    classes=CLASSES,
    channels=tuple(f"{sensor}_{axis}" for sensor in SENSORS for axis in "xyz"),
    rate_hz=50.0,
    samples=SAMPLES,
    subjects=30,
    official=True,
    placement="a smartphone on the waist",
    units={"bodyacc": "g", "gyro": "rad/s", "acc": "g"},
    licence="not for commercial use, with the citation, as its README says",
    citation="Anguita et al. 2012, Human activity recognition on smartphones using a multiclass "
    "hardware-friendly support vector machine, IWAAL",
    origin=ORIGIN,
    files=files,
    read=read,
)
