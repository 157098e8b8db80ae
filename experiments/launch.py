"""The coordinator, one process a launch: hands trials to an executor, and sees to it that each ends in one
accepted result or a named failure. Several launches may work on one store: a trial's lease says whose it is.
"""

import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from experiments import failure, lease
from experiments.code import Code
from experiments.encoder import encoded
from experiments.execute import Executor, Task
from experiments.failure import Again, unwritable
from experiments.jobs import Jobs
from experiments.ledger import Store, locked
from experiments.limits import Limits
from experiments.progress import Since, epochs_done, shown
from experiments.queue import Queue
from experiments.report import Report, Summary
from experiments.supply import Supply

POLL_S = 0.2
SHOW_S = 0.5
LOOK_S = 2.0  # between looks at time-outs, at other launches' trials, and at a disk that was full
GRACE_S = 30.0  # for running trials to give themselves back


class Launch:
    """One launch of what `supply` has. log: where what is printed before a trial has its lease goes."""

    def __init__(
        self,
        supply: Supply,
        store: Store,
        executor: Executor,
        report: Report,
        nudge: Callable[[], None],
        code: Code,
        limits: Limits,
    ) -> None:
        self.supply, self.store, self.executor = supply, store, executor
        self.report, self.nudge, self.limits = report, nudge, limits
        self.jobs = Jobs(store, code)
        self.trials = self.jobs.trials
        self.queue = Queue(lambda signature: self.trials[signature].stage)
        self.running: dict[str, Task] = {}
        self.hung, self.elsewhere, self.since = set[str](), set[str](), Since()
        self.ends: deque[tuple[str, str | None]] = deque()  # that wait for a disk with room
        self.counts: Counter[str] = Counter()
        self.overheads: list[float] = []
        self.started = self.epochs_ended = self.epochs_given = 0
        self.partly: dict[str, int] = {}  # epochs of trials that have not ended
        self.stopped: str | None = None
        self.paused = self.looping = False
        self.log = store.sweep(supply.sweep.name) / f"launch-{os.getpid()}.log"

    def stop(self, why: str) -> None:
        """Start nothing more, and let what runs give itself back. Asked twice: at once."""
        if self.stopped is not None or not self.looping:
            raise KeyboardInterrupt
        self.stopped, self.stopped_at = why, time.monotonic()
        self.executor.interrupt()

    def run(self) -> Summary:
        """Returns when all have ended, or at its limits. KeyboardInterrupt kills what runs and passes on."""
        began = looked = told = time.monotonic()
        try:
            self.jobs.keep_code()
            self.add()
            self.prepare()
            self.looping = True
            while self.work_left():
                self.fill()
                self.ends += [(task.jobs[0].signature, how) for task, how in self.executor.poll(POLL_S)]
                ended = bool(self.ends)
                self.guard(self.take_ends)
                now = time.monotonic()
                if now - looked >= LOOK_S:
                    looked = now
                    self.guard(self.look)
                if self.limits.time_s is not None and now - began > self.limits.time_s and not self.stopped:
                    self.stop("the time limit is reached")
                if self.stopped and now - self.stopped_at > GRACE_S:
                    break
                if ended or now - told >= SHOW_S:
                    self.guard(self.add)
                if now - told >= SHOW_S:
                    told = now
                    self.tell()
        finally:
            self.looping = False
            self.executor.close()
            self.log.unlink(missing_ok=True)
        overhead = statistics.median(self.overheads) if self.overheads else None
        seconds = time.monotonic() - began
        return Summary(self.counts["done"], self.counts["failed"], overhead, seconds, self.stopped)

    def add(self) -> None:
        """Queue what is new, and stop what no study waits for."""
        for trial in self.supply.news():
            self.jobs.add(trial)
            self.epochs_given += trial.epochs
            self.partly[trial.signature] = epochs_done(self.store.trial(trial.signature))
            self.again(trial.signature)
        for signature in self.supply.pruned(self.running):
            (lease.live(self.store.trial(signature)) / "prune").touch()
        for trial, why in self.supply.failures():
            self.jobs.add(trial)
            self.give_up(trial.signature, [{"end": "error", "detail": why}])

    def tell(self) -> None:
        self.partly |= {s: epochs_done(self.store.trial(s)) for s in self.running}
        done = self.epochs_ended + sum(min(self.trials[s].epochs, n) for s, n in self.partly.items() if n)
        most = max((trial.epochs for trial in self.trials.values()), default=1)
        total = float(self.epochs_given + most * self.supply.unasked())
        if self.limits.trials is not None:  # as if the others were like these
            total = total * min(1.0, self.limits.trials / max(1, len(self.trials)))
        self.report.progress(min(total, done), total, [self.trials[s].row for s in self.running])

    def work_left(self) -> bool:
        left = self.queue or self.elsewhere or self.supply.open
        return bool(self.running or self.ends or (left and not self.stopped and not self.spent))

    @property
    def spent(self) -> bool:
        """Whether this launch has started as many trials as it may."""
        return self.limits.trials is not None and self.started >= self.limits.trials

    def prepare(self) -> None:
        """Windows and text embeddings first, in one process, so that trials only read them."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for path in self.log.parent.glob("launch-*.log"):  # of launches that died
            if lease.born(int(path.stem.removeprefix("launch-"))) is None:
                path.unlink(missing_ok=True)
        self.report.note("preparing data and text")
        jobs = [self.jobs.make(signature, self.executor.free[0]) for signature in self.trials]
        if not jobs:
            return
        self.executor.start(Task("prepare", jobs, self.log))
        while not (ended := self.executor.poll(POLL_S)):
            if texts := encoded(self.log):
                self.report.progress(*texts, ["encoding texts"])
        if how := ended[0][1]:
            self.report.note(f"preparing failed ({how}); each trial tries for itself")

    def again(self, signature: str, first: bool = False) -> None:
        """Queue the trial as its history tells, or give it up."""
        how = failure.again(lease.history(self.store.trial(signature)), self.limits.retries)
        if how is None:
            self.give_up(signature)
        else:
            self.queue.push(signature, first, how.alone)

    def fill(self) -> None:
        """Start what may start now."""
        while self.executor.free and not self.paused and not self.stopped:
            device = self.executor.free[0]
            if self.spent:
                return
            busy = device in [task.jobs[0].device for task in self.running.values()]
            signature = self.queue.pop(self.running, busy)
            if signature is None:
                return
            if self.supply.pruned([signature]):
                self.forget(signature)
                continue
            trial = self.store.trial(signature)
            holder = lease.running(trial)
            if holder is not None and holder != self.jobs.stale.get(signature):
                self.elsewhere.add(signature)
                continue
            how = failure.again(lease.history(trial), self.limits.retries) or Again()
            task = Task("run", [self.jobs.make(signature, device, how.recompute)], self.log)
            self.running[signature], self.started = task, self.started + 1
            self.executor.start(task)

    def guard(self, step: Callable[[], None]) -> None:
        """Do it; where a full disk is in the way, later."""
        try:
            step()
        except OSError as error:
            if not (why := unwritable(error, str(self.store.root))):
                raise
            self.pause(why)

    def take_ends(self) -> None:
        """Deal with ended trials."""
        while self.ends:
            self.end(*self.ends[0])
            self.ends.popleft()

    def end(self, signature: str, how: str | None) -> None:
        """Accept what an ended trial left, or decide how it goes on."""
        trial = self.store.trial(signature)
        lease.settled(trial)
        cost = (self.store.result(signature) or {}).get("cost", {})
        self.executor.learn(self.running[signature], how, cost.get("peak_gpu_memory_mb"))
        if not self.take(signature):
            if how == "pruned":
                self.forget(signature)
            elif how in ("held", "lost") or lease.running(trial):
                self.elsewhere.add(signature)
            elif how in ("pre-empted", "disk full"):
                self.queue.push(signature, first=True)
            else:
                if how != "out of memory":  # which the trial noted itself
                    self.note_crash(signature, how or "it returned without a result")
                self.again(signature, first=True)
        if how == "disk full":
            self.pause("a trial was stopped by it")
        self.running.pop(signature, None)
        self.jobs.stale.pop(signature, None)
        self.hung.discard(signature)
        self.since.forget(signature)

    def forget(self, signature: str) -> None:
        """A trial that ends without a result, as its study says; or which is asked for anew."""
        self.epochs_given -= self.trials[signature].epochs
        self.partly.pop(signature, None)
        self.supply.again(signature)

    def take(self, signature: str) -> bool:
        """Count the trial's result where there is a new one."""
        result = self.store.result(signature)
        if result is None or result.get("attempt", 0) == self.jobs.accepted[signature]:
            return False
        self.counts[result["status"]] += 1
        self.epochs_ended += self.trials[signature].epochs
        self.partly.pop(signature, None)
        if result["status"] == "done" and "overhead_s" in result.get("cost", {}):
            self.overheads.append(result["cost"]["overhead_s"])
        self.supply.ended(signature, result)
        self.report.ended(self.trials[signature].label, result)
        self.nudge()
        return True

    def note_crash(self, signature: str, how: str) -> None:
        trial, hung = self.store.trial(signature), signature in self.hung
        detail = f"no progress for {self.limits.timeout_s:.0f} s" if hung else how
        with locked(trial / "lock", wait=True):
            attempt = max([0, *lease.attempts(trial)])
            lease.note(trial, attempt, "timed out" if hung else "crashed", detail)

    def give_up(self, signature: str, history: list[dict[str, Any]] | None = None) -> None:
        """A failed result for a trial that has used up its tries."""
        trial = self.store.trial(signature)
        try:
            mine = lease.claim(trial)
        except lease.Held:
            self.elsewhere.add(signature)
            return
        mine.accept(failure.given_up(self.trials[signature].asked(), history or lease.history(trial)))
        self.take(signature)

    def pause(self, why: str) -> None:
        if not self.paused:
            self.paused = True
            where = f"paused: {self.store.root} can't be written to ({why})"
            self.report.note(f"{where}; nothing is lost, and once there is room the launch goes on by itself")

    def look(self) -> None:
        """At what nobody tells: room on the disk, trials that hang, and other launches' trials."""
        if self.stopped:
            self.executor.interrupt()  # again, lest one started while it was first said
        if self.paused and self.store.writable():
            self.paused = False
            self.report.note("the store can be written to again: going on")
        for signature, task in self.running.items():
            same_s = self.since.same_s(signature, shown(self.store.trial(signature)))
            if same_s > self.limits.timeout_s and signature not in self.hung:
                self.hung.add(signature)
                self.executor.kill(task)
        for signature in list(self.elsewhere):
            self.look_elsewhere(signature)

    def look_elsewhere(self, signature: str) -> None:
        """Whether another launch ended the trial, or died of it."""
        trial = self.store.trial(signature)
        lease.settled(trial)
        holder = lease.holder(trial)
        if not self.take(signature):
            alive = None if holder is None else holder.alive()
            same_s = self.since.same_s(signature, holder)
            if holder is not None and (alive or (alive is None and same_s <= lease.STALE_S)):
                return
            if holder is not None and alive is None:
                self.jobs.stale[signature] = holder
            self.queue.push(signature, first=True)
        self.elsewhere.discard(signature)
        self.since.forget(signature)
