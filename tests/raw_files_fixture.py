"""Small raw files in exactly the format in which the authors of each data set publish theirs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from experiments.data import motion_sense, pamap2, usc_had
from experiments.data.windows import DataError


def fails(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


def uci_har(root: Path, people: dict[str, list[int]], activities: list[int], copies: int = 1) -> Path:
    """On each side: each person does each activity for `copies` windows. A window's values are
    side + 10 line + sensor + step / 1000, counted from 0."""
    folder = root / "UCI HAR Dataset"
    for number, (side, subjects) in enumerate(people.items()):
        (folder / side / "Inertial Signals").mkdir(parents=True)
        lines = [(s, a) for s in subjects for a in activities for _ in range(copies)]
        (folder / side / f"subject_{side}.txt").write_text("".join(f"{s}\n" for s, _ in lines))
        (folder / side / f"y_{side}.txt").write_text("".join(f"{a}\n" for _, a in lines))
        for sensor, name in enumerate(["body_acc", "body_gyro", "total_acc"]):
            for axis in "xyz":
                rows = [
                    "".join(f" {number + 10 * line + sensor + t / 1000:15.7e}" for t in range(128))
                    for line in range(len(lines))
                ]
                path = folder / side / "Inertial Signals" / f"{name}_{axis}_{side}.txt"
                path.write_text("".join(f"{row}\n" for row in rows))
    return folder


def pamap2_line(time_s: float, activity: int, value: float, **columns: str) -> str:
    """54 values: column i of a unit is value + i / 100; c37 and the like set single columns."""
    cells = [f"{time_s:.2f}", str(activity), "NaN", *(f"{value + i / 100:g}" for i in range(3, 54))]
    for name, text in columns.items():
        cells[int(name[1:])] = text
    return " ".join(cells) + "\n"


def pamap2_files(root: Path, lines: dict[int, list[str]]) -> Path:
    """A file for each of the nine; whoever isn't given stands for 0.02 s."""
    folder = root / "PAMAP2_Dataset" / "Protocol"
    folder.mkdir(parents=True)
    for subject in pamap2.TABLE:
        rows = lines.get(subject, [pamap2_line(0.01 * t, 3, 0) for t in range(2)])
        (folder / f"subject{subject}.dat").write_text("".join(rows))
    return folder


def wisdm(root: Path, text: str) -> Path:
    folder = root / "WISDM_ar_v1.1"
    folder.mkdir()
    (folder / "WISDM_ar_v1.1_raw.txt").write_text(text)
    return folder / "WISDM_ar_v1.1_raw.txt"


def usc_had_file(path: Path, readings: np.ndarray, field: str = "activity_number", **others: object) -> None:
    """As published: every field is text, apart from the readings."""
    activity, trial = path.stem.removeprefix("a").split("t")
    subject = path.parent.name.removeprefix("Subject")
    fields = {
        "title": "USC Human Motion Database",
        "version": "1.0",
        "subject": subject,
        "age": "23",
        "height": "185cm",
        "weight": "78kg",
        "activity": "walking-forward",
        field: activity,
        "trial": trial,
        "sensor_location": "front-right-hip",
        "sensor_readings": readings,
    }
    savemat(path, fields | others)


def usc_had_files(root: Path, steps: int) -> Path:
    folder = root / "USC-HAD"
    for subject in range(1, usc_had.SUBJECTS + 1):
        (folder / f"Subject{subject}").mkdir(parents=True)
    for name in usc_had._names():
        subject = int(name.split("/")[0].removeprefix("Subject"))
        usc_had_file(folder / name, np.full((steps, 6), float(subject)))
    return folder


def motion_sense_files(root: Path, steps: int) -> Path:
    """Column c of row i is subject + c + i / 10; the index without a name is column 0."""
    folder = root / "MotionSense"
    folder.mkdir(parents=True)
    people = [f"{code},{60 + code},{160 + code},{20 + code},{code % 2}" for code in range(1, 25)]
    (folder / "data_subjects_info.csv").write_text("\n".join(["code,weight,height,age,gender", *people]))
    names = [f"attitude.{angle}" for angle in ("roll", "pitch", "yaw")]
    names += [
        f"{sensor}.{axis}" for sensor in ("gravity", "rotationRate", "userAcceleration") for axis in "xyz"
    ]
    for short, trials in motion_sense.TRIALS.values():
        for trial in trials:
            (folder / f"A_DeviceMotion_data/{short}_{trial}").mkdir(parents=True)
            for subject in range(1, 25):
                rows = [
                    f"{i},{','.join(f'{subject + c + i / 10:.6f}' for c in range(1, 13))}"
                    for i in range(steps)
                ]
                path = folder / f"A_DeviceMotion_data/{short}_{trial}/sub_{subject}.csv"
                path.write_text("".join(f"{row}\n" for row in [f",{','.join(names)}", *rows]))
    return folder
