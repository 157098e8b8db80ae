"""A machine of a cluster: what a task needs to mean the same there, and why one may not be fit for it."""

import os
import socket
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path

from experiments.execute import GONE, UNFIT, Task

TRIES = 3  # machines that may be unfit before one is fit


class Unfit(RuntimeError):
    """No machine of the cluster has been fit for this launch; one line says why."""


class Fitness:
    """What a launch has learnt of its cluster's machines."""

    def __init__(self) -> None:
        self.fit, self.unfit = False, 0

    def learn(self, how: str | None) -> bool:
        """Whether a machine on which a task ended so is fit. Raises Unfit where the first TRIES are not."""
        if how is None or not how.startswith(UNFIT):
            self.fit = self.fit or how != GONE
            return True
        self.unfit += 1
        if not self.fit and self.unfit >= TRIES:
            raise Unfit(how.removeprefix(UNFIT))
        return False


def unused(word: str, taken: Collection[str]) -> Iterator[str]:
    """Names for slots: `word` and a number, without end."""
    return (name for n in count(1) if (name := f"{word} {n}") not in taken)


def absolute(task: Task, device: str) -> Task:
    """With paths that mean the same from wherever they are looked at, and on the device that a machine of
    the cluster has for it."""

    def whole(path: Path | str) -> str:
        return os.path.abspath(path)

    jobs = [
        job._replace(store=whole(job.store), patch=job.patch and Path(whole(job.patch)), device=device)
        for job in task.jobs
    ]
    return task._replace(jobs=jobs, log=Path(whole(task.log)))


def unfit(task: Task, code: str) -> str | None:
    """Why this machine can't run the task: it must see the store, and have the code that results name. code:
    the hash of what it has imported."""
    job, here = task.jobs[0], os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    if not task.log.parent.is_dir():
        return f"{UNFIT}{here} does not see {job.store}: the store must be a folder that all machines share"
    if code != job.code:
        return f"{UNFIT}{here} has other code of ShapeLex ({code}) than this launch ({job.code})"
    return None
