"""A sweep's trials as the ledger has them now. Looking again reads only what changed since."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from experiments import lease
from experiments.identity import digest
from experiments.ledger import Store, read_json

Points = dict[tuple[str, int], float]  # (metric, step) -> value
TIME = "epoch/time_s"
EVALUATION = "evaluation.json"


class Result(NamedTuple):
    """mark: of the file that it was read from; stamp: of the result, a retried trial's is another."""

    mark: str
    stamp: str
    status: str
    metrics: dict[str, float]


class Begun(NamedTuple):
    """A trial that was begun and has no result. ended: how its last attempt ended, where that was noted."""

    running: bool
    ended: str
    began_ms: int
    curve: Points


class Watch:
    """The trials of `signatures`: `results` of those that have one, `begun` of those that were only begun."""

    def __init__(self, store: Store, signatures: Iterable[str]) -> None:
        self._store, self._signatures = store, list(dict.fromkeys(signatures))
        self.results: dict[str, Result] = {}
        self.begun: dict[str, Begun] = {}
        self._curves: dict[str, tuple[str, Points]] = {}
        self._held: dict[str, tuple[lease.Holder, float]] = {}

    def look(self) -> set[str]:
        """Look again: the signatures whose result came, changed or went."""
        try:
            there = set(os.listdir(self._store.root / "trials"))
        except FileNotFoundError:
            if self.results:
                raise  # the store itself is away, as a disk that is not mounted: that deletes nothing
            there = set()
        before, self.results, self.begun = self.results, {}, {}
        for signature in self._signatures:
            if signature not in there:
                continue
            old, at = before.get(signature), marks(self._store, signature)
            found = old if old and old.mark == at else self._read(signature, at) if at else None
            if found:
                self.results[signature] = found
            elif begun := self._begun(signature):
                self.begun[signature] = begun
        self._curves = {s: seen for s, seen in self._curves.items() if s in self.begun}
        self._held = {s: seen for s, seen in self._held.items() if s in self.begun}
        names = before.keys() | self.results.keys()
        return {s for s in names if before.get(s) != self.results.get(s)}

    def _read(self, signature: str, at: str) -> Result | None:
        result = told(self._store, signature)
        if result is None:
            return None
        metrics = {sys.intern(name): value for name, value in finite(result["metrics"]).items()}
        return Result(at, stamp(result), result["status"], metrics)

    def _begun(self, signature: str) -> Begun | None:
        trial = self._store.trial(signature)
        ends = lease.history(trial)
        if not ends and not lease.attempts(trial):
            return None
        folder = lease.live(trial)
        path = folder / "metrics.jsonl"
        at = f"{path} {mark(path)}"
        if self._curves.get(signature, ("",))[0] != at:
            self._curves[signature] = at, curve(path)
        ended = " ".join(f"{ends[-1].get('end')}: {ends[-1].get('detail')}".split()) if ends else ""
        return Begun(self._runs(signature, trial), ended, _began_ms(folder), self._curves[signature][1])

    def _runs(self, signature: str, trial: Path) -> bool:
        """Whether somebody works at it. Of another machine's process only a heart beat tells: none while it
        was watched for STALE_S, and it is dead."""
        found, now = lease.running(trial), time.monotonic()
        if found is None:
            return False
        if self._held.get(signature, (None,))[0] != found:
            self._held[signature] = found, now
        return bool(found.alive()) or now - self._held[signature][1] < lease.STALE_S


def mark(path: Path | str) -> str | None:
    """Changes whenever the file does; None where there is none."""
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}"


def marks(store: Store, signature: str) -> str | None:
    """Of a trial's result and of its evaluation; None without a result."""
    of_result = mark(store.result_path(signature))
    of_evaluation = mark(store.trial(signature) / EVALUATION)
    return of_result if of_result is None or of_evaluation is None else f"{of_result} {of_evaluation}"


def told(store: Store, signature: str) -> dict[str, Any] | None:
    """The trial's result, with the metrics of `shapelex evaluate` where an evaluation belongs to it, and
    `evaluation`, what tells these from others."""
    result = store.result(signature)
    if result is None or result["status"] != "done":
        return result
    found = read_json(store.trial(signature) / EVALUATION)
    if not isinstance(found, dict) or not found.items() >= of_try(result).items():
        return result
    metrics = found.get("metrics") or {}
    return result | {"metrics": metrics | result["metrics"], "evaluation": digest(metrics)[:8]}


def of_try(result: dict[str, Any]) -> dict[str, Any]:
    """Tells a result from the one of another try of its trial."""
    return {key: result.get(key) for key in ("signature", "finished_at", "attempt")}


def stamp(result: dict[str, Any]) -> str:
    """Tells a result from the one of another try (`finished_at` has seconds only) or evaluation."""
    attempt, evaluation = result.get("attempt"), result.get("evaluation")
    of_try = str(result["finished_at"]) + ("" if attempt is None else f" #{attempt}")
    return of_try + ("" if evaluation is None else f" ~{evaluation}")


def curve(path: Path, prefix: str = "epoch/") -> Points:
    """Finite values of a metrics.jsonl as `epoch/...`, of another file with its prefix. What is not whole is
    left out, as the last line of a killed trial; of an epoch that is there twice the last line counts."""
    out: Points = {}
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return out
    for line in text.rpartition("\n")[0].splitlines():
        try:
            values = json.loads(line)
            epoch = int(values.pop("epoch"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        out |= {(name, epoch): value for name, value in finite(values, prefix).items()}
    return out


def finite(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    return {prefix + k: float(v) for k, v in values.items() if isinstance(v, int | float) and isfinite(v)}


def _began_ms(folder: Path) -> int:
    """The age of the oldest file in it."""
    times = [time.time()]
    with contextlib.suppress(OSError):  # the folder went on to the next attempt, or a file in it did
        times += [entry.stat().st_mtime for entry in os.scandir(folder)]
    return round(1000 * min(times))
