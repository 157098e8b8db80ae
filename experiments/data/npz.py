"""Windows that are cut already, such as GENEActiv's: `npz:NAME` is NAME.npz in the data folder, by
numpy.savez.

Arrays, W windows of M channels and T steps (those without a ? must be there, no array may hold objects):

    series    (W, M, T)  numbers, all finite
    label     (W,)       whole numbers from 0
    classes   (Y,)?      names of the labels; without, class_0, class_1, ..., and each has a window
    channels  (M,)?      placement_sensor_axis or sensor_axis, such as wrist_acc_x; channel_1, ... without
    subject   (W,)?      whole numbers or names; without, there is no split by subject
    session   (W,)?      whole numbers or names of recordings; without, each window is its own
    official  (W,)?      0 train, 1 test
    rate_hz   ()?        sampling rate; captions of the series need it
    units     (U,)?      such as "acc=g", one for each sensor, or channel without an axis ("light=lux")
    placement, licence, citation  ()?  text
"""

import zipfile
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import resize
from experiments.data.own import numbered, sensors
from experiments.data.windows import DataError, DataSet, Raw, Windows, counted

ORIGIN = "your own windows, written by numpy.savez (experiments/data/npz.py says which arrays)"
NEEDED = ("series", "label")
PER_WINDOW = ("label", "subject", "session", "official")
NAMES, TEXTS = ("classes", "channels", "units"), ("placement", "licence", "citation")
KNOWN = {"series", "rate_hz", *PER_WINDOW, *NAMES, *TEXTS}
LARGEST = np.iinfo(np.int64).max


def find(name: str, root: Path) -> DataSet:
    """The entry of `npz:NAME`, without reading its series; raises FileNotFoundError, DataError."""
    path = _files(name, root)[0]
    windows, channels, samples = _head(path)
    arrays = _arrays(path, windows)
    classes = _classes(path, arrays)
    names = _names(path, arrays, "channels", [f"channel_{i + 1}" for i in range(channels)])
    if len(names) != channels:
        _refuse(path, "channels", f"{len(names)} names, and series has {channels} channels")
    return DataSet(
        name=f"npz:{name}",
        kind="windows",
        classes=classes,
        channels=names,
        rate_hz=_rate_hz(path, arrays),
        samples=samples,
        subjects=len(np.unique(arrays["subject"])) if "subject" in arrays else 0,
        official="official" in arrays,
        units=_units(path, arrays, names),
        origin=ORIGIN,
        files=partial(_files, name),
        read=_read,
        placement=_text(path, arrays, "placement", ""),
        licence=_text(path, arrays, "licence", "as its owner says"),
        citation=_text(path, arrays, "citation", ""),
    )


def _files(name: str, root: Path) -> list[Path]:
    path = root / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: it holds {ORIGIN}")
    return [path]


def _read(paths: list[Path], config: DataConfig) -> Raw:
    path = paths[0]
    windows, *_ = _head(path)
    arrays = _arrays(path, windows)
    try:
        with np.load(path, allow_pickle=False) as file, np.errstate(over="ignore"):
            series = np.asarray(file["series"], dtype=np.float32)
    except Exception as error:  # a broken archive fails in zipfile, zlib or numpy
        _refuse(path, "series", str(error))
    for number, window in enumerate(series):
        if not np.isfinite(window).all():
            _refuse(path, "series", f"window {number} has a value that is no finite float32")
    subject = arrays.get("subject", np.full(windows, -1))
    each, nowhere = np.arange(windows), np.full(windows, -1)
    return Raw(
        Windows(
            resize(series, config),
            arrays["label"],
            subject,
            arrays.get("session", each),
            arrays.get("official", nowhere).astype(np.int8),
        ),
        counted(subject),
        {},
    )


def _head(path: Path) -> tuple[int, int, int]:
    """The shape of the series, whose numbers aren't read."""
    if not zipfile.is_zipfile(path):
        raise DataError(path, None, "this is no .npz file of numpy, or it isn't whole")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            for name in NEEDED:
                if name not in names:
                    _refuse(path, name, f"there is no such array, only {', '.join(sorted(names)) or 'none'}")
            if unknown := sorted(names - KNOWN):
                _refuse(path, unknown[0], f"unknown; it may hold {', '.join(sorted(KNOWN))}")
            with archive.open("series.npy") as file:
                version = np.lib.format.read_magic(file)
                old = version == (1, 0)
                header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                shape, _, kind = header(file)
    except DataError:
        raise
    except Exception as error:  # zipfile and numpy raise what they trip over
        _refuse(path, "series", str(error))
    if len(shape) != 3 or 0 in shape or kind.kind not in "fiu":
        found = " x ".join(map(str, shape)) or "one value"
        _refuse(path, "series", f"{found} of {kind}, and should be windows x channels x steps of numbers")
    return shape


