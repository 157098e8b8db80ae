"""Executors: where trials run. Each has slots, starts a task in a free one, and reports ends.

The contract: `start(task)` while `free`, which names a slot for each task that may start now;
`poll(timeout_s)` returns the tasks that ended since, with how (None: it did all it was asked to; else a word
of `trial.run`, or how it died); `queued(task)`: it still waits for a machine; `interrupt()` asks whatever
runs to give itself back (a signal's handler calls it), `kill(task)` ends one at once, `close()` all; `learn`
is told what an ended trial says of the room that trials need. On a cluster a task may run more than once,
even at the same time: whose result counts is the lease's to say. A trial's outcome is in the ledger, never in
what an executor returns. `tests/test_execute.py` holds each of them to this.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments.packing import Packing

POLL_S = 0.2  # that a coordinator waits for ends at a time
GONE = "its machine is gone"  # how a task ends whose machine a cluster lost
UNFIT = "unfit: "  # how one begins to end, on a machine that can't run it; the rest says why


class Job(NamedTuple):
    """What an executor hands to a trial: plain values that pickle. device: where it trains, or the slot that
    knows; accepted: the attempt whose result is to be replaced, 0 where there is none; stale: see
    `lease.claim`; recompute: activations, to save memory; origin: of the code, beside its hash; patch: see
    `code.lay`."""

    signature: str
    config: dict[str, Any]
    digests: dict[str, str | None]
    store: str
    device: str
    code: str
    submitted_at: float
    accepted: int = 0
    stale: Any = None
    recompute: bool = False
    origin: dict[str, Any] | None = None
    patch: Path | None = None


class Task(NamedTuple):
    """One of `experiments.trial.CALLS` and its jobs; log: where what it prints goes at first; alone: on a
    device that it shares with nobody."""

    call: str
    jobs: list[Job]
    log: Path
    alone: bool = False


class Executor(Protocol):
    @property
    def free(self) -> list[str]: ...
    def start(self, task: Task) -> None: ...
    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]: ...
    def queued(self, task: Task) -> bool: ...
    def interrupt(self) -> None: ...
    def kill(self, task: Task) -> None: ...
    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None: ...
    def close(self) -> None: ...


class InlineExecutor:
    """Runs each task inside the coordinator's process, as it starts: for debugging."""

    def __init__(self, workers: int, devices: list[str], packing: Packing | None = None) -> None:
        self.free, self.busy = devices[:1], False
        self.ended: list[tuple[Task, str, str | None]] = []

    def start(self, task: Task) -> None:
        from experiments import trial

        device, how = self.free.pop(0), None
        self.busy = True
        try:
            how = trial.CALLS[task.call](task.jobs, False)
        except Exception as error:
            how = f"{type(error).__name__}: {error}"
        finally:
            self.busy = False
        self.ended.append((task, device, how))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        ended, self.ended = self.ended, []
        self.free += [device for _, device, _ in ended]
        return [(task, how) for task, _, how in ended]

    def queued(self, task: Task) -> bool:
        return False

    def interrupt(self) -> None:
        if self.busy:  # called by a signal, in the midst of the trial
            raise KeyboardInterrupt

    def kill(self, task: Task) -> None:
        pass

    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None:
        pass

    def close(self) -> None:
        pass


def _local(workers: int, devices: list[str], packing: Packing | None, cluster: Any) -> Executor:
    from experiments.local_executor import LocalExecutor

    return LocalExecutor(workers, devices, packing)


def _ray(workers: int, devices: list[str], packing: Packing | None, cluster: Any) -> Executor:
    from experiments.ray_executor import RayExecutor

    return RayExecutor(workers, devices[0], cluster)


def _slurm(workers: int, devices: list[str], packing: Packing | None, cluster: Any) -> Executor:
    from experiments.slurm_executor import SlurmExecutor

    return SlurmExecutor(workers, devices[0], cluster)


Make = Callable[[int, list[str], Packing | None, Any], Executor]  # the last: see `experiments.cluster`
EXECUTORS: dict[str, Make] = {
    "inline": lambda workers, devices, packing, cluster: InlineExecutor(workers, devices, packing),
    "local": _local,
    "ray": _ray,
    "slurm": _slurm,
}
