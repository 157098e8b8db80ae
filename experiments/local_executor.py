"""The local executor: a process a trial on this machine, forked from a server that has imported all once."""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess

from experiments.execute import Task
from experiments.packing import Packing, sample

# Python 3.11's fork server does not import `__main__`, whatever it is told; for `shapelex` that is the cli.
PRELOAD = ["__main__", "experiments.cli", "experiments.trial"]
LOST = 255  # the exit code of a process whose fork server died, and with it the news of its end
ENDS = (
    "held",
    "lost",
    "pre-empted",
    "pruned",
    "out of memory",
    "crashed",
    "disk full",
)  # of trial.run, as exit codes
FIRST_END = 80
PR_SET_PDEATHSIG = 1
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
LOOK_S = 2.0  # between looks at GPUs


class LocalExecutor:
    """A process a task, forked from a server that has imported torch and Lightning once. Each leads a process
    group of its own. packing: at most `workers`, as many on each device as it says; else `workers` slots, the
    devices in turn."""

    def __init__(self, workers: int, devices: list[str], packing: Packing | None = None) -> None:
        self.workers, self.devices, self.packing = workers, devices, packing
        self.peak_mb: float | None = None  # the largest of any trial
        self.running: list[tuple[BaseProcess, Task, str]] = []
        self.closed = threading.Event()
        self.slots = [devices[i % len(devices)] for i in range(workers)]
        if packing is not None:
            os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts
            self.look()
            threading.Thread(target=self._keep_looking, daemon=True).start()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        _ensure_server()  # its imports take seconds: begin at once, while the caller still plans

    @property
    def free(self) -> list[str]:
        """A device for each task that may start now."""
        if self.packing is not None:
            counts = {device: self.on(device) for device in self.devices}
            left = self.packing.free(counts, self.peak_mb)
        else:
            left = list(self.slots)
            for _, _, device in self.running:
                if device in left:
                    left.remove(device)
        return left[: self.workers - len(self.running)]

    def on(self, device: str) -> int:
        """How many tasks run there."""
        return [other for _, _, other in self.running].count(device)

    def look(self) -> None:
        """See what the devices hold. nvidia-smi takes up to seconds."""
        for device in self.devices:
            running = self.on(device)
            if self.packing is not None and (use := sample(device)) is not None:
                self.packing.seen(device, running, use)

    def _keep_looking(self) -> None:
        while not self.closed.wait(LOOK_S):
            self.look()

    def queued(self, task: Task) -> bool:
        return False

    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None:
        if peak_mb is not None:
            self.peak_mb = max(peak_mb, self.peak_mb or 0.0)
        if how == "out of memory" and self.packing is not None:
            device = task.jobs[0].device
            self.packing.ran_out(device, 1 + self.on(device))

    def start(self, task: Task) -> None:
        for last in (False,) * 50 + (True,):
            _ensure_server()
            process = self.context.Process(target=_child, args=(task,), daemon=True)
            try:
                process.start()
                break
            except (ConnectionError, EOFError, FileNotFoundError):
                if last:
                    raise
                time.sleep(0.1)  # the server has just died: the system takes a moment to say so
        self.running.append((process, task, task.jobs[0].device))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        multiprocessing.connection.wait([p.sentinel for p, _, _ in self.running], timeout_s)
        ended = []
        for entry in list(self.running):
            process, task, _ = entry
            if process.exitcode is None:
                continue
            _kill_group(process, ended=process.exitcode != LOST)  # what it left; with its server lost, itself
            self.running.remove(entry)
            ended.append((task, _ending(process.exitcode)))
            process.close()
        return ended

    def interrupt(self) -> None:
        for process, _, _ in self.running:
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)

    def kill(self, task: Task) -> None:
        for process, running, _ in self.running:
            if running is task:
                _kill_group(process)

    def close(self) -> None:
        self.closed.set()
        for process, _, _ in self.running:
            _kill_group(process)
        for process, _, _ in self.running:
            process.join()
        self.running.clear()


def _kill_group(process: BaseProcess, ended: bool = False) -> None:
    """The process and all that it started; what it left behind where it has ended."""
    if process.pid is not None:
        for kill in (os.killpg,) if ended else (os.killpg, os.kill):  # it may not lead its group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(process.pid, signal.SIGKILL)


def _ensure_server() -> None:
    """Start the fork server where it is not running. It and its children inherit deafness to SIGNALS, which
    a terminal or a batch system sends to all at once (the coordinator decides), and import from where this
    process does: left alone, the server of Python 3.11 looks into the working directory first."""
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = {name: os.environ.get(name) for name in environment}
    resource_tracker.ensure_running()  # or the server starts it, which unblocks SIGINT
    # Blocked, not ignored: a signal that comes now waits for the end of this function.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
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


def _ending(code: int) -> str | None:
    if code == 0:
        return None
    if code == LOST:
        return "its fork server died"
    if FIRST_END <= code < FIRST_END + len(ENDS):
        return ENDS[code - FIRST_END]
    if code in (-signal.SIGTERM, -signal.SIGUSR2):  # before or after it listens to them
        return "pre-empted"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _child(task: Task) -> None:
    """A task's process: gone when the coordinator is gone."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":  # the server ends with the coordinator; no thread of ours may get to run then
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        log = os.open(task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:  # a disk without room for it
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(2, all_threads=False)  # where a segfault was, into its log
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS - {signal.SIGINT})
    from experiments import trial

    end = trial.CALLS[task.call](task.jobs, True)
    sys.exit(0 if end is None else FIRST_END + ENDS.index(end))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
