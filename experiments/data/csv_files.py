"""Recordings of your own: `csv:NAME` is a folder NAME in the data folder, with a CSV file for each recording.

    NAME/about.yaml       rate_hz: 50                      needed
                          classes: [walking, sitting]      needed
                          units: {acc: g, light: lux}      of sensors, and of channels without an axis;
                                                           this and the rest may be left out
                          placement: a watch on the wrist
                          licence: not public
                          citation: Me 2026
    NAME/recordings.csv   file,subject,label and, if known, age_years,height_cm,weight_kg,hand
                          monday.csv,anna,walking,31,170,60,left
    NAME/monday.csv       acc_x,acc_y,acc_z                one sample a line, evenly spaced
                          0.01,-0.99,0.02

`file` is below NAME. `subject` is a whole number or a name. `label` is a class, or is empty where the
recording has a column `label` of its own, with a class for each sample, or nothing for a sample that is to be
left out. Every other column is a channel, placement_sensor_axis or sensor_axis; all recordings have the same.
A column of times or of row numbers (time, timestamp, t, index, ...) is refused: rate_hz says when each row
was taken.

R samples.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import yamlfile
from experiments.config import DataConfig
from experiments.data import table
from experiments.data.cut import cut
from experiments.data.own import numbered, sensors
from experiments.data.windows import DataError, DataSet, Person, Raw, Recording, inside_folder

ORIGIN = "your own recordings (experiments/data/csv_files.py shows the layout)"
KEYS = ("rate_hz", "classes", "units", "placement", "licence", "citation")
PERSON = ("age_years", "height_cm", "weight_kg", "hand")
CLOCKS = ("time", "time_s", "time_ms", "time_us", "time_ns", "timestamp", "datetime", "date", "t", "seconds")
COUNTERS = ("index", "i", "sample", "row", "unnamed")  # pandas reads an index as "Unnamed: 0"


class _Row(NamedTuple):
    """A line of recordings.csv."""

    line: int
    file: str
    subject: int
    label: str
    person: Person


def find(name: str, root: Path) -> DataSet:
    """The entry of `csv:NAME`; raises FileNotFoundError, DataError."""
    about_path, rows_path, first, *_ = _files(name, root)
    about, rows = _about(about_path), _rows(rows_path)
    channels = tuple(column for column in _columns(first) if column != "label")
    if not channels:
        raise DataError(first, 1, "no column but label")
    units = about.get("units", {})
    if wrong := [sensor for sensor in units if sensor not in sensors(channels)]:
        message = f"units: {wrong[0]} is no sensor: {yamlfile.nearest(str(wrong[0]), sensors(channels))}"
        raise DataError(about_path, None, message)
    return DataSet(
        name=f"csv:{name}",
        kind="recordings",
        classes=tuple(about["classes"]),
        channels=channels,
        rate_hz=float(about["rate_hz"]),
        subjects=len({row.subject for row in rows}),
        units=units,
        placement=about.get("placement", ""),
        licence=about.get("licence", "as its owner says"),
        citation=about.get("citation", ""),
        origin=ORIGIN,
        files=partial(_files, name),
        read=partial(_read, channels, tuple(about["classes"]), float(about["rate_hz"])),
    )


def _files(name: str, root: Path) -> list[Path]:
    folder = root / name
    head = inside_folder(folder, ["about.yaml", "recordings.csv"], ORIGIN)
    return [*head, *inside_folder(folder, [row.file for row in _rows(head[1])], ORIGIN)]


def _read(
    channels: tuple[str, ...], classes: tuple[str, ...], rate_hz: float, paths: list[Path], config: DataConfig
) -> Raw:
    rows = _rows(paths[1])
    people: dict[int, Person] = {}
    for row in rows:
        before = people.setdefault(row.subject, {})
        for key, value in row.person.items():
            if before.setdefault(key, value) != value:
                raise DataError(paths[1], row.line, f"{key} {value}, and above it was {before[key]}")
    known = {subject: person for subject, person in people.items() if person}
    raw = cut(_recordings(rows, paths, channels, classes), config, rate_hz, known)
    if idle := [row for row in rows if row.subject not in raw.amount]:
        raise DataError(paths[1], idle[0].line, "this person has no sample with a label")
    return raw


def _recordings(
    rows: list[_Row], paths: list[Path], channels: tuple[str, ...], classes: tuple[str, ...]
) -> Iterator[Recording]:
    place = {name: number for number, name in enumerate(classes)}
    for row, path in zip(rows, paths[2:], strict=True):
        own = "label" in (columns := _columns(path))
        if set(columns) - {"label"} != set(channels):
            raise DataError(path, 1, f"{', '.join(columns)}: {paths[2].name} has {', '.join(channels)}")
        if own == bool(row.label):
            needs = "both have a label" if own else "neither has a label"
            raise DataError(paths[1], row.line, f"this line and {row.file}: {needs}, and one should")
        if row.label and row.label not in place:
            raise DataError(
                paths[1], row.line, f"label {row.label!r}: {yamlfile.nearest(row.label, classes)}"
            )
        frame = table.columns(path, channels, ["label"] if own else [])
        series = frame[list(channels)].to_numpy()
        if not len(series):
            raise DataError(path, None, "this file has no sample")
        label = np.full(len(series), place.get(row.label, -1))
        if own:
            known = {"": -1} | place
            found = frame["label"].map(known)
            if found.isna().any():
                wrong = int(np.flatnonzero(found.isna())[0])
                text = str(frame["label"].iloc[wrong])
                message = f"label {text!r}: {yamlfile.nearest(text, classes)}"
                raise DataError(path, table.lines(path)[wrong], message)
            label = found.to_numpy(dtype=np.int64)
        yield Recording(series, label, row.subject)


def _columns(path: Path) -> list[str]:
    """The columns of a recording: `label` and channels."""
    columns = table.header(path)
    for place, column in enumerate(columns, 1):
        if not column.strip():
            raise DataError(path, 1, f"column {place} has no name (pandas: to_csv(index=False))")
        if column.strip().lower().partition(":")[0] in (*CLOCKS, *COUNTERS):
            message = f"column {column!r}: take it out (rate_hz says when each row was taken)"
            raise DataError(path, 1, f"{message}, or rename it if it is a sensor")
    return columns


def _rows(path: Path) -> list[_Row]:
    optional = [name for name in table.header(path) if name in PERSON]
    frame = table.columns(path, [], ["file", "subject", "label", *optional])
    if not len(frame):
        raise DataError(path, None, "no recording is listed")
    subjects = numbered(frame["subject"])
    rows = []
    for line, fields in zip(table.lines(path), frame.to_dict("records"), strict=True):
        file, subject = fields["file"], fields["subject"]
        if not file or Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(path, line, f"file {file!r} should be a file below {path.parent.name}")
        if not subject:
            raise DataError(path, line, "no subject: give each person a number or a name")
        person = {name: _person(path, line, name, fields[name]) for name in optional if fields[name]}
        rows.append(_Row(line, file, subjects[subject], fields["label"], person))
    if len({row.file for row in rows}) < len(rows):
        files = [row.file for row in rows]
        twice = next(row for place, row in enumerate(rows) if row.file in files[:place])
        raise DataError(path, twice.line, f"file {twice.file!r} is listed twice")
    return rows


def _person(path: Path, line: int, name: str, text: str) -> float | str:
    if name == "hand":
        if text not in ("left", "right"):
            raise DataError(path, line, f"hand {text!r} should be left or right")
        return text
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise DataError(path, line, f"{name} {text!r} should be a number above 0")
    return value


def _about(path: Path) -> dict[str, Any]:
    try:
        document = yamlfile.read(path)
    except yamlfile.FileError as error:
        raise DataError(path, error.line, error.message) from None
    about = document.data

    def refuse(key: str, message: str) -> DataError:
        return DataError(path, document.line((key,)), message)

    for key in about:
        if key not in KEYS:
            raise refuse(key, f"unknown key '{key}': {yamlfile.nearest(key, KEYS)}")
    for key in ("rate_hz", "classes"):
        if key not in about:
            raise DataError(path, None, f"no key '{key}'")
    rate_hz, classes, units = about["rate_hz"], about["classes"], about.get("units", {})
    if not isinstance(rate_hz, int | float) or isinstance(rate_hz, bool) or rate_hz <= 0:
        raise refuse("rate_hz", "rate_hz should be a number above 0")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise refuse("classes", "classes should be a list of text (quote what looks like a number)")
    if len(set(classes)) < len(classes) or "" in classes:
        raise refuse("classes", "a class is empty or there twice")
    if not isinstance(units, dict) or not all(isinstance(unit, str) for unit in units.values()):
        raise refuse("units", "units should be sensor: unit, in text")
    for key in ("placement", "licence", "citation"):
        if not isinstance(about.get(key, ""), str):
            raise refuse(key, f"{key} should be text")
    return about
