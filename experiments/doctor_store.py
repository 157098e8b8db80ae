"""Doctor: the store's file system, what it can do and what room it has, and what was left behind."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.finding import Finding, amount, broken, look, ok, one_line
from experiments.ledger import write_bytes, write_folder

NETWORK = re.compile(
    r"nfs4?|cifs|smb3?|smbfs|afs|9p|ceph|lustre|gpfs|beegfs|glusterfs|orangefs|pvfs2|fuse\..*(ssh|gluster|ceph|s3|gcs).*"
)
PASSING = {"tmpfs": "gone when the machine restarts", "overlay": "gone with the container"}
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}")  # how `ledger` and `clock` name what they are still writing
FOLDERS = ("cache", "code", "stages", "sweeps", "trials")
LEFT_S = 3600.0
LATE_S = 10  # that times of files may be old: a lease is stale after 60 s without a heart beat
MOUNT = "mount it so that flock reaches all machines: docs/clusters.md says how"
LEAST = 64 * 2**20
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()"  # noqa: E501


def nearest(store: Path) -> Path | None:
    """The store, or the folder that is there nearest above it; None where a file is in the way."""
    for folder in (store, *store.absolute().parents):
        if folder.is_dir():
            return folder
        if os.path.lexists(folder):
            return None
    return None


def place(store: Path) -> Iterator[Finding]:
    """Whether the store is there, or can be made."""
    here = nearest(store)
    if here is None:
        yield broken(f"{store} is no folder, or a file is in its way", "another --store, or move the file")
    elif not os.access(here, os.R_OK | os.W_OK | os.X_OK):
        yield broken(f"{here} may not be read and written", "its owner's permissions, or another --store")
    elif here == store and (
        names := [n for n in FOLDERS if os.path.lexists(store / n) and not (store / n).is_dir()]
    ):
        yield broken(f"{store}: {', '.join(names)} should be a folder", "move it away")
    elif here == store:
        yield ok(f"store {store}")
    else:
        yield ok(f"store {store} is not there yet and can be made")


def system(folder: Path) -> Iterator[Finding]:
    """What the file system of `folder` is, and whether it does what the ledger builds on."""
    kind, at, options = _mount(folder)
    probe = folder / f".doctor.{uuid.uuid4().hex}"
    try:
        probe.mkdir()
        _renames(probe)
        locks, fine = _locks(probe), _case(probe)
        resolution = _resolution(probe)
    except OSError as error:
        yield broken(f"writing to {folder} fails: {one_line(error)}", "room, quota, ulimit -f, permissions")
        return
    except _Unlike as error:
        yield broken(f"{kind} at {at}: {error}", "a local file system for --store")
        return
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    where = f"{kind} at {at}"
    if locks:
        yield broken(f"{where}: {locks}", "a local file system for --store, or mount it with locks")
    elif why := _alone(options):
        yield broken(f"{where}: locks of this machine do not reach others ({why})", MOUNT)
    elif NETWORK.fullmatch(kind):
        todo = "SQLite on it is unsafe from several machines: set MLFLOW_TRACKING_URI to a server"
        yield look(f"{where} is a network's; renames and locks of this machine work", todo)
        if kind.startswith("nfs") and (late_s := _late_s(options)) > LATE_S:
            what = f"{where} shows what other machines write up to {late_s} s late: live trials may look dead"
            yield look(what, f"mount it with actimeo={LATE_S}")
    elif kind in PASSING:
        yield look(
            f"{where}: {PASSING[kind]}; renames and locks work", "a --store that stays, for what you keep"
        )
    else:
        yield ok(f"{where}: renames, renames over open files and locks between processes work")
    cases = "case counts" if fine else "upper and lower case are the same"
    told = f"times of files to {resolution}, {cases}"
    yield ok(told) if "ns" in resolution else look(told, "changes within that time may be seen late")


class _Unlike(Exception):
    """The file system does not do what POSIX says."""


def _renames(probe: Path) -> None:
    file = probe / "file"
    write_bytes(file, b"old")
    with file.open("rb") as reader:
        write_bytes(file, b"new" + bytes(2**20))
        if reader.read() != b"old" or file.read_bytes()[:3] != b"new":
            raise _Unlike("a rename over an open file changes what its reader sees")
    write_folder(probe / "folder", lambda temporary: (temporary / "x").touch())
    if not (probe / "folder" / "x").is_file():
        raise _Unlike("a folder that was renamed is not there")


def _locks(probe: Path) -> str:
    """What is wrong with locks between processes; "" where nothing is."""
    file = probe / "lock"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        if child.stdout is None or child.stdout.readline() != b"1\n":
            return "a process can't lock a file"
        with file.open("a") as mine:
            if _had(mine):
                return "two processes held one lock at the same time"
            child.kill()
            child.wait()
            until = time.monotonic() + 1
            while not (free := _had(mine)) and time.monotonic() < until:
                time.sleep(0.02)
            return "" if free else "a dead process's lock stays"
    finally:
        child.kill()
        child.communicate()


def _had(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _case(probe: Path) -> bool:
    (probe / "Case").touch()
    return not (probe / "cASE").exists()


def _resolution(probe: Path) -> str:
    file = probe / "time"
    file.touch()
    os.utime(file, ns=(10**18 + 123_456_789,) * 2)
    left = file.stat().st_mtime_ns % 10**9
    steps = ((1, "1 ns"), (100, "100 ns"), (1000, "1 us"), (10**6, "1 ms"))
    return next((name for step, name in steps if left == 123_456_789 // step * step), "1 s or more")


def _alone(options: list[str]) -> str:
    """The mount option that keeps flock to this machine; "" where none does (nfs(5), mount.lustre(8))."""
    return next(
        (o for o in options if o in ("nolock", "local_lock=flock", "local_lock=all", "localflock")), ""
    )


def _late_s(options: list[str]) -> int:
    """Seconds for which NFS may show old times of files and old lists of folders: 60 where nothing is said
    (nfs(5))."""
    given = dict(option.partition("=")[::2] for option in options)
    return 0 if "noac" in given else max(int(given.get(name) or 60) for name in ("acregmax", "acdirmax"))


def _mount(folder: Path) -> tuple[str, str, list[str]]:
    """Type, place and options of the file system of `folder`, as the kernel lists them; the last one hides
    others."""
    best, real = ("unknown file system", "?", list[str]()), str(folder.resolve())
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, at, kind, options, *_ = line.split(" ")
            at = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), at)
            inside = real == at or real.startswith(at.rstrip("/") + "/")
            if inside and (best[1] == "?" or len(at) >= len(best[1])):
                best = kind, at, options.split(",")
    return best


def room(store: Path, folder: Path) -> Iterator[Finding]:
    """Free space, against what trials leave here."""
    free, found = shutil.disk_usage(folder).free, os.statvfs(folder)
    sizes = [size for name in _some(store / "trials") if (size := _size(store / "trials" / name))]
    each = sum(sizes) / len(sizes) if sizes else 0.0
    known = f"; a trial leaves {amount(each)}, so room for {free / each:,.0f}" if each else ""
    what = f"{amount(free)} free{known}"
    if free < LEAST + each:
        yield broken(what, "make room: a launch would stop at once")
    elif free < 2**30 or (each and free < 100 * each):
        yield look(what, "make room before a long launch")
    else:
        yield ok(what)
    if found.f_files and found.f_favail < 10_000:
        yield look(f"{found.f_favail} more files can be made here", "a trial makes some ten files: make room")


def _some(trials: Path) -> list[str]:
    """Fifty of the trials' folders, from all over: names are hashes."""
    with suppress(OSError):
        return os.listdir(trials)[:50]
    return []


