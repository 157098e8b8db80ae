"""The Ray executor: each slot is an actor somewhere on the cluster, with a local executor of its own.

So a trial is a process forked from warm imports there, as it is here: its crash ends no actor, an actor's end
ends its trial, and what Ray gave the actor (CUDA_VISIBLE_DEVICES) holds for the trial.
"""

import contextlib
import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from experiments.cluster import RayCluster
from experiments.execute import GONE, UNFIT, Task
from experiments.node import Unfit, absolute, unfit

LOOK_S = 5.0  # between looks at what the cluster has
IDLE_S = 60.0  # that an actor is kept for the next trial
REACH_S = 5.0


class Slot:
    """The actor: runs a task at a time."""

    def __init__(self, folder: str, device: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        from experiments.local_executor import LocalExecutor

        self.local = LocalExecutor(1, [device])

    def ready(self) -> None:
        pass

    def run(self, task: Task) -> str | None:
        if (why := unfit(task)) is not None:
            return why
        self.local.start(task)
        while not (ended := self.local.poll(1.0)):
            pass
        return ended[0][1]

    def interrupt(self) -> None:
        self.local.interrupt()


def _reach(address: str) -> None:
    """Raises Unfit where nobody listens, which Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise Unfit(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


@dataclass
class Held:
    """A slot in use. sent: what the actor was given; ready, done: Ray's references; up: the actor runs."""

    name: str
    actor: Any
    whole: bool
    ready: Any
    task: Task | None = None
    done: Any = None
    up: bool = False
    since: float = 0.0


class RayExecutor:
    """workers: trials at a time; 0: as many as the cluster has room for. device: of each slot, on its own."""

    def __init__(self, workers: int, device: str, cluster: RayCluster) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":  # by default Ray listens to the whole network
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        import ray

        self.ray, self.workers, self.device, self.cluster = ray, workers, device, cluster
        if ":" in address:
            _reach(address)
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise Unfit(f"Ray at {address}: {' '.join(str(error).split())[:200]}") from None
        data = os.environ.get("SHAPELEX_DATA")
        self.actor: Any = ray.remote(Slot)
        self.needs = {
            "num_cpus": cluster.cpus,
            "memory": None if cluster.memory_gb is None else round(cluster.memory_gb * 2**30),
            "max_concurrency": 2,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": {"SHAPELEX_DATA": data}} if data else None,
        }
        self.busy, self.idle, self.plugs = list[Held](), list[Held](), list[Held]()
        self.asked = self.proven = False
        self.most, self.looked = workers, 0.0

    @property
    def free(self) -> list[str]:
        if not self.workers and time.monotonic() - self.looked > LOOK_S:
            self.looked, self.most = time.monotonic(), max(1, self._room())
        taken = {slot.name for slot in self.busy}
        names = (f"slot {n}" for n in range(1, self.most + len(self.busy) + 1))
        return [name for name in names if name not in taken][: max(0, self.most - len(self.busy))]

    def _room(self) -> int:
        """Slots that the cluster's machines have, were they empty but for the plugs."""
        room = 0
        for node in self.ray.nodes():
            has, needs = node["Resources"], {"CPU": self.cluster.cpus, "GPU": self.cluster.gpus}
            if node["Alive"]:
                room += min(int(has.get(name, 0) / need + 1e-9) for name, need in needs.items() if need)
        return room - len(self.plugs)

    def start(self, task: Task) -> None:
        slot = next((s for s in self.idle if s.whole == task.alone), None)
        if slot is None:
            gpus = max(1.0, self.cluster.gpus) if task.alone and self.cluster.gpus else self.cluster.gpus
            actor = self.actor.options(num_gpus=gpus, **self.needs).remote(os.getcwd(), self.device)
            slot = Held("", actor, task.alone, actor.ready.remote())
        else:
            self.idle.remove(slot)
        slot.name, slot.task = self.free[0], task
        slot.done = slot.actor.run.remote(absolute(task, self.device))
        self.busy.append(slot)

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        if self.asked:
            self.asked = False
            for slot in self.busy:
                slot.actor.interrupt.remote()
        for slot in [s for s in self.idle if time.monotonic() - s.since > IDLE_S]:
            self.idle.remove(slot)
            self.ray.kill(slot.actor)
        if not self.busy:
            time.sleep(timeout_s)
            return []
        ready, _ = self.ray.wait([s.done for s in self.busy], num_returns=len(self.busy), timeout=timeout_s)
        return [self._end(slot) for slot in [s for s in self.busy if s.done in ready]]

    def _end(self, slot: Held) -> tuple[Task, str | None]:
        task, keep = slot.task, self.idle
        assert task is not None
        self.busy.remove(slot)
        try:
            how = self.ray.get(slot.done)
        except self.ray.exceptions.RayTaskError as error:  # of the actor's own code
            how = " ".join(str(error.cause).split()) or type(error.cause).__name__
        except self.ray.exceptions.RayError:
            return task, GONE
        if how is not None and how.startswith(UNFIT):
            if not self.proven:
                raise Unfit(how.removeprefix(UNFIT))
            keep = self.plugs  # it keeps its place, lest that machine gets the next trial, and the next
        self.proven = self.proven or keep is self.idle
        slot.task, slot.since = None, time.monotonic()
        keep.append(slot)
        return task, how

    def _held(self, task: Task) -> Held | None:
        return next((slot for slot in self.busy if slot.task is task), None)

    def queued(self, task: Task) -> bool:
        slot = self._held(task)
        if slot is None or slot.up:
            return False
        slot.up = bool(self.ray.wait([slot.ready], timeout=0)[0])
        return not slot.up

    def interrupt(self) -> None:
        self.asked = True  # a signal's handler may not speak to Ray: `poll` does

    def kill(self, task: Task) -> None:
        if (slot := self._held(task)) is not None:
            self.ray.kill(slot.actor)

    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None:
        pass

    def close(self) -> None:
        for slot in (*self.busy, *self.idle, *self.plugs):
            self.ray.kill(slot.actor)
        self.busy, self.idle, self.plugs = [], [], []
        self.ray.shutdown()
