"""USC-HAD: twelve activities of fourteen people with a motion sensor at the front right hip, at 100 Hz.

https://sipi.usc.edu/had/, unpacked so that USC-HAD/Subject1/a1t1.mat to USC-HAD/Subject14/a12t5.mat lie below
the data folder: a MATLAB file for each person, activity (a) and trial (t), all 840 of them. `sensor_readings`
has a row for each sample: acceleration (g), angular rate (degrees/s). Everything else is text: subject, age,
height ("185cm"), weight ("78kg"), activity, activity_number, trial, sensor_location.

Known fault: some files spell activity_number `activity_numbr`. The file's name says the activity, and a field
that says another is an error.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import cut
from experiments.data.windows import DataError, DataSet, Person, Raw, Recording, inside_folder

ORIGIN = "https://sipi.usc.edu/had/"
RATE_HZ = 100.0
CLASSES = (
    "walking_forward",
    "walking_left",
    "walking_right",
    "walking_upstairs",
    "walking_downstairs",
    "running_forward",
    "jumping_up",
    "sitting",
    "standing",
    "sleeping",
    "elevator_up",
    "elevator_down",
)
SUBJECTS, TRIALS = 14, 5
FIELDS = {"age": "age_years", "height": "height_cm", "weight": "weight_kg"}  # theirs: ours


def _names() -> list[str]:
    return [
        f"Subject{subject}/a{activity}t{trial}.mat"
        for subject in range(1, SUBJECTS + 1)
        for activity in range(1, len(CLASSES) + 1)
        for trial in range(1, TRIALS + 1)
    ]


def files(root: Path) -> list[Path]:
    return inside_folder(root / "USC-HAD", _names(), ORIGIN)


def read(paths: list[Path], config: DataConfig) -> Raw:
    recordings: list[Recording] = []
    people: dict[int, Person] = {}
    for path in paths:
        recording, person = _one(path)
        recordings.append(recording)
        people[recording.subject] = person | people.get(recording.subject, {})
    return cut(recordings, config, RATE_HZ, {subject: person for subject, person in people.items() if person})


def _one(path: Path) -> tuple[Recording, Person]:
    from scipy.io import loadmat

    try:
        fields: dict[str, Any] = loadmat(str(path))
    except Exception as error:  # it raises whatever its parser trips over
        raise DataError(
            path, None, f"this is no whole MATLAB file ({error}): get it from {ORIGIN}"
        ) from error
    if "sensor_readings" not in fields:
        raise DataError(path, None, "no field sensor_readings")
    series = np.asarray(fields["sensor_readings"])
    if series.ndim != 2 or series.shape[1] != 6 or not len(series) or series.dtype.kind not in "fiu":
        found = " x ".join(map(str, series.shape))
        raise DataError(path, None, f"sensor_readings is {found}, and should be rows of six numbers")
    if not np.isfinite(series).all():
        raise DataError(path, None, "sensor_readings has values that are no finite numbers")
    activity = int(path.stem.partition("t")[0].removeprefix("a"))
    said = _number(fields, "activity_number", "activity_numbr")
    if said != activity:
        raise DataError(path, None, f"its name says activity {activity}, its field activity_number {said}")
    label = np.full(len(series), activity - 1)
    recording = Recording(series.astype(np.float32), label, int(path.parent.name.removeprefix("Subject")))
    known = {ours: _number(fields, theirs) for theirs, ours in FIELDS.items()}
    return recording, {name: value for name, value in known.items() if value is not None}


def _number(fields: dict[str, Any], *names: str) -> float | None:
    """What a field of text says before its unit; None where there is no such field, or no number in it."""
    for name in names:
        if name in fields and np.size(fields[name]):
            found = re.match(r"\s*(\d+(?:\.\d+)?)", str(np.ravel(fields[name])[0]))
            return float(found.group(1)) if found else None
    return None


USC_HAD = DataSet(
    name="usc_had",
    kind="recordings",
    classes=CLASSES,
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    rate_hz=RATE_HZ,
    subjects=SUBJECTS,
    placement="a motion sensor at the front right hip",
    units={"acc": "g", "gyro": "deg/s"},
    licence="freely available, as its paper says",
    citation="Zhang and Sawchuk 2012, USC-HAD: a daily activity dataset for ubiquitous activity recognition "
    "using wearable sensors, UbiComp workshop SAGAware",
    origin=ORIGIN,
    files=files,
    read=read,
)
