"""Optuna's database `<store>/optuna.db`: a view of the ledger for optuna-dashboard, of grids and searches.

One Optuna study holds the sweep's cells, one more each search. Nothing reads it back: deleted, it is made
again, broken, it is put aside and made again, locked or full, a later sync catches up.
"""

import threading
from contextlib import suppress
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from experiments import database, lease
from experiments.identity import digest, flat
from experiments.importances import Importances, record
from experiments.ledger import Store, locked
from experiments.plan import Sweep
from experiments.reach import Search
from experiments.space import rank
from experiments.study import OBJECTIVE, Entry, epochs
from experiments.suggest import Past, distributions, frozen, scalar

CATCH_UP = "Nothing is lost: the next run brings Optuna's database up to date"
IDLE_S = 10.0
WAIT_S = 5.0  # for a database that another program holds


Grid = tuple[str, dict[str, dict[str, Any]], dict[str, BaseDistribution]]


class RecordError(Exception):
    """The database could not be brought up to date; its text is one line."""


class Wanted(NamedTuple):
    """A trial as the view should have it. attempt: of the lease, where it runs now. past: None where it ran
    once and neither runs nor ended."""

    key: str
    past: Past | None
    attempt: int | None = None


class Record:
    """The view of one sweep; `sweep` may be replaced as its searches end."""

    def __init__(self, sweep: Sweep, store: Store, wait_s: float = WAIT_S) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.store, self.wait_s = sweep, store, wait_s
        self.path = store.root.resolve() / "optuna.db"
        self.importances = Importances(store)
        self._storage: Any = None
        self._inode = 0
        self._studies: dict[str, optuna.Study] = {}
        self._cells_of: Sweep | None = None
        self._grid: Grid = ("", {}, {})
        self._shown: dict[tuple[str, str], Any] = {}  # what has ended and is in the database

    def sync(self) -> None:
        """Bring importances and the database up to the ledger (twice adds nothing), or raise RecordError."""
        try:
            self.importances.sync(self.sweep)
            with locked(self.store.root / "optuna.lock", wait=True):
                try:
                    self._sync()
                except Exception as error:
                    if not database.broken(error):
                        raise
                    self._forget()
                    database.put_aside(self.path, self.path.with_name("optuna.broken.db"))
                    self._sync()
        except Exception as error:
            self._forget()
            root: BaseException = error
            while (below := root.__cause__ or root.__context__) is not None:
                root = below
            reason = f"{self.path.name}: {type(root).__name__}: {' '.join(str(root).split())}"
            raise RecordError(f"Optuna's view failed: {reason[:300]}. {CATCH_UP}") from None

    def _forget(self) -> None:
        if self._storage is not None:
            self._storage._backend.engine.dispose()
        self._storage, self._studies, self._shown = None, {}, {}

    def _sync(self) -> None:
        self._open()
        self._cells()
        for search in self.sweep.searches:
            self._search(search)

    def _open(self) -> None:
        """The database, made whole before it gets its name: killed half-way, Optuna's own tables are none."""
        if self._storage is not None and self.path.exists() and self.path.stat().st_ino == self._inode:
            return
        self._forget()
        if not self.path.exists():
            database.create(self.path, lambda fresh: optuna.storages.RDBStorage(fresh).engine.dispose())
        waits = {"connect_args": {"timeout": self.wait_s}}
        backend = optuna.storages.RDBStorage(f"sqlite:///{self.path}", engine_kwargs=waits)
        self._storage = optuna.storages.get_storage(backend)
        self._inode = self.path.stat().st_ino

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            self._studies[name] = optuna.create_study(
                storage=self._storage, study_name=name, direction="maximize", load_if_exists=True
            )
        return self._studies[name]

    def _cells(self) -> None:
        """The sweep's cells: what its rows differ in, and what came out."""
        if self._cells_of is not self.sweep:  # a thousand configs take half a second
            self._cells_of, self._grid = self.sweep, _grid(self.sweep)
        name, params, kinds = self._grid
        names = [signature for signature in params if signature not in self.sweep.waiting]
        wanted = [one for one in (self._cell(name, s, params[s]) for s in names) if one]
        self._show(name, "signature", kinds, wanted)

    def _cell(self, study: str, signature: str, params: dict[str, Any]) -> Wanted | None:
        """None where the view has it already, or nothing began."""
        trial = self.store.trial(signature)
        with suppress(OSError):
            changed = (trial / "result.json").stat().st_mtime_ns
            if self._shown.get((study, signature)) == changed:
                return None
        if result := self.store.result(signature):
            self._shown[study, signature] = changed
            values = epochs(trial / "metrics.jsonl")
            if result["status"] == "done":
                return Wanted(signature, Past(params, "complete", result["metrics"][OBJECTIVE], values, {}))
            return Wanted(signature, Past(params, "failed", None, values, {}))
        return self._running(signature, signature, params)

    def _running(self, key: str, signature: str, params: dict[str, Any]) -> Wanted:
        trial = self.store.trial(signature)
        holder = lease.running(trial)
        if holder is None:
            return Wanted(key, None)
        values = epochs(lease.folder(trial, holder.attempt) / "metrics.jsonl")
        return Wanted(key, Past(params, "running", None, values, {}), holder.attempt)

    def _search(self, search: Search) -> None:
        """A study's trials, as its record has them."""
        name = f"{self.sweep.name}-{search.row} fold {search.fold}-{search.key[:8]}"
        kinds = distributions(search.spec["space"])
        entries = record(search, self.sweep.name, self.store)
        wanted = [one for entry in entries if (one := self._entry(name, entry))]
        self._show(name, "number", kinds, wanted)

    def _entry(self, study: str, entry: Entry) -> Wanted | None:
        key = str(entry.number)
        params = {name: scalar(value) for name, value in entry.params.items()}
        if entry.state == "running":
            if self.store.result(str(entry.signature)):
                return None  # ended, and the record will say how
            return self._running(key, str(entry.signature), params)
        if self._shown.get((study, key)) == entry.state:
            return None
        self._shown[study, key] = entry.state
        values = [(epoch, value) for epoch, value in entry.intermediate]
        return Wanted(key, Past(params, entry.state, entry.value, values, {}))

    def _show(self, name: str, tag: str, kinds: dict[str, BaseDistribution], wanted: list[Wanted]) -> None:
        study, shown = self._study(name), dict[str, list[FrozenTrial]]()
        for trial in study.get_trials(deepcopy=False) if wanted else []:
            shown.setdefault(str(trial.user_attrs.get(tag)), []).append(trial)
        for one in wanted:
            mine = shown.get(one.key, [])
            running = [trial for trial in mine if trial.state == TrialState.RUNNING]
            if one.past is not None:
                made = frozen(
                    kinds, one.past, {tag: one.key} | ({"attempt": one.attempt} if one.attempt else {})
                )
                running = self._one(study, one, made, mine, running)
            for trial in running:  # its process is gone
                self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def _one(
        self,
        study: optuna.Study,
        one: Wanted,
        made: FrozenTrial,
        mine: list[FrozenTrial],
        running: list[FrozenTrial],
    ) -> list[FrozenTrial]:
        """Show the trial; those of `running` that are not it."""
        if made.state == TrialState.RUNNING:
            same = [trial for trial in running if trial.user_attrs.get("attempt") == one.attempt]
        elif any(trial.state == made.state and trial.value == made.value for trial in mine):
            return running
        else:
            same = running[-1:]
        if not same:
            study.add_trial(made)
            return running
        known = same[0].intermediate_values
        for epoch, value in made.intermediate_values.items():
            if known.get(epoch) != value:
                self._storage.set_trial_intermediate_value(same[0]._trial_id, epoch, value)
        if made.state != TrialState.RUNNING:
            values = None if made.value is None else [made.value]
            self._storage.set_trial_state_values(same[0]._trial_id, made.state, values)
        return [trial for trial in running if trial is not same[0]]


