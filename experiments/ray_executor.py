"""The Ray executor: each slot is an actor somewhere on the cluster, with a local executor of its own.

So a trial is a process forked from warm imports there, as it is here: its crash ends no actor, an actor's end
ends its trial, and what Ray gave the actor (CUDA_VISIBLE_DEVICES) holds for the trial.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from experiments.cluster import RayCluster
from experiments.code import source_hash
from experiments.execute import GONE, UNFIT, Task
from experiments.node import Fitness, Unfit, absolute, unfit, unused
from experiments.progress import Pace

LOOK_S = 5.0  # between looks at what the cluster has
IDLE_S = 60.0  # that an actor is kept for the next trial
REACH_S = 5.0


class Slot:
    """The actor: runs a task at a time."""

    def __init__(self, folder: str, device: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        from experiments.local_executor import LocalExecutor

        self.code, self.local = source_hash(), LocalExecutor(1, [device])

    def ready(self) -> None:
        pass

    def run(self, task: Task) -> str | None:
        if (why := unfit(task, self.code)) is not None:
            return why
        self.local.start(task)
        while not (ended := self.local.poll(1.0)):
            pass
        return ended[0][1]

    def interrupt(self) -> None:
        self.local.interrupt()


def _last(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()[:200]


def _reach(address: str) -> None:
    """Raises Unfit where nobody listens, which Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise Unfit(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


@dataclass
class Held:
    """An actor. whole: it shares its GPU with nobody; ready, done: Ray's references; up: it runs somewhere;
    since: when its last task ended."""

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
        self.asked, self.fitness, self.looks = False, Fitness(), Pace(LOOK_S)
        try:
            self.most = workers or self._room()
        except Unfit:
            ray.shutdown()
            raise

    @property
    def free(self) -> list[str]:
        return list(islice(self._names(), max(0, self.most - len(self.busy))))

    def _names(self) -> Iterator[str]:
        return unused("slot", {slot.name for slot in self.busy})

    def _room(self) -> int:
        """Slots that the cluster's machines have, were they empty but for the plugs. Raises Unfit where none
        could hold one."""
        ask, room = self.cluster, 0
        needs = {"CPU": ask.cpus, "GPU": ask.gpus, "memory": (ask.memory_gb or 0) * 2**30}
        for has in (node["Resources"] for node in self.ray.nodes() if node["Alive"]):
            room += min(int(has.get(name, 0) / need + 1e-9) for name, need in needs.items() if need)
        if room <= len(self.plugs) and not self.busy:
            what = f"cpus={ask.cpus} gpus={ask.gpus:g} memory_gb={ask.memory_gb or 0:g}"
            fit = f" but {len(self.plugs)} that are not fit" if self.plugs else ""
            raise Unfit(f"no machine of the Ray cluster has {what}{fit}; --workers N waits for one")
        return max(0, room - len(self.plugs))

    def start(self, task: Task) -> None:
        slot = next((s for s in self.idle if s.whole == task.alone), None)
        if slot is None:
            gpus = max(1.0, self.cluster.gpus) if task.alone and self.cluster.gpus else self.cluster.gpus
            actor = self.actor.options(num_gpus=gpus, **self.needs).remote(os.getcwd(), self.device)
            slot = Held("", actor, task.alone, actor.ready.remote())
        else:
            self.idle.remove(slot)
        slot.name = next(self._names())
        slot.task, slot.done = task, slot.actor.run.remote(absolute(task, self.device))
        self.busy.append(slot)

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        if not self.workers:
            self.looks.keep(self._look)
        back = self._interrupt() if self.asked else []
        for slot in [s for s in self.idle if time.monotonic() - s.since > IDLE_S]:
            self.idle.remove(slot)
            self.ray.kill(slot.actor)
        if not self.busy:
            time.sleep(timeout_s)
            return back
        ready, _ = self.ray.wait([s.done for s in self.busy], num_returns=len(self.busy), timeout=timeout_s)
        return back + [self._end(slot) for slot in [s for s in self.busy if s.done in ready]]

    def _look(self) -> None:
        self.most = self._room()

    def _interrupt(self) -> list[tuple[Task, str | None]]:
        """Ask what runs to give itself back, and take back what waits for a machine."""
        self.asked, back = False, list[tuple[Task, str | None]]()
        for slot in list(self.busy):
            if self._queued(slot) and slot.task is not None:
                self.busy.remove(slot)
                self.ray.kill(slot.actor)
                back.append((slot.task, "pre-empted"))
            else:
                slot.actor.interrupt.remote()
        return back

    def _end(self, slot: Held) -> tuple[Task, str | None]:
        task, keep = slot.task, self.idle
        assert task is not None
        self.busy.remove(slot)
        broken = self.ray.exceptions
        try:
            how = self.ray.get(slot.done)
        except broken.RayTaskError as error:  # of the actor's own code
            how = " ".join(str(error.cause).split()) or type(error.cause).__name__
        except (broken.RuntimeEnvSetupError, broken.ActorUnschedulableError) as error:
            how, keep = f"{UNFIT}{' '.join(str(error).split())[:300]}", []
        except broken.RayActorError as error:
            how, keep = GONE if self._began(slot) else f"{UNFIT}no Ray worker came up: {_last(error)}", []
        except broken.RayError:
            how, keep = GONE, []
        if not self.fitness.learn(how) and keep is self.idle:
            keep = self.plugs  # it keeps its place, lest that machine gets the next trial, and the next
        slot.task, slot.since = None, time.monotonic()
        keep.append(slot)
        return task, how

    def _began(self, slot: Held) -> bool:
        """Whether the actor ever came up: without ShapeLex it can't, nor on a node that has just died."""
        try:
            self.ray.get(slot.ready)
            return True
        except self.ray.exceptions.RayError:
            return False

    def _held(self, task: Task) -> Held | None:
        return next((slot for slot in self.busy if slot.task is task), None)

    def queued(self, task: Task) -> bool:
        slot = self._held(task)
        return slot is not None and self._queued(slot)

    def _queued(self, slot: Held) -> bool:
        slot.up = slot.up or bool(self.ray.wait([slot.ready], timeout=0)[0])
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
