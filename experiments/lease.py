"""Who may run a trial. An attempt is a numbered folder inside the trial's; the highest number holds the
lease, and it is the fencing token.

An attempt writes into its own folder alone. What it made becomes the trial's in `Lease.accept`, under the
trial's lock and only while its number is the highest: a late result of a lost lease is rejected. A process of
this machine is asked for by its id and its birth, another machine's by its heart beat, which whoever waits
has to watch for STALE_S: no clock is compared with another.
"""

import os
import re
import shutil
import socket
import threading
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from experiments.ledger import locked, read_json, write_json

BEAT_S = 5.0
STALE_S = 60.0
HANDED_ON = ("checkpoint", "metrics.jsonl", "system.jsonl", "log.txt", "figures")  # from a dead attempt
# All that an attempt may leave to the trial, whose folder holds those of its accepted result.
FILES = (*HANDED_ON[1:], "config.json", "predictions.npz", "model", "code.patch")
_ATTEMPT = re.compile(r"attempt-[1-9][0-9]{0,8}")


class Holder(NamedTuple):
    """Whoever holds a lease. beat: changes while they live."""

    attempt: int
    host: str
    machine: str
    pid: int
    born: str
    beat: int

    def alive(self) -> bool | None:
        """None: on another machine, where only a heart beat that goes on would tell."""
        return None if self.machine != machine() else self.born == born(self.pid) is not None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Held(Exception):
    """Another process holds the lease; `holder` says which."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


class Lost(Exception):
    """The lease was taken over: nothing that this attempt makes is accepted any more."""


@cache
def machine() -> str:
    """Where process ids mean the same: one boot of one kernel, one namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def born(pid: int) -> str | None:
    """When the process began, in its kernel's words ("" where that is not told); None where there is none."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, ValueError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def attempts(trial: Path) -> list[int]:
    """Numbers of the attempts whose folders are there, in their order."""
    try:
        with os.scandir(trial) as found:
            names = [entry.name for entry in found if _ATTEMPT.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []
    return sorted(int(name.removeprefix("attempt-")) for name in names)


def folder(trial: Path, attempt: int) -> Path:
    return trial / f"attempt-{attempt}"


def holder(trial: Path) -> Holder | None:
    """Who holds the trial's lease, or held it when they died; None where nobody began since its result."""
    for attempt in attempts(trial)[-1:]:
        path = folder(trial, attempt) / "lease.json"
        found = read_json(path)
        with suppress(OSError, TypeError, KeyError):
            told = {name: found[name] for name in ("host", "machine", "pid", "born")}
            return Holder(attempt, **told, beat=path.stat().st_mtime_ns)
    return None


def history(trial: Path) -> list[dict[str, Any]]:
    """How attempts ended that left no result, since the last accepted one."""
    found = read_json(trial / "history.json")
    kinds = {"attempt": int, "end": str, "detail": str}
    return [
        end
        for end in (found if isinstance(found, list) else [])
        if isinstance(end, dict) and all(isinstance(end.get(name), kind) for name, kind in kinds.items())
    ]


def accepted(trial: Path) -> int:
    """The attempt of the accepted result; 0 where there is none."""
    found = read_json(trial / "result.json")
    number = found.get("attempt", 0) if isinstance(found, dict) else 0
    return number if isinstance(number, int) else 0


def settle(trial: Path) -> None:
    """Finish what an attempt began that died between its result and the acceptance, and clear away what one
    wrote that had lost its lease. Needs the lock."""
    last = accepted(trial)
    for attempt in attempts(trial):
        if attempt <= last:
            shutil.rmtree(folder(trial, attempt), ignore_errors=True)
    for attempt in attempts(trial)[-1:]:
        mine = folder(trial, attempt)
        found = read_json(mine / "result.json")
        if isinstance(found, dict) and isinstance(found.get("files"), list):
            _take(trial, mine, found["files"])


def _take(trial: Path, mine: Path, files: list[str]) -> None:
    """Make the attempt's files the trial's, its result last; may be interrupted anywhere and done again."""
    for name in FILES:
        source, target = mine / name, trial / name
        if name in files and not source.exists():
            continue  # moved already, before an interruption
        _clear(target)
        if name in files:
            os.rename(source, target)
    _clear(trial / "history.json")
    if (trial / "result.json").is_dir():
        shutil.rmtree(trial / "result.json")
    os.replace(mine / "result.json", trial / "result.json")
    shutil.rmtree(mine, ignore_errors=True)


def _sync(path: Path) -> None:
    """Lest a power cut leaves a result whose files are torn."""
    with suppress(FileNotFoundError, IsADirectoryError), path.open("rb") as file:
        os.fsync(file.fileno())


