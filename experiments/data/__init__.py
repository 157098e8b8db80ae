"""Data sets by name. Adding one is one file here, a line in DATASETS and its name in `config.Known`."""

import os
import re
from collections.abc import Callable
from functools import cache as remembered
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import NAME, DataConfig, RunConfig
from experiments.data import archive, csv_files, npz
from experiments.data.basic_motions import BASIC_MOTIONS
from experiments.data.motion_sense import MOTION_SENSE
from experiments.data.packaged import GUN_POINT, JAPANESE_VOWELS, PICKUP_GESTURE
from experiments.data.pamap2 import PAMAP2
from experiments.data.planted import PLANTED
from experiments.data.side import Side
from experiments.data.spar import SPAR
from experiments.data.splits import Split, split
from experiments.data.uci_har import UCI_HAR
from experiments.data.usc_had import USC_HAD
from experiments.data.windows import DataError, DataSet, Windows, describe
from experiments.data.wisdm import WISDM
from experiments.identity import digest
from experiments.ledger import read_json, write_folder, write_json
from experiments.yamlfile import nearest

DATASETS: dict[str, DataSet] = {
    entry.name: entry
    for entry in (
        BASIC_MOTIONS,
        SPAR,
        PICKUP_GESTURE,
        JAPANESE_VOWELS,
        GUN_POINT,
        UCI_HAR,
        PAMAP2,
        WISDM,
        USC_HAD,
        MOTION_SENSE,
        PLANTED,
    )
}
FAMILIES: dict[str, Callable[[str, Path], DataSet]] = {
    "uea": archive.find,
    "npz": npz.find,
    "csv": csv_files.find,
}
READER_VERSION = 1  # raise it when what a reader gives, or a data set says of itself, changes

__all__ = [
    "DATASETS",
    "FAMILIES",
    "DataError",
    "DataSet",
    "Loaded",
    "Side",
    "Split",
    "Windows",
    "cached_at",
    "check",
    "data_digest",
    "entry",
    "last_fold",
    "load",
    "load_split",
    "root",
    "split",
]


def root() -> Path:
    """The folder of data sets that the user fetched: SHAPELEX_DATA, or `data`."""
    return Path(os.environ.get("SHAPELEX_DATA", "data"))


def entry(name: str) -> DataSet:
    """A data set of the registry, or of a family, such as `uea:NAME`; raises ValueError for a name that none
    has, FileNotFoundError, DataError."""
    if name in DATASETS:
        return DATASETS[name]
    family, _, rest = name.partition(":")
    if family not in FAMILIES:
        near = nearest(name, [*DATASETS, *(f"{known}:NAME" for known in FAMILIES)])
        raise ValueError(f"no data set '{name}': {near}")
    if not re.fullmatch(NAME, rest):
        raise ValueError(f"no data set '{name}': a name has letters, digits, - and _")
    return _of_family(family, rest, root())


@remembered
def _of_family(family: str, name: str, folder: Path) -> DataSet:
    return FAMILIES[family](name, folder)


def data_digest(raw: str) -> str:
    """Identity of the windows a reader makes: the raw files' digest and the readers' version."""
    return digest({"raw": raw, "reader": READER_VERSION})


def last_fold(config: DataConfig) -> int:
    """Number of the split's last fold."""
    if config.split == "leave_one_subject_out":
        return entry(config.name).subjects - 1
    return 0 if config.split == "official" else config.folds - 1


def check(config: RunConfig) -> None:
    """Raise ValueError if the data is not there, has no such windows or folds, or can't be augmented so, or
    if the model can't be cut from its windows."""
    asked = config.data
    try:
        found = entry(asked.name)
        found.files(root())
    except FileNotFoundError as error:
        raise ValueError(f"{asked.name}: {error}") from None
    _check_windows(found, asked)
    _check_split(found, asked)
    if asked.augment.rotation_deg and not found.triads():
        raise ValueError(f"data.augment.rotation_deg turns x, y and z, and {found.name} has no such channels")
    if config.reads_text and config.text.source in ("series", "both"):
        _check_captions(found, asked, config.text.source)
    if config.baseline == "minirocket" and found.window_length(asked) < 9:
        raise ValueError(
            f"minirocket needs windows of 9 steps, and {found.name} has {found.window_length(asked)}"
        )
    if config.baseline == "none":
        model, channels = config.model, len(found.channels)
        model.check_length(model.steps(channels, found.window_length(asked)))


def _check_captions(found: DataSet, asked: DataConfig, source: str) -> None:
    what = f"captions of text.source {source}"
    if not found.window_rate_hz(asked):
        if found.rate_hz:
            raise ValueError(
                f"{what} need a sampling rate, and data.length changes it: set data.resize to pad"
            )
        raise ValueError(f"{what} need the sampling rate of {found.name}, which its files do not say")
    if (steps := found.window_length(asked)) < 8:
        raise ValueError(f"{what} need windows of 8 steps, and {found.name} has {steps}")
    for name in ("rotation_deg", "channel_drop"):
        if getattr(asked.augment, name):
            raise ValueError(f"{what} speak of axes that data.augment.{name} changes: set it to 0")


