"""Whether trials get on: this launch's, which may hang, and other launches', which may die.

Clocks of files are compared with themselves alone, and time is this process's monotonic one.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import lease

SHARE = 5


def shown(trial: Path) -> tuple[Any, ...]:
    """What changes while a trial gets on."""
    here, out = lease.live(trial), []
    for name in ("progress", "metrics.jsonl", "log.txt"):
        try:
            stat = (here / name).stat()
            out.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            out.append((-1, 0))
    return here, *out


def epochs_done(trial: Path) -> int:
    """Lines of the trial's metrics file."""
    try:
        return (lease.live(trial) / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


class Since:
    """Since when each trial shows the same."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Any, float]] = {}

    def same_s(self, signature: str, sight: Any) -> float:
        """Seconds for which `sight` has been the trial's."""
        now = time.monotonic()
        before, since = self.seen.get(signature, (None, now))
        self.seen[signature] = (sight, since if sight == before else now)
        return now - self.seen[signature][1]

    def forget(self, signature: str) -> None:
        self.seen.pop(signature, None)


class Pace:
    """Something that is due every so many seconds, but takes no more than a SHARE-th of the time: a look at a
    thousand trials takes seconds where their files are far away."""

    def __init__(self, every_s: float) -> None:
        self.every_s, self.next = every_s, time.monotonic() + every_s

    def keep(self, step: Callable[[], None]) -> None:
        """Do it if it is due."""
        if (began := time.monotonic()) >= self.next:
            step()
            self.next = began + max(self.every_s, SHARE * (time.monotonic() - began))
