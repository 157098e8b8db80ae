"""Sets of the UEA and UCR archives: .ts files, read by aeon.

`uea:NAME` is NAME_TRAIN.ts and NAME_TEST.ts in the folder NAME below the data folder, as the archive's zip
unpacks. W windows, M channels, T steps.
"""

from functools import partial
from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import filled, resize
from experiments.data.windows import DataError, DataSet, Raw, Windows, inside_folder, inside_package

CITATION = "Bagnall et al. 2018, arXiv 1811.00075 (UEA); Dau et al. 2019, arXiv 1810.07758 (UCR)"
ORIGIN = "https://timeseriesclassification.com"


def _names(name: str) -> list[str]:
    return [f"{name}_TRAIN.ts", f"{name}_TEST.ts"]


def inside_aeon(name: str) -> list[Path]:
    return inside_package("aeon", *(f"datasets/data/{name}/{file}" for file in _names(name)))


def read_ts(classes: tuple[str, ...], paths: list[Path], config: DataConfig) -> Raw:
    """Training and test file; `classes` in the order of their numbers, spelled as aeon gives them (lower
    case) or as the file does. Gaps are filled, padding with NaN is cut off; raises DataError."""
    from aeon.datasets import load_from_ts_file

    place = {name.lower(): number for number, name in enumerate(classes)}
    series: list[np.ndarray] = []
    label: list[int] = []
    official: list[int] = []
    for side, path in enumerate(paths):
        try:
            found, labels = load_from_ts_file(str(path))
        except Exception as error:  # it raises whatever its parser trips over
            raise DataError(path, None, f"aeon can't read this .ts file: {error}") from error
        for number, (x, name) in enumerate(zip(found, labels, strict=True)):
            if str(name).lower() not in place:
                raise DataError(path, None, f"series {number} has the unknown class {str(name)!r}")
            ends = np.flatnonzero(np.isfinite(x).any(0))
            if not len(ends):
                raise DataError(path, None, f"series {number} has no value")
            series.append(filled(np.asarray(x)[:, : ends[-1] + 1]))
            if not np.isfinite(series[-1]).all():
                raise DataError(path, None, f"series {number} has a channel without a value")
            label.append(place[str(name).lower()])
            official.append(side)
    count = len(label)
    nobody, each = np.full(count, -1), np.arange(count)
    windows = Windows(
        resize(series, config), np.array(label), nobody, each, np.array(official, dtype=np.int8)
    )
    return Raw(windows, {}, {})


def find(name: str, root: Path) -> DataSet:
    """The entry of `uea:NAME`, from the head of its training file; raises FileNotFoundError, DataError."""
    origin = f"{ORIGIN}, or: shapelex data uea:{name} --download"
    paths = inside_folder(root / name, _names(name), origin)
    head, first = _head(paths[0])
    _, *classes = head.get("classlabel", "").split()
    if not classes:
        raise DataError(paths[0], None, "its head names no classes (@classLabel true a b ...)")
    channels = first.count(":") if head.get("univariate", "true") == "false" else 1
    equal, steps = head.get("equallength") == "true", head.get("serieslength")
    if equal and steps is None:
        steps = str(first.split(":")[0].count(",") + 1)
    return DataSet(
        name=f"uea:{name}",
        kind="windows" if equal else "series",
        classes=tuple(classes),
        channels=tuple(f"channel_{i + 1}" for i in range(channels)),
        rate_hz=None,
        samples=int(steps) if equal and steps else None,
        subjects=0,
        official=True,
        licence="as its authors say",
        citation=CITATION,
        origin=origin,
        files=lambda root: inside_folder(root / name, _names(name), origin),
        read=partial(read_ts, tuple(classes)),
    )


def _head(path: Path) -> tuple[dict[str, str], str]:
    """What stands before @data, by lower-case keyword, and the first series."""
    head: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.lower().startswith("@data"):
                return head, next(file, "")
            if line.startswith("@"):
                keyword, _, value = line[1:].strip().partition(" ")
                head[keyword.lower()] = value.strip()
    raise DataError(path, None, "this .ts file has no @data")


def download(name: str, root: Path) -> None:
    """Fetch the set's zip from Zenodo through aeon; raises OSError with one line where that fails."""
    from aeon.datasets import load_classification

    try:
        load_classification(name, extract_path=str(root))
        inside_folder(root / name, _names(name), ORIGIN)
    except Exception as error:
        line = " ".join(str(error).split())
        raise OSError(f"uea:{name} could not be fetched: {line}; is that a name of {ORIGIN}?") from error
