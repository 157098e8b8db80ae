"""Windows of wearable series, and what a data set says of itself.

W windows, M channels, T steps of a window, R samples of a recording.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.config import DataConfig


class Windows(NamedTuple):
    """series (W, M, T) float32; label, subject, session (W,) int64, subject -1 where none is known; session
    numbers the recording; official (W,) int8: 0 train, 1 test, -1 no official split."""

    series: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    session: np.ndarray
    official: np.ndarray


class Recording(NamedTuple):
    """One stretch of one person's data: series (R, M); label (R,), -1 where a sample is to be left out."""

    series: np.ndarray
    label: np.ndarray
    subject: int


Person = dict[str, float | str]  # of age_years, height_cm, weight_kg, hand (left or right)


class Raw(NamedTuple):
    """What a reader makes of raw files. Folds are balanced by `amount`, how much each subject recorded, so
    that they don't move with the window length; people: what is known of each subject."""

    windows: Windows
    amount: dict[int, int]
    people: dict[int, Person]


def counted(subject: np.ndarray) -> dict[int, int]:
    """How many windows (W,) each known subject has: the `amount` of sets that come pre-cut."""
    people, windows = np.unique(subject[subject >= 0], return_counts=True)
    return dict(zip(people.tolist(), windows.tolist(), strict=True))


@dataclass(frozen=True)
class DataSet:
    """One entry of the registry.

    kind: windows (pre-cut, `samples` each), series (pre-cut, unequal lengths: `data.length` is asked for) or
    recordings (cut by `data.window_s` and `data.overlap_frac`). Channels are named placement_sensor_axis or
    sensor_axis, and `units` is by sensor; a placement's axes turn together. subjects: how many are known, 0
    where none is. rate_hz: None where it is not published. `files` finds the raw files below the data
    folder, without importing the package that carries them, and raises FileNotFoundError with one line;
    `read` parses them and raises DataError. events, where it is known what happens when: phrases, and for the
    windows as they come (W, M, T) which phrase holds at each step of a channel, -1 for none.
    """

    name: str
    kind: Literal["windows", "series", "recordings"]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    rate_hz: float | None
    subjects: int
    licence: str
    citation: str
    origin: str
    files: Callable[[Path], list[Path]]
    read: Callable[[list[Path], DataConfig], Raw]
    samples: int | None = None
    official: bool = False
    placement: str = ""
    units: dict[str, str] = field(default_factory=dict)
    events: Callable[[], tuple[tuple[str, ...], np.ndarray]] | None = None

    def window_length(self, config: DataConfig) -> int:
        """Steps of one window."""
        if config.length is not None:
            return config.length
        if self.samples is not None:
            return self.samples
        return round((config.window_s or 0) * (self.rate_hz or 0))

    def window_rate_hz(self, config: DataConfig) -> float | None:
        """Sampling rate of the windows; None where none is known, or resampling gave each its own."""
        if self.rate_hz is None or config.length is None or config.resize == "pad":
            return self.rate_hz
        if self.kind == "series":
            return None
        native = self.window_length(config.model_copy(update={"length": None}))
        return self.rate_hz * config.length / native

    def triads(self) -> dict[str, list[list[int]]]:
        """{placement: the places of x, y and z of each of its sensors}."""
        return triads(self.channels)


def triads(channels: tuple[str, ...]) -> dict[str, list[list[int]]]:
    """{placement: the places of x, y and z of each of its sensors}."""
    found: dict[str, list[list[int]]] = {}
    for channel in channels:
        stem, _, axis = channel.rpartition("_")
        axes = [f"{stem}_{other}" for other in "xyz"]
        if axis == "x" and stem and set(axes) <= set(channels):
            placement = stem.rpartition("_")[0]
            found.setdefault(placement, []).append([channels.index(other) for other in axes])
    return found


class DataError(ValueError):
    """A raw file that is not as its authors publish it: one line with file, line and what was wrong."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        super().__init__(path, line, message)
        self.path, self.line, self.message = path, line, " ".join(message.split())

    def __str__(self) -> str:
        return f"{self.path}{'' if self.line is None else f':{self.line}'}: {self.message}"


def inside_package(package: str, *names: str) -> list[Path]:
    """Files inside an installed package, which is not imported. Raises FileNotFoundError."""
    root = _home(package)
    files = [root / name for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"package {package} carries no {file.relative_to(root)}")
    return files


@cache
def _home(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def inside_folder(folder: Path, names: list[str], origin: str) -> list[Path]:
    """Files below a folder that the user has to fetch. Raises FileNotFoundError that says from where."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: get it from {origin}, or point SHAPELEX_DATA elsewhere")
    files = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}: is {folder} whole? It comes from {origin}")
    return files


def describe(entry: DataSet, raw: Raw, config: DataConfig) -> dict[str, Any]:
    """What the cache keeps of a data set beside its arrays, as JSON."""
    return {
        "name": entry.name,
        "classes": list(entry.classes),
        "channels": list(entry.channels),
        "rate_hz": entry.window_rate_hz(config),
        "units": entry.units,
        "placement": entry.placement,
        "licence": entry.licence,
        "citation": entry.citation,
        "amount": {str(subject): n for subject, n in sorted(raw.amount.items())},
        "people": {str(subject): person for subject, person in sorted(raw.people.items())},
    }
