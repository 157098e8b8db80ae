"""The SQLite files of the views (MLflow's, Optuna's): made whole, and put aside where they are broken. Needs
the view's lock."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

BESIDE = ("-journal", "-wal", "-shm")


def file_of(address: str) -> Path | None:
    """The file behind an address of MLflow's; None where a server is."""
    return Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None


def missing(address: str) -> bool:
    """Whether `address` is an SQLite file that isn't there, or has nothing in it."""
    file = file_of(address)
    return file is not None and not (file.exists() and file.stat().st_size)


def identity(address: str) -> int | None:
    """Which file it is, lest one be taken for another that came in its place."""
    file = file_of(address)
    return file.stat().st_ino if file is not None and file.exists() else None


def create(file: Path, migrate: Callable[[str], object]) -> None:
    """Make the file, whole or not at all: killed half-way, `migrate` leaves one that nothing opens."""
    file.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{file.stem}-"
    for left in file.parent.glob(f"{prefix}*"):  # of one that was killed there
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=file.parent) as fresh:
        migrate(f"sqlite:///{fresh}/{file.name}")
        for end in BESIDE:  # left by a file that was deleted, SQLite would play them back into this one
            file.with_name(file.name + end).unlink(missing_ok=True)
        os.replace(f"{fresh}/{file.name}", file)


def broken(error: BaseException | None) -> bool:
    """Whether SQLite says that the file is none of its own, or malformed: not that it is locked, or full."""
    while error is not None:
        if type(error) is sqlite3.DatabaseError:
            return True
        error = error.__cause__ or error.__context__
    return False


def put_aside(file: Path, target: Path) -> None:
    """Rename the file, and what SQLite left beside it."""
    for end in (*BESIDE, ""):
        if (old := file.with_name(file.name + end)).exists():
            os.replace(old, target.with_name(target.name + end))