def _size(folder: Path) -> int:
    size = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):  # of a trial that runs
                size += os.lstat(os.path.join(at, name)).st_blocks * 512
    return size


def leftovers(store: Path) -> Iterator[Finding]:
    """What processes that were killed had not finished writing."""
    count, size, before = 0, 0, time.time() - LEFT_S
    for folder in dict.fromkeys(_folders(store)):
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not LEFTOVER.fullmatch(entry.name):
                    continue
                stat = entry.stat(follow_symlinks=False)
                if stat.st_mtime < before:
                    count += 1
                    size += _size(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else stat.st_size
    if count:
        where = f"{shlex.quote(str(store))} -regextype egrep -regex '.*/\\..+\\.[0-9a-f]{{32}}' -mmin +60"
        todo = f"while nothing runs: find {where} -prune -exec rm -r {{}} +"
        yield look(f"{count} temporary files of killed processes, {amount(size)}", todo)
    else:
        yield ok("no temporary files of killed processes")


def _folders(store: Path) -> Iterator[str]:
    """Where temporary files may be: the store, and one or two folders down."""
    yield str(store)
    for top in ("trials", "sweeps", "cache", "cache/text", "cache/windows"):
        with suppress(OSError):
            yield str(store / top)
            for name in os.listdir(store / top):
                inner = f"{store}/{top}/{name}"
                yield inner
                if top == "trials":
                    yield from (f"{inner}/{a}" for a in os.listdir(inner) if a.startswith("attempt-"))
