"""The coordinator, one process a launch: hands trials to an executor, and sees to it that each ends in one
accepted result or a named failure. Several launches may work on one store: a trial's lease says whose it is.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from experiments import failure, lease
from experiments.code import Code
from experiments.execute import GONE, POLL_S, UNFIT, Executor, Task
from experiments.failure import Again
from experiments.jobs import Jobs
from experiments.limits import Limits
from experiments.progress import Pace, Since, epochs_done, shown
from experiments.queue import Queue
from experiments.report import Report, Summary
from experiments.room import Room
from experiments.supply import Supply
from experiments.tally import Tally

SHOW_S = 0.5
LOOK_S = 2.0  # between looks at time-outs, at other launches' trials, and at a disk that was full
GRACE_S = 30.0  # for running trials to give themselves back


class Launch:
    """One launch of what `supply` has. log: where what is printed before a trial has its lease goes."""

    def __init__(
        self,
        supply: Supply,
        executor: Executor,
        report: Report,
        nudge: Callable[[], None],
        code: Code,
        limits: Limits,
    ) -> None:
        self.supply, self.store, self.executor = supply, supply.store, executor
        self.report, self.nudge, self.limits = report, nudge, limits
        self.jobs = Jobs(self.store, code)
        self.trials = self.jobs.trials
        self.queue = Queue(lambda signature: self.trials[signature].stage)
        self.running = dict[str, Task]()
        self.reached = dict[str, int]()  # epochs that a trial had done when it was last started
        self.hung, self.elsewhere, self.since = set[str](), set[str](), Since()
        self.ends: deque[tuple[str, str | None]] = deque()  # that wait for a disk with room
        self.doomed: dict[str, list[dict[str, Any]]] = {}  # cells of studies without a choice, and why
        self.tally, self.started, self.room = Tally(self.store), 0, Room(self.store, report)
        self.stopped: str | None = None
        self.looping = self.said = False
        self.log = self.store.sweep(supply.sweep.name) / f"launch-{os.getpid()}.log"

    def stop(self, why: str) -> None:
        """Start nothing more, and let what runs give itself back. Asked twice: at once."""
        if self.stopped is not None or not self.looping:
            raise KeyboardInterrupt
        self.stopped, self.stopped_at = why, time.monotonic()
        self.executor.interrupt()

    def run(self) -> Summary:
        """Returns when all have ended, or at its limits. KeyboardInterrupt kills what runs and passes on."""
        began, looks, lines = time.monotonic(), Pace(LOOK_S), Pace(SHOW_S)
        try:
            self.jobs.keep_code()
            self.room.guard(self.add)
            self.jobs.prepare(self.executor, self.report, self.log, self.limits, began)
            self.looping = True
            while self.work_left():
                if self.limits.over(began) and not self.stopped:
                    self.stop("the time limit is reached")
                self.room.guard(self.fill)
                self.ends += [(task.jobs[0].signature, how) for task, how in self.executor.poll(POLL_S)]
                ended = bool(self.ends)
                self.room.guard(self.take_ends)
                looks.keep(lambda: self.room.guard(self.look))
                if self.stopped and self.say_stopping() > GRACE_S:
                    break
                if ended:
                    self.room.guard(self.add)
                lines.keep(self.tell)
        finally:
            self.looping = False
            self.executor.close()
            self.log.unlink(missing_ok=True)
        spent = f"--max-trials {self.limits.trials}" if self.spent and self.more else None
        return self.tally.summary(time.monotonic() - began, self.stopped or spent)

    def say_stopping(self) -> float:
        """Seconds since it was asked for; says so the first time."""
        if self.running and not self.said:
            self.said = True
            most = f"at most {GRACE_S:.0f} s; once more stops at once"
            self.report.note(f"stopping ({self.stopped}): trials write a checkpoint, {most}")
        return time.monotonic() - self.stopped_at

    def add(self) -> None:
        """Queue what is new, and stop what no study waits for."""
        for trial in self.supply.news():
            self.jobs.add(trial)
            self.tally.give(trial)
            self.queue.push(trial.signature, alone=self.alone(trial.signature))
        for signature in self.supply.pruned(self.running):
            lease.prune(self.store.trial(signature))
        while failed := self.supply.failures():
            trial, why = failed[0]
            self.jobs.add(trial)
            self.doomed[trial.signature] = failure.unsearched(why)
            self.queue.push(trial.signature, first=True)
            self.supply.told(trial)

    def tell(self) -> None:
        self.room.guard(self.add)
        running, due = [self.trials[s] for s in self.running], None
        if self.limits.trials is not None:
            left = max(0, self.limits.trials - self.started)
            due = [self.trials[s] for s in islice((*self.queue.ready, *self.queue.alone), left)]
        self.report.progress(
            *self.tally.progress(running, self.supply.unasked(), due), [trial.row for trial in running]
        )

    def work_left(self) -> bool:
        return bool(self.running or self.ends or (self.more and not self.stopped and not self.spent))

    @property
    def more(self) -> bool:
        """Whether there is more than what runs."""
        return bool(self.queue or self.elsewhere or self.supply.open)

    @property
    def spent(self) -> bool:
        """Whether this launch has started as many trials as it may."""
        return self.limits.trials is not None and self.started >= self.limits.trials

    def how(self, signature: str) -> Again | None:
        """How the trial is to run, as its history tells; None: not again."""
        if signature in self.doomed:
            return None
        return failure.again(lease.history(self.store.trial(signature)), self.limits.retries)

    def alone(self, signature: str) -> bool:
        how = self.how(signature)
        return how is not None and how.alone

    def fill(self) -> None:
        """Start what may start now, each on the device where least runs."""
        while self.queue and not (self.room.paused or self.stopped or self.spent):
            on = Counter(task.jobs[0].device for task in self.running.values())
            taken = {task.jobs[0].device for s, task in self.running.items() if self.alone(s)}
            free = [device for device in self.executor.free if device not in taken]
            if not free:
                return
            device = min(free, key=lambda device: on[device])
            signature = self.queue.pop(self.running, device_busy=bool(on[device]))
            if signature is None:
                return
            try:
                self.begin(signature, device)
            except OSError:
                if signature not in self.queue.ready:
                    self.queue.push(signature, first=True)
                raise

    def begin(self, signature: str, device: str) -> None:
        """Start the trial, unless it is somebody else's or nobody's any more."""
        if signature not in self.doomed and self.supply.pruned([signature]):
            return self.forget(signature)
        trial = self.store.trial(signature)
        holder = lease.running(trial)
        if holder is not None and holder != self.jobs.stale.get(signature):
            self.elsewhere.add(signature)
            return
        how = self.how(signature)
        if how is None:
            return self.give_up(signature)
        task = Task("run", [self.jobs.make(signature, device, how.recompute)], self.log, how.alone)
        self.reached[signature] = epochs_done(trial)
        self.executor.start(task)
        self.running[signature], self.started = task, self.started + 1

    def take_ends(self) -> None:
        """Deal with ended trials."""
        while self.ends:
            self.end(*self.ends[0])
            self.ends.popleft()

    def end(self, signature: str, how: str | None) -> None:
        """Accept what an ended trial left, or decide how it goes on."""
        trial = self.store.trial(signature)
        lease.settled(trial)
        if how == "disk full" and self.room.elsewhere:
            how = f"no room somewhere, and yet {self.store.root} has it"
        cost = (self.store.result(signature) or {}).get("cost", {})
        self.executor.learn(self.running[signature], how, cost.get("peak_gpu_memory_mb"))
        if not self.take(signature):
            other = lease.running(trial)  # or this one, on a machine that is out of reach
            if how not in ("held", "lost", "pruned") and not (how is None and other):
                self.count(signature, how, trial)
            if how == "pruned":
                self.forget(signature)
            elif how in ("held", "lost") or other:
                self.elsewhere.add(signature)
            else:
                self.queue.push(signature, first=how != "disk full", alone=self.alone(signature))
        if how == "disk full":
            self.room.pause("a trial was stopped by it")
        self.running.pop(signature, None)
        self.jobs.stale.pop(signature, None)
        self.hung.discard(signature)
        self.since.forget(signature)

    def count(self, signature: str, how: str | None, trial: Path) -> None:
        """Note how a trial ended without a result, where that may be its own fault."""
        if how is not None and how.startswith(UNFIT):
            self.started -= 1
            return self.report.note(how)
        got_on = how == GONE and signature not in self.hung and epochs_done(trial) > self.reached[signature]
        hung_s = self.limits.timeout_s if signature in self.hung else None
        if not got_on and (history := failure.count(trial, how, hung_s)):
            last, goes = history[-1], "trying again" if self.how(signature) else "giving up"
            label = self.trials[signature].label
            self.report.note(f"{label}: {last['end']} ({last['detail']}), failure {len(history)}; {goes}")

    def forget(self, signature: str) -> None:
        """A trial that ends without a result, as its study says; or which is asked for anew."""
        self.tally.forget(self.trials[signature])
        self.supply.again(signature)

    def take(self, signature: str) -> bool:
        """Count the trial's result where there is a new one."""
        result = self.store.result(signature)
        if result is None or result.get("attempt", 0) == self.jobs.accepted[signature]:
            return False
        self.jobs.accepted[signature] = result.get("attempt", 0)
        self.tally.end(self.trials[signature], result)
        self.room.used()
        self.supply.ended(signature, result)
        self.report.ended(self.trials[signature].label, result)
        self.nudge()
        return True

    def give_up(self, signature: str) -> None:
        """A failed result for a trial that has used up its tries."""
        trial = self.store.trial(signature)
        try:
            mine = lease.claim(trial)
        except lease.Held:
            self.elsewhere.add(signature)
            return
        if lease.accepted(trial) != self.jobs.accepted[signature]:  # somebody was faster
            mine.drop()
        else:
            try:
                asked = self.trials[signature].asked()
                history = self.doomed.get(signature) or lease.history(trial)
                mine.accept(failure.given_up(asked, history))
            finally:
                mine.release()
        self.take(signature)

    def look(self) -> None:
        """At what nobody tells: room on the disk, trials that hang, and other launches' trials."""
        if self.stopped:
            self.executor.interrupt()  # again, lest one started while it was first said
        self.room.look()
        for signature, task in self.running.items():
            sight = shown(self.store.trial(signature))
            same_s = 0.0 if self.executor.queued(task) else self.since.same_s(signature, sight)
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
            if holder is not None and holder.pid == os.getpid() and alive:  # it could not be released then
                (lease.folder(trial, holder.attempt) / "lease.json").unlink(missing_ok=True)
                holder = alive = None
            same_s = self.since.same_s(signature, holder)
            if holder is not None and (alive or (alive is None and same_s <= lease.STALE_S)):
                return
            if holder is not None and alive is None:
                self.jobs.stale[signature] = holder
            self.queue.push(signature, first=True, alone=self.alone(signature))
        self.elsewhere.discard(signature)
        self.since.forget(signature)
