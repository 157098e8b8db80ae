"""The coordinator, one process a launch: hands trials to an executor, and sees to it that each ends in one
accepted result or a named failure. Several launches may work on one store: a trial's lease says whose it is.
"""

import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments import failure, lease
from experiments.code import Code, keep
from experiments.encoder import encoded
from experiments.execute import Executor, Job, Task
from experiments.failure import RETRIES, Again, unwritable
from experiments.ledger import Store, locked
from experiments.plan import Sweep
from experiments.progress import Since, epochs_done, shown
from experiments.queue import Queue
from experiments.stage import stage

POLL_S = 0.2
SHOW_S = 0.5
LOOK_S = 2.0  # between looks at time-outs, at other launches' trials, and at a disk that was full
GRACE_S = 30.0  # for running trials to give themselves back
TIMEOUT_S = 1800.0


class Report(Protocol):
    """How a launch tells a person what happens."""

    def note(self, line: str) -> None: ...
    def progress(self, done: float, total: float, running: list[str]) -> None: ...
    def ended(self, name: str, result: dict[str, Any]) -> None: ...


class Limits(NamedTuple):
    """Of a launch: how often a crashed trial is run again, how many trials it may start, seconds that it may
    take, and that a trial may take without getting on."""

    retries: int = RETRIES
    trials: int | None = None
    time_s: float | None = None
    timeout_s: float = TIMEOUT_S


class Summary(NamedTuple):
    """What one launch did; overhead_s is the median cost of a trial outside training and evaluation. stopped:
    why it left off."""

    done: int
    failed: int
    overhead_s: float | None
    seconds: float
    stopped: str | None


