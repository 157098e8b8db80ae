"""The ledger: a folder a trial under `<store>/trials/<signature>`, its `result.json` written last.

Every write that matters is a rename, so a file is there whole or not at all.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

SCHEMA = 1
NUMBERS = {float, int}
_SIGNATURE = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def write_bytes(path: Path, data: bytes, sync: bool = True, make: bool = True) -> None:
    """Atomic: written beside `path`, synced, renamed. Without `sync`, a power cut may leave an empty file;
    without `make`, a folder that is gone raises FileNotFoundError, also where NFS has other words for it."""
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno == errno.ESTALE and not make:
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(path)) from None
        raise


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Atomic: `fill` writes into a folder beside `path`, which is then renamed. Where another process was
    first, its folder stays: the content is the same by the folder's name."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any, sync: bool = True, make: bool = True) -> None:
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), sync, make)


def keep_json(path: Path, value: Any) -> None:
    """`write_json` for what can be made again: a folder that stands in its place is moved aside."""
    try:
        write_json(path, value)
    except IsADirectoryError:
        with suppress(FileNotFoundError):  # another process was first
            path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.aside"))
        write_json(path, value)


def _read(path: Path | str, tries: int = 3) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:  # NFS: another machine has just put a new file in its place
        if error.errno != errno.ESTALE or tries == 1:
            raise
    return _read(path, tries - 1)


def read_json(path: Path | str) -> Any:
    """The file's value, or None where it is missing, a folder or not whole. Raises OSError where a disk or a
    server fails: what can't be read now is not gone."""
    try:
        return json.loads(_read(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise


class Locked(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on `path` (freed when the process dies); raises Locked if not `wait`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise Locked(file.read().strip()) from None
        with suppress(OSError):  # a full disk: it only informs
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"pid {os.getpid()}".encode())
        yield


def _checked(signature: str) -> str:
    if not _SIGNATURE.fullmatch(signature):
        raise ValueError(f"not a signature: {signature!r}")
    return signature


def _sound(result: dict[str, Any]) -> bool:
    """Whether its fields are of the kinds that readers count on."""
    metrics = result.get("metrics")
    return (
        result.get("status") in ("done", "failed")
        and isinstance(metrics, dict)
        and NUMBERS.issuperset(map(type, metrics.values()))
        and isinstance(result.get("attempt", 0), int)
        and isinstance(result.get("cost", {}), dict)
        and _is_time(result.get("finished_at"))
    )


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


class Store:
    """The folder that holds everything a sweep writes (default `runs/`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def trial(self, signature: str) -> Path:
        return self.root / "trials" / _checked(signature)

    def sweep(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a sweep's name is letters, digits, - and _ (64 at most), not {name!r}")
        return self.root / "sweeps" / name

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def result_path(self, signature: str) -> str:
        """Of ten thousand trials, `Path` would take longer to make than files to look at."""
        return f"{self.root}/trials/{_checked(signature)}/result.json"

    def result(self, signature: str) -> dict[str, Any] | None:
        """The trial's accepted result, or None while there is none."""
        result = read_json(self.result_path(signature))
        whole = isinstance(result, dict) and result.get("signature") == signature and _sound(result)
        return result if whole else None

    def results(self, signatures: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """`result` of each, in their order: a view of many at one look, and only one held at a time."""
        trials = self.root / "trials"
        there = set(os.listdir(trials)) if trials.is_dir() else set()
        for signature in signatures:
            yield signature, self.result(signature) if signature in there else None

    def writable(self, size: int = 2**20) -> bool:
        """Whether there is room for so many bytes."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.root).free < size:
                return False
            with TemporaryFile(dir=self.root) as file:
                file.write(bytes(min(size, 2**20)))
                file.flush()
                os.fsync(file.fileno())
            return True
        except OSError:
            return False
