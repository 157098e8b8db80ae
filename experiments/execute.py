"""Executors: where trials run. Each holds device slots, starts a job in a free one, and reports ends.

The contract: `start(call, job)` while `free`; `poll(timeout_s)` returns the jobs that ended since, with how
(None: it returned; text: it died, and how); `close()` stops whatever runs, at once. A trial's outcome is in
the ledger, never in what an executor returns.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments.ledger import Store

PRELOAD = ["__main__", "experiments.trial"]


class Job(NamedTuple):
    """What an executor hands to a trial: plain values that pickle."""

    signature: str
    config: dict[str, Any]
    digests: dict[str, str | None]
    store: str
    device: str
    code: str
    submitted_at: float


class Task(NamedTuple):
    """A function of `experiments.trial` by name, and its jobs; the first one's folder gets the log."""

    call: str
    jobs: list[Job]


class Executor(Protocol):
    free: list[str]

    def start(self, task: Task) -> None: ...
    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]: ...
    def close(self) -> None: ...


def _call(task: Task) -> None:
    from experiments import trial

    getattr(trial, task.call)(task.jobs)


class InlineExecutor:
    """Runs each job inside the coordinator's process, as it starts: for debugging."""

    def __init__(self, workers: int, devices: list[str]) -> None:
        self.free = devices[:1]
        self.ended: list[tuple[Task, str | None]] = []

    def start(self, task: Task) -> None:
        _call(task)
        self.ended.append((task, None))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


class LocalExecutor:
    """A process a job, forked from a server that has imported torch and Lightning once."""

    def __init__(self, workers: int, devices: list[str]) -> None:
        self.free = [devices[i % len(devices)] for i in range(workers)]
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        self.running: list[tuple[multiprocessing.process.BaseProcess, Task, str]] = []
        # Importing takes seconds: begin at once, while the caller still plans.
        threading.Thread(target=self._warm, daemon=True).start()

    def _warm(self) -> None:
        from multiprocessing import forkserver

        with contextlib.suppress(OSError):
            forkserver.ensure_running()

    def start(self, task: Task) -> None:
        device = self.free.pop(0)
        process = self.context.Process(target=_child, args=(task,), daemon=True)
        process.start()
        self.running.append((process, task, device))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        multiprocessing.connection.wait([p.sentinel for p, _, _ in self.running], timeout_s)
        ended = []
        for entry in list(self.running):
            process, task, device = entry
            if process.exitcode is not None:
                self.running.remove(entry)
                self.free.append(device)
                ended.append((task, None if process.exitcode == 0 else _death(process.exitcode)))
        return ended

    def close(self) -> None:
        for process, _, _ in self.running:
            process.kill()
        for process, _, _ in self.running:
            process.join()
        self.running.clear()


def _death(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _child(task: Task) -> None:
    """A trial's process: deaf to Ctrl-C (the coordinator decides), gone when the coordinator is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    folder = Store(Path(task.jobs[0].store)).trial(task.jobs[0].signature)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _call(task)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


EXECUTORS: dict[str, Callable[[int, list[str]], Executor]] = {
    "inline": InlineExecutor,
    "local": LocalExecutor,
}
