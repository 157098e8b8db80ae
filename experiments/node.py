"""A machine of a cluster: what a task needs to mean the same there, and why one may not be fit for it."""

import os
import socket
from pathlib import Path

from experiments.code import source_hash
from experiments.execute import UNFIT, Task


class Unfit(RuntimeError):
    """No machine of the cluster has been fit for this launch; one line says why."""


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


def unfit(task: Task) -> str | None:
    """Why this machine can't run the task: it must see the store, and have the code that results name."""
    job, here = task.jobs[0], os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    if not task.log.parent.is_dir():
        return f"{UNFIT}{here} does not see {job.store}: the store must be a folder that all machines share"
    if (mine := source_hash()) != job.code:
        return f"{UNFIT}{here} has other code of ShapeLex ({mine}) than this launch ({job.code})"
    return None
