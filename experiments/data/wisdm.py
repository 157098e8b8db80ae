"""WISDM v1.1: six activities of 36 people with a phone in the front trouser pocket, at 20 Hz.

https://www.cis.fordham.edu/wisdm/dataset.php, unpacked so that WISDM_ar_v1.1/WISDM_ar_v1.1_raw.txt lies below
the data folder. A record is `user,activity,time,x,y,z;`, time in ns of the phone's clock, acceleration in
m/s^2 with gravity (10 is 1 g). Nominally one record every 50 ms; the phone's own spacing varies, and is left
as it is.

Known faults. Several records on one line are all taken; so are those without a semicolon or with one comma
too many. Records that lack a value are skipped. Records of time 0 belong nowhere and are skipped. More than 1
s without a record, or time that runs back, starts a new recording. If over 5 % can't be read this is another
file.

R records.
"""

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import cut
from experiments.data.windows import DataError, DataSet, Raw, Recording, inside_folder

ORIGIN = "https://www.cis.fordham.edu/wisdm/dataset.php (WISDM_ar_latest.tar.gz)"
RATE_HZ = 20.0
GAP_S = 1.0
UNREADABLE_FRAC = 0.05
CLASSES = ("walking", "jogging", "upstairs", "downstairs", "sitting", "standing")
PEOPLE = 36
_ACTIVITY = rb"(?:%s)" % b"|".join(name.capitalize().encode() for name in CLASSES)
_NUMBER = rb"\s*[-+]?[0-9.]+(?:[eE][-+]?\d+)?\s*"
_RECORD = re.compile(rb"\s*\d+,%s,\d+,%s,%s,%s,?\s*" % (_ACTIVITY, _NUMBER, _NUMBER, _NUMBER))


class Records(NamedTuple):
    """user, label, time_ns (R,), acceleration (R, 3), in the file's order; and how many were left out."""

    user: np.ndarray
    label: np.ndarray
    time_ns: np.ndarray
    acceleration: np.ndarray
    unreadable: int
    timeless: int


def files(root: Path) -> list[Path]:
    return inside_folder(root / "WISDM_ar_v1.1", ["WISDM_ar_v1.1_raw.txt"], ORIGIN)


def read(paths: list[Path], config: DataConfig) -> Raw:
    found = records(paths[0])
    step_s = np.diff(found.time_ns) / 1e9
    new = (np.diff(found.user) != 0) | (step_s > GAP_S) | (step_s < 0)
    bounds = np.flatnonzero(new) + 1
    parts = zip([0, *bounds], [*bounds, len(found.user)], strict=True)
    return cut(
        (
            Recording(found.acceleration[first:end], found.label[first:end], int(found.user[first]))
            for first, end in parts
        ),
        config,
        RATE_HZ,
    )


def records(path: Path) -> Records:
    """Every record that can be read; raises DataError where too many can't."""
    import pandas as pd

    text = re.sub(rb"[;\r\n]+[;\s]*", b"\n", path.read_bytes().lstrip(b"; \r\n\t")).rstrip(b"\n")
    text = re.sub(
        rb",[ \t]*(\d+,%s,)" % _ACTIVITY, rb"\n\1", text
    )  # a record starts: no other field is a word
    lines = text.count(b"\n") + 1 if text else 0
    if not lines:
        raise DataError(path, None, "this file is empty")
    shape: dict[str, Any] = {"header": None, "names": list(range(7)), "index_col": False, "quoting": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ParserWarning)  # of a first record that is too long
        frame = pd.read_csv(
            BytesIO(text), low_memory=False, on_bad_lines="skip", encoding_errors="replace", **shape
        )
    activity = frame[1].map({name.capitalize(): place for place, name in enumerate(CLASSES)})
    values = [pd.to_numeric(frame[i], errors="coerce").to_numpy(dtype=np.float64) for i in (0, 2, 3, 4, 5)]
    user, time_ns, acceleration = values[0], values[1], np.stack(values[2:], axis=1).astype(np.float32)
    good = (user >= 1) & (user <= PEOPLE) & (user == np.round(user)) & activity.notna().to_numpy()
    good &= np.isfinite(time_ns) & np.isfinite(acceleration).all(axis=1) & frame[6].isna().to_numpy()
    unreadable = lines - int(good.sum())
    if unreadable > UNREADABLE_FRAC * lines:
        message = f"{unreadable:,} of {lines:,} records can't be read: is this the raw file of WISDM v1.1?"
        raise DataError(path, _first_unreadable(path), message)
    keep = good & (time_ns != 0)
    return Records(
        user[keep].astype(np.int64),
        activity.to_numpy()[keep].astype(np.int64),
        time_ns[keep].astype(np.int64),
        acceleration[keep],
        unreadable,
        int(good.sum() - keep.sum()),
    )


def _first_unreadable(path: Path) -> int | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if any(part.strip() and not _RECORD.fullmatch(part) for part in line.split(b";")):
                return number
    return None


WISDM = DataSet(
    name="wisdm",
    kind="recordings",
    classes=CLASSES,
    channels=("acc_x", "acc_y", "acc_z"),
    rate_hz=RATE_HZ,
    subjects=PEOPLE,
    placement="a smartphone in the front trouser pocket",
    units={"acc": "m/s^2"},
    licence="free to use with the citation; share it with its readme.txt",
    citation="Kwapisz et al. 2010, Activity recognition using cell phone accelerometers, SensorKDD",
    origin=ORIGIN,
    files=files,
    read=read,
)
