"""What a launch has done so far, in trials and in epochs."""

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from experiments import lease
from experiments.ledger import Store
from experiments.progress import epochs_done
from experiments.report import Summary
from experiments.supply import Trial


class Tally:
    """Epochs that a trial's dead attempts left count from the start, lest they pass for speed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts: Counter[str] = Counter()
        self.overheads: list[float] = []
        self.given = self.ended = 0  # epochs
        self.most = 1
        self.partly: dict[str, int] = {}  # epochs of trials that have not ended

    def give(self, trial: Trial) -> None:
        path = self.store.trial(trial.signature)
        self.given += trial.epochs
        self.most = max(self.most, trial.epochs)
        self.partly[trial.signature] = epochs_done(path) if lease.attempts(path) else 0

    def forget(self, trial: Trial) -> None:
        self.given -= trial.epochs
        self.partly.pop(trial.signature, None)

    def end(self, trial: Trial, result: dict[str, Any]) -> None:
        self.counts[result["status"]] += 1
        self.ended += trial.epochs
        self.partly.pop(trial.signature, None)
        if result["status"] == "done" and "overhead_s" in result.get("cost", {}):
            self.overheads.append(result["cost"]["overhead_s"])

    def progress(
        self, running: list[Trial], unasked: int, due: Iterable[Trial] | None
    ) -> tuple[float, float]:
        """Epochs done, and of how many. unasked: trials that will come; due: all that this launch starts yet,
        where it doesn't start all."""
        found = {trial.signature: trial for trial in running}
        self.partly |= {s: min(t.epochs, epochs_done(self.store.trial(s))) for s, t in found.items()}
        total = float(self.given + self.most * unasked)
        if due is not None:
            total = min(total, float(self.ended + sum(t.epochs for t in (*running, *due))))
        return min(total, self.ended + sum(self.partly.values())), total

    def summary(self, seconds: float, stopped: str | None) -> Summary:
        overhead = statistics.median(self.overheads) if self.overheads else None
        return Summary(self.counts["done"], self.counts["failed"], overhead, seconds, stopped)
