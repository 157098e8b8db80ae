"""What a launch has to run, as it becomes known: a sweep's cells, and where it searches, what its studies ask
for and what they choose."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.config import RunConfig
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.stage import stage
from experiments.studies import Studies


@dataclass(frozen=True)
class Trial:
    """label: what a person calls it."""

    signature: str
    config: RunConfig
    digests: dict[str, str | None]
    row: str
    label: str

    @cached_property
    def epochs(self) -> int:
        return self.config.epochs

    @cached_property
    def stage(self) -> str | None:
        """See `experiments.stage`."""
        return stage(self.config, self.digests)

    def asked(self) -> dict[str, Any]:
        """What a result says of it."""
        config = self.config.model_dump(mode="json")
        return {"signature": self.signature, "config": config, "digests": self.digests}


class Supply:
    """Of the cells `todo` of `sweep`. settled: is told of the sweep each time that a study has chosen."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        todo: list[str],
        studies: Studies | None,
        settled: Callable[[Sweep], None],
    ) -> None:
        self.sweep, self.store, self.studies, self.settled = sweep, store, studies, settled
        self.given: dict[str, Trial] = {}
        if studies is not None:
            self.sweep = studies.sweep
        self.first = self._cells(sweep, todo)

    def _cells(self, sweep: Sweep, signatures: Iterable[str]) -> list[Trial]:
        cells = {cell.signature: cell for cell in reversed(sweep.cells)}
        return [
            Trial(s, sweep.configs[s], sweep.digests[s], cells[s].row, sweep.label(cells[s]))
            for s in signatures
        ]

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self.studies is not None and (self.studies.open or self.studies.sweep is not self.sweep)

    def news(self) -> list[Trial]:
        """What is to be run and was not told of before. Raises OSError where `settled` does, and tells it all
        the next time."""
        found = list(self.first)
        if self.studies is not None:
            asked = self.studies.ready()
            found += [Trial(a.signature, a.config, a.digests, a.row, a.label) for a in asked]
            sweep = self.studies.sweep
            if sweep is not self.sweep:
                self.settled(sweep)
                chosen = dict.fromkeys(cell.signature for cell in sweep.cells)
                left = [s for s in chosen if s not in sweep.waiting and self.store.result(s) is None]
                found += self._cells(sweep, left)
            self.sweep = sweep
        self.first = []
        news = {trial.signature: trial for trial in found if trial.signature not in self.given}
        self.given |= news
        return list(news.values())

    def again(self, signature: str) -> None:
        """The trial ended without a result: if a study still asks for it, it is news again."""
        if self.studies is not None and self.given[signature].config.evaluate == "validation":
            del self.given[signature]

    def pruned(self, running: Iterable[str]) -> list[str]:
        """Those of the running trials that no study waits for any more."""
        return [s for s in running if self.studies is not None and self.studies.look(s)]

    def ended(self, signature: str, result: dict[str, Any] | None) -> None:
        if self.studies is not None:
            self.studies.ended(signature, result)

    def failures(self) -> list[tuple[Trial, str]]:
        """The cells of studies that ended without a choice, and why, until `told`."""
        if self.studies is None:
            return []
        found = {s: why for s, why in self.studies.failures().items() if s not in self.given}
        return [(trial, found[trial.signature]) for trial in self._cells(self.studies.sweep, found)]

    def told(self, trial: Trial) -> None:
        """The cell has its failed result."""
        self.given[trial.signature] = trial

    def left(self) -> int:
        """How many trials studies have yet to see the end of or to choose."""
        return self.unasked() + (0 if self.studies is None else self.studies.counts()["running"])

    def unasked(self) -> int:
        """How many trials studies have yet to ask for or to choose."""
        if self.studies is None:
            return 0
        return self.studies.counts()["waiting"] + len(self.studies.sweep.waiting)