class BackgroundRecord:
    """Syncs in a daemon thread whenever told to, and now and then for the curves of what runs."""

    def __init__(self, record: Record) -> None:
        self.record, self._wake, self._closing = record, threading.Event(), False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        self._wake.set()

    def close(self, timeout_s: float) -> str | None:
        """One last sync; the message where the database is left behind the ledger, else None."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        late = f"Optuna's database is not up to date yet. {CATCH_UP}"
        return late if self._thread.is_alive() else self._problem

    def _loop(self) -> None:
        last = False
        while not last:
            self._wake.wait(IDLE_S)
            self._wake.clear()
            last, self._problem = self._closing, None
            try:
                self.record.sync()
            except RecordError as error:
                self._problem = str(error)


def _grid(sweep: Sweep) -> Grid:
    """What a study of the sweep's cells is: its name, which knows the space and the cells and no order, the
    parameters by signature, and their distributions."""
    params, ids = _params(sweep), set()
    searched = {(search.row, search.fold): search for search in sweep.searches}
    for cell in sweep.cells:
        search = searched.get((cell.row, cell.fold))
        ids.add(search.placeholder(cell.seed) if search else cell.signature)
    choices: dict[str, list[Any]] = {}
    for found in params.values():
        for name, value in found.items():
            if value not in choices.setdefault(name, []):
                choices[name].append(value)
    space = {name: sorted(values, key=rank) for name, values in sorted(choices.items())}
    kinds: dict[str, BaseDistribution] = {k: CategoricalDistribution(v) for k, v in space.items()}
    return f"{sweep.name}-{digest([space, sorted(ids)])[:8]}", params, kinds


def _params(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """By signature: the row, and what differs between the sweep's rows, in short names where they are
    unambiguous."""
    names = sweep.plan()["differs"]
    ends = [name.split(".")[-1] for name in names]
    labels = [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]
    out: dict[str, dict[str, Any]] = {}
    for cell in reversed(sweep.cells):  # the first cell of a shared trial names it
        config = flat(sweep.configs[cell.signature].model_dump(mode="json"))
        point = {"row": cell.row, "seed": -1 if cell.seed is None else cell.seed, "fold": cell.fold}
        values = {label: scalar(config[name]) for name, label in zip(names, labels, strict=True)}
        out[cell.signature] = point | values
    return dict(reversed(out.items()))
