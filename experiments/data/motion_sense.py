"""MotionSense: six activities of 24 people with a phone in the front trouser pocket, at 50 Hz.

https://github.com/mmalekzadeh/motion-sense, folder data: data_subjects_info.csv and the unpacked
A_DeviceMotion_data.zip go into the folder MotionSense below the data folder. A CSV file for each person and
trial, A_DeviceMotion_data/dws_1/sub_1.csv and so on, 15 trials: an index without a name, attitude (roll,
pitch, yaw), gravity, rotationRate and userAcceleration. gravity + userAcceleration is what an accelerometer
shows. Attitude is left out: angles jump by a full turn, and gravity says the part of it that doesn't depend
on where north is.
"""

from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data import table
from experiments.data.cut import cut
from experiments.data.windows import DataError, DataSet, Person, Raw, Recording, inside_folder

ORIGIN = "https://github.com/mmalekzadeh/motion-sense (folder data)"
RATE_HZ = 50.0
TRIALS = {  # class: its name in a folder, its trials
    "walking": ("wlk", (7, 8, 15)),
    "jogging": ("jog", (9, 16)),
    "upstairs": ("ups", (3, 4, 12)),
    "downstairs": ("dws", (1, 2, 11)),
    "sitting": ("sit", (5, 13)),
    "standing": ("std", (6, 14)),
}
SENSORS = {"gravity": "gravity", "gyro": "rotationRate", "useracc": "userAcceleration"}  # ours: theirs
COLUMNS = [f"{sensor}.{axis}" for sensor in SENSORS.values() for axis in "xyz"]
SUBJECTS = 24
INFO = {"age": "age_years", "height": "height_cm", "weight": "weight_kg"}  # theirs: ours
PLACES = {short: place for place, (short, _) in enumerate(TRIALS.values())}


def files(root: Path) -> list[Path]:
    series = [
        f"A_DeviceMotion_data/{short}_{trial}/sub_{subject}.csv"
        for short, trials in TRIALS.values()
        for trial in trials
        for subject in range(1, SUBJECTS + 1)
    ]
    return inside_folder(root / "MotionSense", ["data_subjects_info.csv", *series], ORIGIN)


def read(paths: list[Path], config: DataConfig) -> Raw:
    return cut((_one(path) for path in paths[1:]), config, RATE_HZ, _people(paths[0]))


def _one(path: Path) -> Recording:
    series = table.columns(path, COLUMNS)[COLUMNS].to_numpy()
    if not len(series):
        raise DataError(path, None, f"this file has no sample: get it from {ORIGIN}")
    place = PLACES[path.parent.name.partition("_")[0]]
    return Recording(series, np.full(len(series), place), int(path.stem.removeprefix("sub_")))


def _people(path: Path) -> dict[int, Person]:
    rows = table.columns(path, ["code", *INFO]).to_dict("records")
    return {int(row["code"]): {ours: float(row[theirs]) for theirs, ours in INFO.items()} for row in rows}


MOTION_SENSE = DataSet(
    name="motion_sense",
    kind="recordings",
    classes=tuple(TRIALS),
    channels=tuple(f"{sensor}_{axis}" for sensor in SENSORS for axis in "xyz"),
    rate_hz=RATE_HZ,
    subjects=SUBJECTS,
    placement="a smartphone in the front trouser pocket",
    units={"gravity": "g", "gyro": "rad/s", "useracc": "g"},
    licence="MIT, as its repository says",
    citation="Malekzadeh et al. 2019, Mobile sensor data anonymization, IoTDI, doi 10.1145/3302505.3310068",
    origin=ORIGIN,
    files=files,
    read=read,
)