def _clear(path: Path) -> None:
    """Whatever is there, a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Lease:
    """The right to run a trial, held by this process in `folder`. Made by `claim`."""

    def __init__(self, trial: Path, attempt: int) -> None:
        self.trial, self.attempt, self.folder = trial, attempt, folder(trial, attempt)
        self.steps = self._shown = 0
        self.asked: str | None = None
        self._over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            there = attempts(self.trial)
            if there and there[-1] != self.attempt:
                self.asked = "lost"
                return
            with suppress(OSError):  # a disk that is full, a server that is away: beat on
                os.utime(self.folder / "lease.json")
                if self.steps != self._shown:
                    self._shown = self.steps
                    (self.folder / "progress").touch()

    def step(self) -> None:
        """Say that the trial got on: what does not is taken for hung (`Launch`)."""
        self.steps += 1

    def ended(self, how: str, detail: str) -> None:
        """Note that this attempt ends without a result, and hand the trial back."""
        with self._mine():
            note(self.trial, self.attempt, how, detail)
            self.release()

    def drop(self) -> None:
        """Hand the trial back as if nobody had tried."""
        self._over.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """Hand the trial back; what is in the folder waits for the next attempt."""
        self._over.set()
        (self.folder / "lease.json").unlink(missing_ok=True)

    def accept(self, result: dict[str, Any]) -> None:
        """Make this attempt's files and `result` the trial's. Raises Lost."""
        files = [name for name in FILES if (self.folder / name).exists()]
        for name in files:
            for path in (self.folder / name, *self.folder.glob(f"{name}/*")):
                _sync(path)
        try:
            numbered = result | {"attempt": self.attempt, "files": files}
            write_json(self.folder / "result.json", numbered, make=False)
        except FileNotFoundError:
            raise Lost from None
        with self._mine():
            self._over.set()
            _take(self.trial, self.folder, files)

    @contextmanager
    def _mine(self) -> Any:
        with locked(self.trial / "lock", wait=True):
            newest = attempts(self.trial)[-1:] == [self.attempt] and accepted(self.trial) < self.attempt
            if not newest or not (self.folder / "lease.json").exists():  # a late write makes a folder anew
                raise Lost
            yield


def note(trial: Path, attempt: int, how: str, detail: str) -> None:
    """Add to the trial's history. Needs the lock."""
    write_json(trial / "history.json", [*history(trial), {"attempt": attempt, "end": how, "detail": detail}])


def claim(trial: Path, stale: Holder | None = None) -> Lease:
    """The lease of `trial`, with what a dead attempt left to go on from. Raises Held where another process
    has it. stale: a holder on another machine who was seen without a heart beat for STALE_S."""
    with suppress(OSError):
        if not trial.is_dir():  # a file, a link to nowhere
            trial.unlink()
    trial.mkdir(parents=True, exist_ok=True)
    with locked(trial / "lock", wait=True):
        settle(trial)
        before, found = attempts(trial), holder(trial)
        if found is not None and found.alive() is not False and found != stale:
            raise Held(found)
        ends = [end.get("attempt", 0) for end in history(trial)]
        number = 1 + max([*before, *ends, accepted(trial)], default=0)
        mine = folder(trial, number)
        _clear(mine)
        mine.mkdir()
        me = {"host": socket.gethostname(), "machine": machine(), "pid": os.getpid()}
        try:
            write_json(mine / "lease.json", me | {"born": born(os.getpid())}, sync=False)
            for old in [folder(trial, attempt) for attempt in before]:
                there = [name for name in HANDED_ON if (old / name).exists()]
                for name in [n for n in there if (old / n).is_dir() == (n == "figures")]:
                    _clear(mine / name)
                    os.replace(old / name, mine / name)
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            (mine / "lease.json").unlink(missing_ok=True)
            raise
    return Lease(trial, number)


def settled(trial: Path) -> None:
    """`settle`, for who has not the lock."""
    if attempts(trial):
        with locked(trial / "lock", wait=True):
            settle(trial)


def live(trial: Path) -> Path:
    """Where the trial's files are now: its newest attempt's folder, or its own."""
    return next((folder(trial, attempt) for attempt in attempts(trial)[-1:]), trial)


def running(trial: Path) -> Holder | None:
    """Who works at the trial, as far as this machine can tell."""
    found = holder(trial)
    return None if found is None or found.alive() is False else found


def prune(trial: Path) -> None:
    """Ask whoever runs the trial to stop: its study has ended it."""
    for attempt in attempts(trial)[-1:]:
        if attempt > accepted(trial):
            with suppress(FileNotFoundError):
                (folder(trial, attempt) / "prune").touch()
