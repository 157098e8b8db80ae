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
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments.ledger import Store

PRELOAD = ["__main__", "experiments.trial"]
LOST = 255  # the exit code of a process whose fork server died, and with it the news of its end


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
        self.ended: list[tuple[Task, str, str | None]] = []

    def start(self, task: Task) -> None:
        device, death = self.free.pop(0), None
        try:
            _call(task)
        except Exception as error:
            death = f"{type(error).__name__}: {error}"
        self.ended.append((task, device, death))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        ended, self.ended = self.ended, []
        self.free += [device for _, device, _ in ended]
        return [(task, death) for task, _, death in ended]

    def close(self) -> None:
        pass


class LocalExecutor:
    """A process a job, forked from a server that has imported torch and Lightning once."""

    def __init__(self, workers: int, devices: list[str]) -> None:
        self.free = [devices[i % len(devices)] for i in range(workers)]
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        self.running: list[tuple[multiprocessing.process.BaseProcess, Task, str]] = []
        _ensure_server()  # its imports take seconds: begin at once, while the caller still plans

    def start(self, task: Task) -> None:
        for last in (False,) * 50 + (True,):
            _ensure_server()
            process = self.context.Process(target=_child, args=(task,), daemon=True)
            try:
                process.start()
                break
            except (ConnectionRefusedError, FileNotFoundError):
                if last:
                    raise
                time.sleep(0.1)  # the server has just died: the system takes a moment to say so
        self.running.append((process, task, self.free.pop(0)))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        multiprocessing.connection.wait([p.sentinel for p, _, _ in self.running], timeout_s)
        ended = []
        for entry in list(self.running):
            process, task, device = entry
            if process.exitcode is None:
                continue
            if process.exitcode == LOST and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it may live on: its slot goes to another
                    os.kill(process.pid, signal.SIGKILL)
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


def _ensure_server() -> None:
    """Start the fork server where it is not running. It and its children inherit deafness to Ctrl-C (the
    coordinator decides), and import from where this process does: left alone, the server of Python 3.11
    looks into the working directory first."""
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = {name: os.environ.get(name) for name in environment}
    resource_tracker.ensure_running()  # or the server starts it, which unblocks SIGINT
    # Blocked, not ignored: a Ctrl-C that comes now waits for the end of this function.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(environment)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _death(code: int) -> str:
    if code == LOST:
        return "its fork server died"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _child(task: Task) -> None:
    """A trial's process: gone when the coordinator is gone, and all that it prints goes to its log."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    folder = Store(Path(task.jobs[0].store)).trial(task.jobs[0].signature)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:  # appending, because `trial.run` adds a traceback
        log.truncate(0)
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
