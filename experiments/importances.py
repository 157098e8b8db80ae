"""What mattered in the searches that ended: `<store>/sweeps/<name>/importances.json`, from their records."""

import statistics
from typing import Any

from experiments.ledger import Store, read_json, write_json
from experiments.plan import Sweep
from experiments.reach import Search
from experiments.study import Entry, past


def record(search: Search, sweep: str, store: Store) -> list[Entry]:
    """The study's trials as its file has them; none where it can't be read."""
    found = read_json(store.sweep(sweep) / "search" / f"{search.key}.json")
    try:
        return [Entry(**fields) for fields in found["trials"]]
    except (TypeError, KeyError):
        return []


class Importances:
    """By study and, averaged over folds, by row; None where complete trials are too few to tell."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._ends: dict[tuple[str, str], list[Any]] = {}

    def sync(self, sweep: Sweep) -> None:
        """Write the file where studies ended since. Raises OSError."""
        names = {(search.row, search.key): search for search in sweep.searches}
        for name, search in names.items():
            entries = record(search, sweep.name, self.store)
            whole = len(entries) == search.spec["trials"] and all(e.state != "running" for e in entries)
            ends = [(entry.state, entry.value) for entry in entries]  # a study may be tried again
            if whole and self._ends.get(name) != ends:
                self._ends[name], self._known[name] = ends, _of(search, entries)
        studies = [self._known[name] for name in names if name in self._known]
        path = self.store.sweep(sweep.name) / "importances.json"
        value = {"schema": 1, "studies": studies, "rows": _rows(studies)}
        if studies and read_json(path) != value:
            write_json(path, value)


def _of(search: Search, entries: list[Entry]) -> dict[str, Any]:
    from experiments.suggest import importances

    return {
        "row": search.row,
        "fold": search.fold,
        "study": search.key,
        "complete": sum(entry.state == "complete" for entry in entries),
        "importances": importances(search.spec, search.stem, past(entries)),
    }


def _rows(studies: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the folds that have one."""
    found: dict[str, list[dict[str, float]]] = {}
    for study in studies:
        if study["importances"]:
            found.setdefault(study["row"], []).append(study["importances"])
    return {row: {k: statistics.fmean(f[k] for f in of) for k in of[0]} for row, of in found.items()}
