"""The studies of a sweep, side by side: what they want run, when to stop it, and what they chose."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from experiments import failure, lease
from experiments.config import RunConfig
from experiments.identity import signature
from experiments.ledger import Store
from experiments.plan import Cell, Sweep
from experiments.study import OBJECTIVE, Study


class Asked(NamedTuple):
    """A trial that a study wants. label: what a person calls it."""

    signature: str
    config: RunConfig
    digests: dict[str, str | None]
    row: str
    fold: int
    number: int
    label: str


class Studies:
    """All studies of `sweep`, brought up to the ledger. Cheap to ask again and again: what did not change on
    disk is not read again. retry_failed: what failed before is as if it had not been tried, what diverged
    excepted."""

    def __init__(self, sweep: Sweep, store: Store, retry_failed: bool = False) -> None:
        self._sweep, self.store = sweep, store
        self._retry_failed = retry_failed
        self._tried: set[str] = set()  # trials that ended while we looked
        self.studies = {
            (search.row, search.fold): Study(search, sweep.name, store, self._result)
            for search in sweep.searches
        }
        self._unsaved = set(self.studies)
        self._settled: Sweep | None = None
        for study in self.studies.values():
            study.advance()

    def _result(self, signature: str) -> dict[str, Any] | None:
        result = self.store.result(signature)
        again = self._retry_failed and signature not in self._tried and failure.retriable(result)
        return None if again else result

    def refresh(self) -> None:
        """End what ended, ask what may be asked, and write the records."""
        for key, study in self.studies.items():
            if study.open and study.advance():
                self._unsaved.add(key)
                if not study.open:
                    self._settled = None
        for key in list(self._unsaved):
            with suppress(OSError):  # a full disk: the record only saves asking again
                self.studies[key].save()
                self._unsaved.discard(key)

    @property
    def open(self) -> bool:
        """Whether a study has not ended."""
        return any(study.open for study in self.studies.values())

    def ready(self) -> list[Asked]:
        """Trials that are asked and have not ended, each once, whoever runs them: all studies' first, then
        all studies' second, the studies fold by fold with the reference first."""
        self.refresh()
        order = {(cell.row, cell.fold): at for at, cell in reversed(list(enumerate(self._sweep.cells)))}
        found: dict[str, Asked] = {}
        wanted = [(e.number, order[key], key, e) for key, s in self.studies.items() for e in s.running]
        for number, _, key, entry in sorted(wanted, key=lambda one: one[:2]):
            name = str(entry.signature)
            asked = Asked(name, *self.studies[key].configs[name], *key, number, self._trial(key, number))
            found.setdefault(name, asked)
        return list(found.values())

    def _trial(self, key: tuple[str, int], number: int) -> str:
        """What a person calls a trial."""
        (row, fold), trials = key, self.studies[key].spec["trials"]
        folded = f" fold {fold}" if self._sweep.folded else ""
        return f"{row}{folded} search {number + 1}/{trials}"

    def look(self, signature: str) -> bool:
        """Whether to stop the running trial now: every study that asked for it has ended it."""
        self.refresh()
        return self._known(signature) and not any(
            entry.signature == signature for study in self.studies.values() for entry in study.running
        )

    def _known(self, signature: str) -> bool:
        return any(signature in study.configs for study in self.studies.values())

    def ended(self, signature: str, result: dict[str, Any] | None) -> None:
        """An attempt is over. None: it left no result; unless it was pruned, it will be asked for again."""
        if result is not None:
            self._tried.add(signature)
        self.refresh()

    def counts(self) -> Counter[str]:
        """Trials by state (running: asked; complete, pruned, failed, and waiting: not asked yet)."""
        out = Counter(entry.state for study in self.studies.values() for entry in study.entries)
        out["waiting"] = sum(s.spec["trials"] - len(s.entries) for s in self.studies.values())
        return out

    def at_work(self) -> int:
        """How many trials somebody runs now."""
        names = {str(entry.signature) for study in self.studies.values() for entry in study.running}
        return sum(lease.running(self.store.trial(name)) is not None for name in names)

    def failed(self) -> list[tuple[str, dict[str, Any], str | None]]:
        """The failed trials: what a person calls each, its result and its signature; none where its settings
        don't go together."""
        out: list[tuple[str, dict[str, Any], str | None]] = []
        for key, study in self.studies.items():
            for entry in study.entries:
                if entry.state == "failed":
                    name = entry.signature
                    told = ((self.store.result(name) if name else None) or {}) | {"error": entry.error}
                    out.append((self._trial(key, entry.number), told, name))
        return out

    def failures(self) -> dict[str, str]:
        """By signature, the cells of studies that ended without a choice, and why, unless their results say
        so."""
        return {
            cell.signature: why
            for cell in self.sweep.cells
            if cell.signature in self.sweep.waiting
            and (why := self.studies[cell.row, cell.fold].failure)
            and (self.store.result(cell.signature) or {}).get("error")
            != failure.told(failure.unsearched(why))
        }

    @property
    def sweep(self) -> Sweep:
        """The sweep with what is chosen so far; the same object until another study ends."""
        if self._settled is None:
            self._settled = self._settle()
        return self._settled

    def _settle(self) -> Sweep:
        cells: list[Cell] = []
        configs: dict[str, RunConfig] = {}
        digests: dict[str, dict[str, str | None]] = {}
        waiting = set()
        for cell in self._sweep.cells:
            name, study = cell.signature, self.studies.get((cell.row, cell.fold))
            if study is None:
                config, found = self._sweep.configs[name], self._sweep.digests[name]
            else:
                chosen, search = study.chosen, study.search
                config = search.final(chosen.params if chosen else search.first, cell.seed)
                found = search.digests(config)
                name = signature(config, found) if chosen else search.placeholder(cell.seed)
                waiting |= set() if chosen else {name}
            cells.append(cell._replace(signature=name))
            configs[name], digests[name] = config, found
        return replace(
            self._sweep,
            cells=cells,
            configs=configs,
            digests=digests,
            waiting=frozenset(waiting),
            chosen=tuple(_outcome(study) for study in self.studies.values() if not study.open),
        )


def _outcome(study: Study) -> dict[str, Any]:
    """What `plan.json` says of a study that ended."""
    counts = Counter(entry.state for entry in study.entries)
    chosen = study.chosen
    return {
        "row": study.search.row,
        "fold": study.search.fold,
        "study": study.key,
        "values": chosen.params if chosen else None,
        "number": chosen.number if chosen else None,
        OBJECTIVE: chosen.value if chosen else None,
        "trials": {state: counts[state] for state in ("complete", "pruned", "failed")},
        "error": study.failure,
    }