class Launch:
    """One launch of one sweep."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        executor: Executor,
        report: Report,
        nudge: Callable[[], None],
        code: Code,
        limits: Limits,
    ) -> None:
        self.sweep, self.store, self.executor = sweep, store, executor
        self.report, self.nudge, self.code, self.limits = report, nudge, code, limits
        self.cells = {cell.signature: cell for cell in reversed(sweep.cells)}
        self.patch: Path | None = None
        self.stages: dict[str, str | None] = {}
        self.queue = Queue(self.stage_of)
        self.running: dict[str, Task] = {}
        self.hung, self.elsewhere, self.since = set[str](), set[str](), Since()
        self.stale: dict[str, lease.Holder] = {}
        self.accepted: dict[str, int] = {}  # the attempt whose result was there before this launch
        self.ends: deque[tuple[str, str | None]] = deque()  # that wait for a disk with room
        self.counts: Counter[str] = Counter()
        self.overheads: list[float] = []
        self.started = self.epochs_ended = 0
        self.stopped: str | None = None
        self.paused = self.looping = False
        self.log = store.sweep(sweep.name) / f"launch-{os.getpid()}.log"

    def stop(self, why: str) -> None:
        """Start nothing more, and let what runs give itself back. Asked twice: at once."""
        if self.stopped is not None or not self.looping:
            raise KeyboardInterrupt
        self.stopped, self.stopped_at = why, time.monotonic()
        self.executor.interrupt()

    def run(self, todo: list[str]) -> Summary:
        """Run `todo`; returns when all have ended, or at its limits. KeyboardInterrupt kills what runs and
        passes on."""
        began = looked = told = time.monotonic()
        self.accepted = {s: lease.accepted(self.store.trial(s)) for s in todo}
        total = sum(self.epochs(s) for s in todo[: self.limits.trials])
        try:
            self.patch = keep(self.store.root, self.code)
            self.prepare(todo)
            for signature in todo:
                self.again(signature)
            self.looping = True
            while self.work_left():
                self.fill()
                self.ends += [(task.jobs[0].signature, how) for task, how in self.executor.poll(POLL_S)]
                self.take_ends()
                now = time.monotonic()
                if now - looked >= LOOK_S:
                    self.look(looked := now)
                if self.limits.time_s is not None and now - began > self.limits.time_s and not self.stopped:
                    self.stop("the time limit is reached")
                if self.stopped and now - self.stopped_at > GRACE_S:
                    break
                if now - told >= SHOW_S:
                    told = now
                    partly = sum(min(self.epochs(s), epochs_done(self.store.trial(s))) for s in self.running)
                    labels = [self.cells[s].row for s in self.running]
                    self.report.progress(min(total, self.epochs_ended + partly), total, labels)
        finally:
            self.looping = False
            self.executor.close()
            self.log.unlink(missing_ok=True)
        overhead = statistics.median(self.overheads) if self.overheads else None
        seconds = time.monotonic() - began
        return Summary(self.counts["done"], self.counts["failed"], overhead, seconds, self.stopped)

    def work_left(self) -> bool:
        left = self.queue or self.elsewhere
        return bool(self.running or self.ends or (left and not self.stopped))

    def epochs(self, signature: str) -> int:
        config = self.sweep.configs[signature]
        return 1 if "train" in config.unused() else config.train.epochs

    def prepare(self, todo: list[str]) -> None:
        """Windows and text embeddings first, in one process, so that trials only read them."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for path in self.log.parent.glob("launch-*.log"):  # of launches that died
            if lease.born(int(path.stem.removeprefix("launch-"))) is None:
                path.unlink(missing_ok=True)
        self.report.note("preparing data and text")
        jobs = [self.job(signature, self.executor.free[0]) for signature in todo]
        self.executor.start(Task("prepare", jobs, self.log))
        while not (ended := self.executor.poll(POLL_S)):
            if texts := encoded(self.log):
                self.report.progress(*texts, ["encoding texts"])
        if how := ended[0][1]:
            self.report.note(f"preparing failed ({how}); each trial tries for itself")

    def stage_of(self, signature: str) -> str | None:
        if signature not in self.stages:
            config, digests = self.sweep.configs[signature], self.sweep.digests[signature]
            self.stages[signature] = stage(config, digests)
        return self.stages[signature]

    def again(self, signature: str, first: bool = False) -> None:
        """Queue the trial as its history tells, or give it up."""
        how = failure.again(lease.history(self.store.trial(signature)), self.limits.retries)
        if how is None:
            self.give_up(signature)
        else:
            self.queue.push(signature, first, how.alone)

    def job(self, signature: str, device: str, recompute: bool = False) -> Job:
        return Job(
            signature,
            self.sweep.configs[signature].model_dump(mode="json"),
            self.sweep.digests[signature],
            str(self.store.root),
            device,
            self.code.hash,
            time.time(),
            self.accepted[signature],
            self.stale.get(signature),
            recompute,
            {"commit": self.code.commit, "dirty": self.code.dirty},
            self.patch,
        )

    def fill(self) -> None:
        """Start what may start now."""
        while self.executor.free and not self.paused and not self.stopped:
            device = self.executor.free[0]
            if self.limits.trials is not None and self.started >= self.limits.trials:
                self.queue.clear()
                self.elsewhere.clear()
            busy = device in [task.jobs[0].device for task in self.running.values()]
            signature = self.queue.pop(self.running, busy)
            if signature is None:
                return
            trial = self.store.trial(signature)
            holder = lease.running(trial)
            if holder is not None and holder != self.stale.get(signature):
                self.elsewhere.add(signature)
                continue
            how = failure.again(lease.history(trial), self.limits.retries) or Again()
            task = Task("run", [self.job(signature, device, how.recompute)], self.log)
            self.running[signature], self.started = task, self.started + 1
            self.executor.start(task)

    def take_ends(self) -> None:
        """Deal with ended trials; where a full disk is in the way, they wait."""
        while self.ends:
            try:
                self.end(*self.ends[0])
            except OSError as error:
                if not (why := unwritable(error, str(self.store.root))):
                    raise
                return self.pause(why)
            self.ends.popleft()

    def end(self, signature: str, how: str | None) -> None:
        """Accept what an ended trial left, or decide how it goes on."""
        trial = self.store.trial(signature)
        lease.settled(trial)
        if not self.take(signature):
            if how in ("held", "lost") or lease.running(trial):
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
        self.stale.pop(signature, None)
        self.hung.discard(signature)
        self.since.forget(signature)

    def take(self, signature: str) -> bool:
        """Count the trial's result where there is a new one."""
        result = self.store.result(signature)
        if result is None or result.get("attempt", 0) == self.accepted[signature]:
            return False
        self.counts[result["status"]] += 1
        self.epochs_ended += self.epochs(signature)
        if result["status"] == "done" and "overhead_s" in result.get("cost", {}):
            self.overheads.append(result["cost"]["overhead_s"])
        self.report.ended(self.sweep.label(self.cells[signature]), result)
        self.nudge()
        return True

    def note_crash(self, signature: str, how: str) -> None:
        trial, hung = self.store.trial(signature), signature in self.hung
        detail = f"no progress for {self.limits.timeout_s:.0f} s" if hung else how
        with locked(trial / "lock", wait=True):
            attempt = max([0, *lease.attempts(trial)])
            lease.note(trial, attempt, "timed out" if hung else "crashed", detail)

    def give_up(self, signature: str) -> None:
        """A failed result for a trial that has used up its tries."""
        trial = self.store.trial(signature)
        try:
            mine = lease.claim(trial)
        except lease.Held:
            self.elsewhere.add(signature)
            return
        config, digests = self.sweep.configs[signature], self.sweep.digests[signature]
        asked = {"signature": signature, "config": config.model_dump(mode="json"), "digests": digests}
        mine.accept(failure.given_up(asked, lease.history(trial)))
        self.take(signature)

    def pause(self, why: str) -> None:
        if not self.paused:
            self.paused = True
            where = f"paused: {self.store.root} can't be written to ({why})"
            self.report.note(f"{where}; nothing is lost, and once there is room the launch goes on by itself")

    def look(self, now: float) -> None:
        """At what nobody tells: room on the disk, trials that hang, and other launches' trials."""
        if self.stopped:
            self.executor.interrupt()  # again, lest one started while it was first said
        if self.paused and self.store.writable():
            self.paused = False
            self.report.note("the store can be written to again: going on")
        for signature, task in self.running.items():
            same_s = self.since.same_s(signature, shown(self.store.trial(signature)), now)
            if same_s > self.limits.timeout_s and signature not in self.hung:
                self.hung.add(signature)
                self.executor.kill(task)
        for signature in list(self.elsewhere):
            self.look_elsewhere(signature, now)

    def look_elsewhere(self, signature: str, now: float) -> None:
        """Whether another launch ended the trial, or died of it."""
        trial = self.store.trial(signature)
        lease.settled(trial)
        holder = lease.holder(trial)
        if not self.take(signature):
            alive = None if holder is None else holder.alive()
            same_s = self.since.same_s(signature, holder, now)
            if holder is not None and (alive or (alive is None and same_s <= lease.STALE_S)):
                return
            if holder is not None and alive is None:
                self.stale[signature] = holder
            self.queue.push(signature, first=True)
        self.elsewhere.discard(signature)
        self.since.forget(signature)