def _arrays(path: Path, windows: int) -> dict[str, np.ndarray]:
    """Every array but the series, checked as far as one alone can be; those of whole numbers as int64."""
    arrays: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            if name == "series":
                continue
            try:
                arrays[name] = file[name]
            except Exception as error:  # objects, or a broken archive
                _refuse(path, name, str(error))
    for name in PER_WINDOW:
        if name not in arrays:
            continue
        found = arrays[name]
        if found.shape != (windows,):
            size = " x ".join(map(str, found.shape)) or "one value"
            _refuse(path, name, f"{size}, and series has {windows} windows")
        if found.dtype.kind == "U" and name in ("subject", "session"):
            number = numbered(found.tolist())
            arrays[name] = np.array([number[text] for text in found.tolist()], dtype=np.int64)
        elif found.dtype.kind in "iu":
            if found.max() > LARGEST:
                _refuse(path, name, f"window {found.argmax()} has {found.max()}: the largest is {LARGEST}")
            arrays[name] = found.astype(np.int64)
        else:
            _refuse(path, name, f"{found.dtype}, and should be whole numbers")
    if "subject" in arrays and arrays["subject"].min() < 0:
        _refuse(path, "subject", "numbers below 0: leave the array out if nobody is known")
    if "official" in arrays and not np.isin(arrays["official"], (0, 1)).all():
        _refuse(path, "official", "other numbers than 0 (train) and 1 (test)")
    return arrays


def _classes(path: Path, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The classes' names, of which every label is one."""
    label = arrays["label"]
    if len(wrong := np.flatnonzero(label < 0)):
        _refuse(path, "label", f"window {wrong[0]} has {label[wrong[0]]}, and labels start at 0")
    used = np.unique(label)
    gaps = np.flatnonzero(used != np.arange(len(used)))
    if "classes" not in arrays and len(gaps):
        _refuse(path, "label", f"no window has label {gaps[0]}: give classes")
    classes = _names(path, arrays, "classes", [f"class_{i}" for i in range(len(used))])
    if len(wrong := np.flatnonzero(label >= len(classes))):
        message = f"window {wrong[0]} has {label[wrong[0]]}, and there are {len(classes)} classes"
        _refuse(path, "label", message)
    return classes


def _names(path: Path, arrays: dict[str, np.ndarray], array: str, default: list[str]) -> tuple[str, ...]:
    if array not in arrays:
        return tuple(default)
    found = arrays[array]
    if found.ndim != 1 or found.dtype.kind != "U" or not len(found):
        _refuse(path, array, f"{found.dtype}, and should be a list of text")
    names: list[str] = found.tolist()
    if twice := [name for name in names if names.count(name) > 1 or not name]:
        _refuse(path, array, f"{twice[0]!r} is empty or there twice")
    return tuple(names)


def _units(path: Path, arrays: dict[str, np.ndarray], channels: tuple[str, ...]) -> dict[str, str]:
    known = sensors(channels)
    units: dict[str, str] = {}
    for text in _names(path, arrays, "units", []):
        sensor, _, unit = text.partition("=")
        if sensor not in known or not unit:
            message = f"{text!r} should be sensor=unit, with a sensor of {', '.join(known)}"
            _refuse(path, "units", message)
        units[sensor] = unit
    return units


def _rate_hz(path: Path, arrays: dict[str, np.ndarray]) -> float | None:
    if "rate_hz" not in arrays:
        return None
    found = arrays["rate_hz"]
    if found.size != 1 or found.dtype.kind not in "fiu" or not 0 < found.item() < np.inf:
        _refuse(path, "rate_hz", "should be one number above 0")
    return float(found.item())


def _text(path: Path, arrays: dict[str, Any], array: str, default: str) -> str:
    found = np.asarray(arrays.get(array, default))
    if found.size != 1 or found.dtype.kind != "U":
        _refuse(path, array, "should be one text")
    return str(found.item())


def _refuse(path: Path, array: str, message: str) -> NoReturn:
    raise DataError(path, None, f"array {array}: {message}")
