"""PAMAP2: twelve activities of nine people with inertial units on wrist, chest and ankle, at 100 Hz.

https://archive.ics.uci.edu/dataset/231, unpacked so that PAMAP2_Dataset/Protocol/subject101.dat to
subject109.dat lie below the data folder. 54 numbers a line between blanks: time (s), activity, heart rate,
then for hand, chest and ankle temperature, acceleration (+-16 g), acceleration (+-6 g), angular rate,
magnetic field and orientation. Left out, as its readme advises: the +-6 g sensor (saturates) and orientation
(invalid); also heart rate and temperature, which are no motion. The optional activities (other files) are
left out.

Known faults. Wireless units lose samples (NaN): gaps of up to 0.2 s are interpolated, samples in longer ones
are in no window. Activity 0 is what people did in between, and hides where aborted recordings were joined: in
no window. Time that jumps starts a new recording. Not everyone did everything: some activities of some people
are missing.

R samples.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import DataConfig
from experiments.data import table
from experiments.data.cut import cut, filled
from experiments.data.windows import DataError, DataSet, Person, Raw, Recording, inside_folder

ORIGIN = "https://archive.ics.uci.edu/dataset/231 (the zip inside the zip)"
RATE_HZ = 100.0
COLUMNS = 54
LONGEST_GAP = 20  # samples: less than half a step of a runner
JUMP_S = 0.05
ACTIVITIES = {  # the number in the file: our class
    1: "lying",
    2: "sitting",
    3: "standing",
    4: "walking",
    5: "running",
    6: "cycling",
    7: "nordic_walking",
    12: "ascending_stairs",
    13: "descending_stairs",
    16: "vacuum_cleaning",
    17: "ironing",
    24: "rope_jumping",
}
NO_CLASS = (0, 9, 10, 11, 18, 19, 20)  # in between, and the optional activities
FIRST = {"hand": 3, "chest": 20, "ankle": 37}  # column of each unit's temperature
OFFSET = {"acc": 1, "gyro": 7, "mag": 10}
# subjectInformation.pdf; age and body mass index have the means and deviations of readme.pdf (27.22 +- 3.31
# years, 25.11 +- 2.62 kg/m^2)
TABLE = {
    101: (27, 182, 83, "right"),
    102: (25, 169, 78, "right"),
    103: (31, 187, 92, "right"),
    104: (24, 194, 95, "right"),
    105: (26, 180, 73, "right"),
    106: (26, 183, 69, "right"),
    107: (23, 173, 86, "right"),
    108: (32, 179, 87, "left"),
    109: (31, 168, 65, "right"),
}
PEOPLE: dict[int, Person] = {
    subject: {"age_years": age, "height_cm": height, "weight_kg": weight, "hand": hand}
    for subject, (age, height, weight, hand) in TABLE.items()
}


def files(root: Path) -> list[Path]:
    return inside_folder(
        root / "PAMAP2_Dataset", [f"Protocol/subject{subject}.dat" for subject in TABLE], ORIGIN
    )


def read(paths: list[Path], config: DataConfig) -> Raw:
    return cut((part for path in paths for part in recordings(path)), config, RATE_HZ, PEOPLE)


def recordings(path: Path) -> Iterator[Recording]:
    """One person's file, parted where time jumps."""
    time_s, activity, series = _columns(path)
    place = np.full(max(*ACTIVITIES, *NO_CLASS) + 1, -2)
    place[list(NO_CLASS)] = -1
    place[list(ACTIVITIES)] = np.arange(len(ACTIVITIES))
    known = (activity >= 0) & (activity < len(place))
    label = np.where(known, place[np.where(known, activity, 0)], -2)
    if len(unknown := np.flatnonzero(label == -2)):
        raise DataError(path, int(unknown[0]) + 1, f"activity {activity[unknown[0]]} is unknown")
    step_s = np.diff(time_s)
    jumps = np.flatnonzero((step_s <= 0) | (step_s > JUMP_S)) + 1
    for first, end in zip([0, *jumps], [*jumps, len(label)], strict=True):
        part = filled(series[first:end].T, longest=LONGEST_GAP).T
        gap = np.isnan(part).any(axis=1)
        yield Recording(
            part.astype(np.float32),
            np.where(gap, -1, label[first:end]),
            int(path.stem.removeprefix("subject")),
        )


def _columns(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time and activity (R,), series (R, 27) with NaN where a unit lost a sample."""
    import pandas as pd

    shape: dict[str, Any] = {"header": None, "names": range(COLUMNS), "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of a first line that is too long
            frame = pd.read_csv(path, sep=r"\s+", dtype=np.float64, **shape)
    except (ValueError, pd.errors.ParserWarning):  # pandas' own errors are ValueErrors
        raise table.fault(path, COLUMNS, gaps=True) from None
    if not len(frame):
        raise DataError(path, None, "this file is empty")
    # pandas fills up a short line with NaN, and a download that broke off ends in one
    if (found := len(table.last_line(path).split())) != COLUMNS:
        raise DataError(path, len(frame), f"{found} values, and there should be {COLUMNS}")
    values = frame.to_numpy()
    # a unit loses all of a sample, so a line whose last value alone is missing was a value short
    if len(short := np.flatnonzero(np.isnan(values[:, -1]) & ~np.isnan(values[:, -2]))):
        raise DataError(path, int(short[0]) + 1, f"{COLUMNS - 1} values, and there should be {COLUMNS}")
    if not np.isfinite(values[:, :2]).all():
        line = int(np.flatnonzero(~np.isfinite(values[:, :2]).all(axis=1))[0]) + 1
        raise DataError(path, line, "this line has no time or no activity")
    sensors = [FIRST[unit] + OFFSET[sensor] for unit in FIRST for sensor in OFFSET]
    series = values[:, [start + axis for start in sensors for axis in range(3)]]
    return values[:, 0], table.whole(path, values[:, 1]), series


PAMAP2 = DataSet(
    name="pamap2",
    kind="recordings",
    classes=tuple(ACTIVITIES.values()),
    channels=tuple(f"{unit}_{sensor}_{axis}" for unit in FIRST for sensor in OFFSET for axis in "xyz"),
    rate_hz=RATE_HZ,
    subjects=len(TABLE),
    placement="inertial sensors on the wrist and ankle of the dominant side and on the chest",
    units={"acc": "m/s^2", "gyro": "rad/s", "mag": "uT"},
    licence="CC BY 4.0",
    citation="Reiss and Stricker 2012, Introducing a new benchmarked dataset for activity monitoring, ISWC",
    origin=ORIGIN,
    files=files,
    read=read,
)
