"""Text tables of numbers. pandas and numpy read them fast but name no line, so a table that they refuse is
read again slowly, to say which line is at fault.

R rows.
"""

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.data.windows import DataError

if TYPE_CHECKING:
    import pandas as pd

MAX = float(np.finfo(np.float32).max)
NO_UTF8 = "this is no text in UTF-8: save it so"


def matrix(path: Path, width: int) -> np.ndarray:
    """A file of `width` finite numbers a line between blanks, (R, width) float32; raises DataError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty file
        try:
            values = np.loadtxt(path, dtype=np.float32, ndmin=2)
        except ValueError:  # UnicodeDecodeError too
            raise fault(path, width) from None
    if not values.size:
        raise DataError(path, None, "this file is empty")
    if values.shape[1] != width or not np.isfinite(values).all():
        raise fault(path, width)
    return values


def whole(path: Path, column: np.ndarray) -> np.ndarray:
    """A column of a matrix as int64; raises DataError for numbers that aren't whole."""
    wrong = np.flatnonzero(column != np.round(column))
    if len(wrong):
        raise DataError(path, int(wrong[0]) + 1, f"{column[wrong[0]]:g} is no whole number")
    return column.astype(np.int64)


def fault(path: Path, width: int, gaps: bool = False) -> DataError:
    """The first line that isn't `width` numbers between blanks; `gaps`: NaN is one."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line, text in enumerate(file, 1):
            fields = text.split()
            if fields and len(fields) != width:
                return DataError(path, line, f"{len(fields)} values, and there should be {width}")
            for field in fields:
                if not (_finite(field) or (gaps and field.lower() == "nan")):
                    return DataError(path, line, f"{field[:40]!r} is no finite number")
    return DataError(path, None, f"this is no table of {width} numbers a line")


def header(path: Path) -> list[str]:
    """The column names of a CSV file, '' where one has none; raises DataError for a first line that doesn't
    name columns, or names two alike."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file), None)
    if names is None:
        raise DataError(path, None, "this file is empty")
    if _blank(names):
        raise DataError(path, 1, "this line is blank, and the first should name the columns")
    if _garbled("".join(names)):
        raise DataError(path, 1, NO_UTF8)
    if names[0].startswith("#"):
        raise DataError(path, 1, f"the first line should name the columns: take out {names[0][:40]!r}")
    for mark in (";", "\t"):
        if len(names) == 1 and mark in names[0]:
            raise DataError(path, 1, f"columns are separated by {mark!r}: use commas")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise DataError(path, 1, f"two columns are named {twice[0]!r}")
    return names


def lines(path: Path) -> list[int]:
    """The line of each row below the header of a CSV file, as pandas counts rows: blank lines are none."""
    return [line for line, _ in _rows(path)][1:]


def columns(path: Path, numbers: Sequence[str], words: Sequence[str] = ()) -> "pd.DataFrame":
    """Those columns of a CSV file with a header: finite numbers as float32, words as text ('' where empty).
    Raises DataError."""
    import pandas as pd

    names = header(path)
    if lacking := [name for name in (*numbers, *words) if name not in names]:
        raise DataError(path, 1, f"no column {lacking[0]!r}: it has {', '.join(names)[:200]}")
    kinds: dict[str, type] = dict.fromkeys(numbers, np.float32) | dict.fromkeys(words, str)
    try:
        with warnings.catch_warnings(), np.errstate(over="ignore"):
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of a first row that is too long
            frame = pd.read_csv(
                path, dtype=kinds, keep_default_na=False, index_col=False, encoding="utf-8-sig"
            )[list(kinds)]
    except (ValueError, pd.errors.ParserWarning):  # pandas' own errors are ValueErrors
        raise _csv_fault(path, names, numbers) from None
    text = path.read_bytes()  # pandas fills up a short row, and a download that broke off ends in one
    if b'"' in text:  # commas inside values
        short = len(next(csv.reader([last_line(path)]))) != len(names)
    else:
        short = text.count(b",") != (len(frame) + 1) * (len(names) - 1)
    if short or not np.isfinite(frame[list(numbers)].to_numpy(dtype=np.float32)).all():
        raise _csv_fault(path, names, numbers)
    return frame


def last_line(path: Path) -> str:
    """The last line that isn't blank."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 100_000))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip("\r") for line in reversed(lines) if line.strip()), "")


def _csv_fault(path: Path, names: list[str], numbers: Sequence[str]) -> DataError:
    """The first line that hasn't as many values as the header, or has something else for a number."""
    for line, row in _rows(path):
        if len(row) != len(names):
            return DataError(path, line, f"{len(row)} values, and the header has {len(names)}")
        if _garbled("".join(row)):
            return DataError(path, line, NO_UTF8)
        for name, text in zip(names, row, strict=True):
            if line > 1 and name in numbers and not _finite(text):
                return DataError(path, line, f"{text[:40]!r} in column {name} is no finite number")
    return DataError(path, None, "this is no CSV file with a header, in UTF-8")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line that it ends on, values) of each row of a CSV file, the header too, but not of blank lines."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if not _blank(row):
                yield reader.line_num, row


def _blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and row[0].isspace())


def _garbled(text: str) -> bool:
    """Whether it was no UTF-8, as UTF-16 and Latin-1 aren't."""
    return "\0" in text or "\ufffd" in text


def _finite(text: str) -> bool:
    """Whether numpy and pandas read a finite float32; Python's own float takes 1_000 too."""
    try:
        return text.isascii() and "_" not in text and abs(float(text)) <= MAX
    except ValueError:
        return False
