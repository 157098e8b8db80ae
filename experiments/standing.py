"""How a sweep stands, from the ledger: its cells by state, and each row's validation score so far.

A launch of ten thousand cells is looked at once a second, so a look reads only the trials whose folders
changed, and those that run.
"""

import math
import os
import statistics
import time
from collections import Counter
from typing import Any, NamedTuple

from experiments import lease
from experiments.ledger import Store
from experiments.plan import Cell, Sweep
from experiments.progress import epochs_done

STATES = ("done", "failed", "running", "waiting")
SCORE = "val/macro_f1"
SETTLED_NS = (
    2_000_000_000  # what changed later than this may change again within a tick of the folder's clock
)


class Line(NamedTuple):
    """A row of the sweep. mean: of validation macro-F1 over the pairs that tables use (folds, their seeds
    averaged, or seeds, with one official split); half: of its 95 % t interval. None where there is none."""

    name: str
    counts: Counter[str]
    mean: float | None
    half: float | None
    pairs: int
    best: bool


class Standing:
    """A sweep's cells and what is known of their trials. `look` brings it up to date."""

    def __init__(self, sweep: Sweep, store: Store) -> None:
        self.sweep, self.store = sweep, store
        first = sweep.configs[sweep.cells[0].signature]
        self.unit = "seed" if first.data.split == "official" else "fold"
        self.cells: dict[str, list[Cell]] = {row.name: [] for row in sweep.rows}
        self.rows_of: dict[str, list[str]] = {}
        for cell in sweep.cells:
            self.cells[cell.row].append(cell)
            self.rows_of.setdefault(cell.signature, []).append(cell.row)
        self.state = dict.fromkeys(self.rows_of, "waiting")
        self.result: dict[str, dict[str, Any]] = {}  # what is shown of each: `_kept`
        self.open = set(self.rows_of)  # not done
        self._there: set[str] = set()  # those of `open` that have a folder
        self._seen: dict[str, int] = {}  # when their folders changed
        self._listed = 0
        self._lines: dict[str, Line] = {}

    def look(self) -> None:
        """Read what changed since the last look. Raises OSError where the store can't be read."""
        trials, now = str(self.store.root / "trials"), time.time_ns()
        try:
            changed = os.stat(trials).st_mtime_ns
        except FileNotFoundError:
            return
        if changed != self._listed:
            self._there = self.open.intersection(os.listdir(trials))
            self._listed = changed if now - changed > SETTLED_NS else 0
        for signature in list(self._there):
            try:
                changed = os.stat(f"{trials}/{signature}").st_mtime_ns
            except FileNotFoundError:
                changed = 0
            if self.state[signature] == "running" or changed != self._seen.get(signature):
                self._read(signature)
                self._seen[signature] = changed if now - changed > SETTLED_NS else 0

    def take(self, signature: str, result: dict[str, Any]) -> None:
        """A result that the caller was told of."""
        if signature in self.rows_of:
            self._set(signature, result["status"], result)

    def _read(self, signature: str) -> None:
        result = self.store.result(signature)
        state = "waiting" if result is None else result["status"]
        if state != "done" and lease.running(self.store.trial(signature)):
            state = "running"
        self._set(signature, state, result)

    def _set(self, signature: str, state: str, result: dict[str, Any] | None) -> None:
        kept = {} if result is None else _kept(result)
        if (state, kept) == (self.state[signature], self.result.get(signature, {})):
            return
        self.state[signature], self.result[signature] = state, kept
        if state == "done":
            self.open.discard(signature)
            self._there.discard(signature)
        for row in self.rows_of[signature]:
            self._lines.pop(row, None)

    def lines(self) -> list[Line]:
        """The rows in the sweep's order, the best on validation marked."""
        for row in self.cells:
            if row not in self._lines:
                self._lines[row] = self._line(row)
        lines = [self._lines[row] for row in self.cells]
        means = [line.mean for line in lines if line.mean is not None]
        return [line._replace(best=line.mean is not None and line.mean >= max(means)) for line in lines]

    def _line(self, row: str) -> Line:
        pairs: dict[int | None, list[float]] = {}
        for cell in self.cells[row]:
            score = self.result.get(cell.signature, {}).get("score")
            if score is not None:
                pairs.setdefault(cell.fold if self.unit == "fold" else cell.seed, []).append(score)
        means = [statistics.fmean(scores) for scores in pairs.values()]
        counts = Counter(self.state[cell.signature] for cell in self.cells[row])
        return Line(row, counts, statistics.fmean(means) if means else None, _half(means), len(means), False)

    def counts(self) -> Counter[str]:
        """Cells by state."""
        return Counter(self.state[cell.signature] for cell in self.sweep.cells)

    def running(self) -> int:
        """Trials at work, whoever launched them."""
        return sum(self.state[signature] == "running" for signature in self._there)

    def left(self) -> list[str]:
        """Trials that somebody began, without a result, that nobody works at now; in the sweep's order."""
        return [s for s in self.rows_of if s in self._there and self.state[s] == "waiting"]

    def epochs(self) -> tuple[int, int]:
        """Epochs done and all, an ended trial's all being done."""
        done = total = 0
        for signature, each in self._epochs().items():
            ended = self.state[signature] in ("done", "failed")
            done += each if ended else min(each, self._epochs_of(signature))
            total += each
        return done, total

    def left_s(self) -> float | None:
        """Seconds until all have ended, as long as what is done took and with as many at a time as run now;
        None while nothing runs or is done."""
        took: dict[str, list[float]] = {}
        for signature, kept in self.result.items():
            if kept.get("seconds"):
                took.setdefault(self.rows_of[signature][0], []).append(kept["seconds"])
        if not took or not self.running():
            return None
        mean = {row: statistics.fmean(seconds) for row, seconds in took.items()}
        other, epochs, left = statistics.fmean(mean.values()), self._epochs(), 0.0
        for signature in self.open:
            if self.state[signature] != "failed":
                part = min(1.0, self._epochs_of(signature) / epochs[signature])
                left += (1 - part) * mean.get(self.rows_of[signature][0], other)
        return left / self.running()

    def _epochs(self) -> dict[str, int]:
        """Epochs that each trial trains for; one where it trains nothing."""
        by_row: dict[str, int] = {}
        for row, cells in self.cells.items():
            by_row[row] = self.sweep.configs[cells[0].signature].epochs
        return {signature: by_row[rows[0]] for signature, rows in self.rows_of.items()}

    def _epochs_of(self, signature: str) -> int:
        """Epochs that a trial which has not ended has behind it."""
        return epochs_done(self.store.trial(signature)) if signature in self._there else 0


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    score, cost = result.get("metrics", {}).get(SCORE), result.get("cost") or {}
    good = isinstance(score, float) and math.isfinite(score) and result["status"] == "done"
    why = {} if good else {name: result.get(name) for name in ("failure", "error", "attempt")}
    return {"score": score if good else None, "seconds": cost.get("total_s") if good else None} | why


def _half(values: list[float]) -> float | None:
    """Half of the mean's 95 % t interval; None for fewer than two values."""
    if len(values) < 2:
        return None
    import numpy as np
    from scipy.special import stdtrit  # a third of scipy.stats' second of import

    return float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(len(values))
