"""One study: the search of one row's settings on one fold, as a pure function of the ledger.

Trial k is asked from the trials up to k - parallel, as they ended, with those between as running: not from
what a launch happens to have seen by then. It is pruned at the first epoch at which the pruner says so on
that same past, whether or not it ran on. So any launch that asks, after any kill, hears the same, and the
file `<store>/sweeps/<name>/search/<key>.json` only saves the asking.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.identity import signature
from experiments.lease import live
from experiments.ledger import Store, read_json, write_json
from experiments.reach import Digests, Search
from experiments.yamlfile import FileError

if TYPE_CHECKING:
    from experiments.suggest import Judge, Past

OBJECTIVE, TIES = "val/macro_f1", "val/series_mse"
Results = Callable[[str], dict[str, Any] | None]


@dataclass
class Entry:
    """One trial of the budget. state: running | complete | pruned | failed. signature: None where its
    settings don't go together. intermediate: (epoch, objective). sampler, pruner and common: what Optuna
    stored in asking, in pruning, and with the study."""

    number: int
    params: dict[str, Any]
    signature: str | None
    state: str = "running"
    value: float | None = None
    series_mse: float | None = None
    error: str | None = None
    intermediate: list[tuple[int, float]] = field(default_factory=list)
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)


def past(entries: list[Entry], known: int | None = None) -> "list[Past]":
    """The entries as Optuna may know them: the first `known` as they ended, the others as running."""
    from experiments.suggest import Past

    known = len(entries) if known is None else known
    ended = [Past(e.params, e.state, e.value, e.intermediate, e.sampler | e.pruner) for e in entries[:known]]
    return ended + [Past(e.params, "running", None, [], e.sampler) for e in entries[known:]]


class Study:
    """The study's trials as far as the ledger goes. `results` looks up a signature's accepted result."""

    def __init__(self, search: Search, name: str, store: Store, results: Results) -> None:
        self.search, self.store, self.results = search, store, results
        self.spec, self.stem, self.key = search.spec, search.stem, search.key
        self.path = store.sweep(name) / "search" / f"{self.key}.json"
        self.configs: dict[str, tuple[RunConfig, Digests]] = {}
        self.judges: dict[int, Judge] = {}
        self.read: dict[int, tuple[str, int, int]] = {}
        self.entries: list[Entry] = []
        self._load()

    @property
    def open(self) -> bool:
        return len(self.entries) < self.spec["trials"] or any(e.state == "running" for e in self.entries)

    @property
    def running(self) -> list[Entry]:
        """Asked and not ended, the lowest number first."""
        return [entry for entry in self.entries if entry.state == "running"]

    @property
    def chosen(self) -> Entry | None:
        """Best on validation, ties to lower reconstruction error, then to the earlier; None where there is
        none (yet)."""
        complete = [entry for entry in self.entries if entry.state == "complete"]
        if self.open or not complete:
            return None
        inf = float("inf")
        return min(complete, key=lambda e: (-(e.value or 0), inf if e.series_mse is None else e.series_mse))

    @property
    def failure(self) -> str | None:
        """Why the study ended without a choice; None where it didn't."""
        if self.open or self.chosen:
            return None
        counts = Counter(entry.state for entry in self.entries)
        parts = [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
        first = next((f"; {e.error}" for e in self.entries if e.error), "")
        return f"none of {len(self.entries)} trials finished: {', '.join(parts)}{first}"

    def advance(self) -> bool:
        """End what ended, ask what may be asked; whether anything changed."""
        changed = False
        while True:
            ended = [self._look(entry) for entry in self.running]
            if not self._ask() and not any(ended):
                return changed
            changed = True

    def save(self) -> None:
        """Raises OSError."""
        write_json(self.path, self.record())

    def record(self) -> dict[str, Any]:
        entries = [asdict(entry) for entry in self.entries]
        for entry in entries:
            if entry["state"] == "running":
                entry["intermediate"] = []  # what was read of it hangs on when
        return {"schema": 1, "stem": self.stem, "search": self.spec, "trials": entries}

    def _ask(self) -> bool:
        """Whether one more trial was asked."""
        from experiments import suggest

        number = len(self.entries)
        known = max(0, number - self.spec["parallel"] + 1)
        if number == self.spec["trials"] or any(e.state == "running" for e in self.entries[:known]):
            return False
        common = self.entries[-1].common if self.entries else {}
        asked = suggest.ask(self.spec, self.stem, past(self.entries, known), common)
        entry = Entry(number, asked.params, None, sampler=asked.attributes, common=asked.common)
        try:
            entry.signature = self._name(entry.params)
        except (ValueError, FileError) as error:
            entry.state, entry.error = "failed", str(error)
        self.entries.append(entry)
        return True

    def _name(self, params: dict[str, Any]) -> str:
        config = self.search.trial(params)
        digests = self.search.digests(config)
        name = signature(config, digests)
        self.configs[name] = config, digests
        return name

    def _look(self, entry: Entry) -> bool:
        """Whether the running entry ended."""
        name = str(entry.signature)
        result, trial = self.results(name), self.store.trial(name)
        if result:  # what was accepted counts, not what an attempt before it said
            entry.intermediate, entry.pruner = [], {}
            self.judges.pop(entry.number, None)
            self.read.pop(entry.number, None)
        for epoch, value in self._news(entry, (trial if result else live(trial)) / "metrics.jsonl"):
            entry.intermediate.append((epoch, value))
            if self._prunes(entry, epoch, value):
                entry.state, entry.value = "pruned", value
                break
        else:
            if result is None:
                return False
            _end(entry, result)
        self.read.pop(entry.number, None)
        self.judges.pop(entry.number, None)
        return True

    def _news(self, entry: Entry, path: Path) -> list[tuple[int, float]]:
        """Epochs of the trial's metrics that the entry lacks, where the file changed; a torn last line is
        none."""
        try:
            found = path.stat()
            state = (str(path), found.st_size, found.st_mtime_ns)
            if self.read.get(entry.number) == state:
                return []
        except OSError:
            return []
        self.read[entry.number] = state
        last = entry.intermediate[-1][0] if entry.intermediate else -1
        return [(epoch, value) for epoch, value in epochs(path) if epoch > last]

    def _prunes(self, entry: Entry, epoch: int, value: float) -> bool:
        if self.spec["pruner"]["name"] == "none":
            return False
        from experiments import suggest

        if entry.number not in self.judges:
            known = max(0, entry.number - self.spec["parallel"] + 1)
            before = past(self.entries[: entry.number + 1], known)
            self.judges[entry.number] = suggest.Judge(self.spec, self.stem, before[:-1], before[-1])
        judge = self.judges[entry.number]
        says = judge.prunes(epoch, value)
        entry.pruner = judge.attributes
        return says

    def _load(self) -> None:
        """The record as far as the ledger bears it out; the rest is asked again."""
        found = read_json(self.path)
        try:
            trials = found["trials"] if found["stem"] == self.stem else []
            for number, fields in enumerate(trials[: self.spec["trials"]]):
                entry = Entry(**fields)
                entry.intermediate = [(int(epoch), float(value)) for epoch, value in entry.intermediate]
                if entry.number != number or not self._holds(entry):
                    break
                self.entries.append(entry)
        except (TypeError, KeyError, ValueError, AttributeError, FileError):
            pass

    def _holds(self, entry: Entry) -> bool:
        """Whether the ledger still says what the entry says."""
        try:
            if self._name(entry.params) != entry.signature:
                return False
        except (ValueError, FileError) as error:
            return entry.signature is None and str(error) == entry.error
        if entry.state not in ("complete", "failed"):
            return entry.state == "running" or bool(entry.intermediate)
        result, again = self.results(str(entry.signature)), Entry(entry.number, {}, None)
        if result is None:
            return False
        _end(again, result)
        fields = ("state", "value", "series_mse", "error")
        return all(getattr(again, name) == getattr(entry, name) for name in fields)


def epochs(path: Path) -> list[tuple[int, float]]:
    """The objective by epoch, from a metrics file; a torn last line is none."""
    out: list[tuple[int, float]] = []
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return out
    for line in lines:
        try:
            values = json.loads(line)
            if OBJECTIVE in values:
                out.append((int(values["epoch"]), float(values[OBJECTIVE])))
        except (ValueError, TypeError, KeyError):
            break
    return out


def _end(entry: Entry, result: dict[str, Any]) -> None:
    """Take over the trial's accepted result: what it says of validation, and nothing of the test."""
    value = result["metrics"].get(OBJECTIVE)
    if result["status"] == "done" and value is not None:
        entry.state, entry.value, entry.series_mse = "complete", value, result["metrics"].get(TIES)
    else:
        entry.state, entry.error = "failed", result.get("error") or f"no {OBJECTIVE}"