def _check_windows(found: DataSet, asked: DataConfig) -> None:
    given = [name for name in ("window_s", "overlap_frac") if getattr(asked, name) is not None]
    if found.kind == "recordings" and len(given) < 2:
        raise ValueError(f"{found.name} needs data.window_s and data.overlap_frac (4 and 0.5, say)")
    if found.kind != "recordings" and given:
        raise ValueError(f"{found.name} comes pre-cut: leave out data.window_s and data.overlap_frac")
    if found.kind == "series" and asked.length is None:
        raise ValueError(f"{found.name} has series of unequal lengths: set data.length")
    if found.kind == "windows" and found.window_length(asked) < 2:
        raise ValueError(f"{found.name} has windows of one step, and two are the least")
    if found.window_length(asked) < 2:
        raise ValueError(f"data.window_s {asked.window_s:g} is less than two samples of {found.name}")


def _check_split(found: DataSet, asked: DataConfig) -> None:
    by_subject = asked.split in ("subject_kfold", "leave_one_subject_out")
    if asked.split == "official" and not found.official:
        others = "subject_kfold or leave_one_subject_out" if found.subjects else "leaky_random"
        raise ValueError(f"{found.name} has no official split: set data.split to {others}")
    if by_subject and not found.subjects:
        other = "official" if found.official else "leaky_random"
        raise ValueError(f"{found.name} names no subjects: set data.split to {other}")
    if asked.split == "subject_kfold" and asked.folds > found.subjects:
        raise ValueError(f"data.folds {asked.folds} is above the {found.subjects} subjects of {found.name}")
    if asked.fold > (last := last_fold(asked)):
        raise ValueError(f"fold {asked.fold} is above {last}, the last of data.split {asked.split}")


def cached_at(config: DataConfig, data_digest: str, cache: Path) -> Path:
    """The folder of the windows that these settings make of these raw files."""
    asked = [config.name, config.window_s, config.overlap_frac, config.length, config.resize]
    return cache / "windows" / digest([data_digest, *asked])[:16]


def load(config: DataConfig, data_digest: str, cache: Path) -> tuple[Windows, dict[str, Any]]:
    """Windows as memory-mapped arrays, and what their data set says of itself (`windows.describe`); parsed
    on first use and cached by content. Raises DataError and ValueError for raw files that don't parse."""
    folder = cached_at(config, data_digest, cache)
    if not folder.is_dir():
        found = entry(config.name)
        raw = found.read(found.files(root()), config)

        def fill(temporary: Path) -> None:
            for name, array in raw.windows._asdict().items():
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            write_json(temporary / "about.json", describe(found, raw, config))

        write_folder(folder, fill)
    windows = Windows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Windows._fields))
    return windows, read_json(folder / "about.json")


class Loaded(NamedTuple):
    """A trial's windows, raw, with their sides and what their data set says of itself."""

    about: dict[str, Any]
    windows: Windows
    split: Split

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.about["classes"])

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.about["channels"])

    def sides(self, device: str) -> tuple[Side, Side, Side]:
        """Training, validation and test windows, for that device."""
        train, val, test = (Side.of(self.windows, rows, device) for rows in self.split)
        return train, val, test

    def describe(self) -> dict[str, Any]:
        """For the trial's result."""
        return {
            "name": self.about["name"],
            "classes": list(self.classes),
            "channels": list(self.channels),
            **{f"n_{side}": len(rows) for side, rows in self.split._asdict().items()},
            "validation": self._validation(),
            **{f"{side}_subjects": self.subjects(side) for side in Split._fields},
        }

    def _validation(self) -> str:
        """What validation shares with training no one of: subjects or recordings, where they are known."""
        train, val, _ = self.split
        subject, session = self.windows.subject, self.windows.session
        known = min(subject[train].min(), subject[val].min()) >= 0
        if known and not np.intersect1d(subject[train], subject[val]).size:
            return "subjects"
        single = len(np.unique(session)) == len(session)
        if not single and not np.intersect1d(session[train], session[val]).size:
            return "recordings"
        return "stratified part"

    def subjects(self, side: str) -> list[int]:
        return sorted({int(s) for s in self.windows.subject[getattr(self.split, side)] if s >= 0})


def load_split(config: DataConfig, data_digest: str, cache: Path) -> Loaded:
    windows, about = load(config, data_digest, cache)
    amount = {int(subject): n for subject, n in about["amount"].items()}
    return Loaded(about, windows, split(windows, amount, config))
