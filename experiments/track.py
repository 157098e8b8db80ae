"""MLflow as a view of the ledger: a parent run per row of a sweep, a child run per cell that was begun.

Nothing lives in MLflow alone: `Mirror.sync` brings it up to plan and ledger from any state, and deletes
(MLflow can undo it) what they no longer hold. Final metrics keep the ledger's names, curves are `epoch/...`
lest their last point pass for a final value; a parent holds means, `<metric>/sd`, `n` and `failed`. A child
without a result is RUNNING while somebody works at it, else KILLED; when it goes on, so does its run.
"""

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments import board, database, lease
from experiments.database import missing
from experiments.identity import digest
from experiments.ledger import Locked, Store, locked, read_json, write_json
from experiments.models import Models
from experiments.runcard import Cards, Cell, Json, summary
from experiments.runs import Runs
from experiments.watch import Watch, mark, marks, stamp, told

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# Defaults, the user's own settings win. With MLflow's, a dead server blocks one call for minutes; and a call
# that is tried again after its answer was lost makes a run twice.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
CATCH_UP = "Nothing is lost: the ledger has every result, and the next run or `shapelex sync` catches up."
Tell = Callable[[int, int], None]


class MirrorError(Exception):
    """MLflow could not be brought up to the ledger: one line, free of secrets."""


def uri(store: Path) -> str:
    """MLFLOW_TRACKING_URI, or else an SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own(store)


def own(store: Path) -> str:
    return f"sqlite:///{store.resolve()}/mlflow.db"


def redact(text: str) -> str:
    """`text` without the credentials of the addresses in it."""
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def pending(store: Path, plan: Json) -> list[Cell]:
    """The cells that MLflow may not show as they are: finished, retried or deleted since, or shown RUNNING
    where nobody works any more; all that are finished where plan or address changed, or the database file is
    gone. Answers without importing mlflow, and reads only results that are new."""
    return Mirror(store, plan).pending()


class Mirror:
    """One sweep's view in MLflow; `plan` is the sweep's plan.json."""

    def __init__(self, store: Path, plan: Json) -> None:
        self.store, self.plan, self.uri, self._ledger = store, plan, uri(store), Store(store)
        self.path = self._ledger.sweep(plan["sweep"]) / "mirrored.json"
        self.cards = Cards(plan)
        self.watch = Watch(self._ledger, [cell.signature for cell in self.cards.cells])
        self.notes: list[str] = []  # what a person should know of what was done
        self._of_row: dict[str, list[Cell]] = {row: [] for row in self.cards.rows}
        for cell in self.cards.cells:
            self._of_row[cell.row].append(cell)
        self._view = digest([self.uri, plan])  # the address may hold a password
        self.held = False  # the lock of `alone`
        self._file: int | None = None
        self._summaries: dict[str, dict[str, float]] = {}
        self._forget()

    def _forget(self) -> None:
        self._runs: Runs | None = None
        self._models: Models | None = None
        self._record: Json = {}  # as last written here; where the file differs, MLflow is searched again
        self._record_mark: str | None = None

    def pending(self) -> list[Cell]:
        """See `track.pending`."""
        record = self._read_record()
        shown, running = record.get("shown", {}), set(record.get("running", []))
        behind = set[str]()
        for signature in {cell.signature for cell in self.cards.cells}:
            at, (was, seen) = marks(self._ledger, signature), shown.get(signature, (None, None))
            if at is None:
                alone = signature in running and lease.running(self._ledger.trial(signature)) is None
                late = was is not None or alone
            elif was is None:
                late = True
            elif late := at != seen or signature in running:
                result = told(self._ledger, signature)
                late = signature in running or (result is not None and stamp(result) != was)
            if late:
                behind.add(signature)
        return [cell for cell in self.cards.cells if cell.signature in behind]

    def _read_record(self) -> Json:
        """What MLflow shows as far as is known: of each result its stamp and its file's mark, and what may be
        RUNNING there."""
        record = read_json(self.path)
        whole = isinstance(record, dict) and record.get("schema") == 2 and record.get("view") == self._view
        return record if whole and not missing(self.uri) else {}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one process that mirrors this sweep of this store; raises Locked where another one is."""
        with locked(self.path.with_name("mirror.lock"), wait=False):
            self.held = True
            try:
                yield
            finally:
                self.held = False

    def connect(self) -> Runs:
        """Create the database and the experiment where they are missing, one process at a time."""
        os.environ.update(ENVIRONMENT | os.environ)
        if self.uri.startswith("sqlite"):  # a file that was replaced would be written to for ever
            os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        import mlflow

        for name in ("urllib3.connectionpool", "mlflow"):  # they tell of each failure, at length
            logging.getLogger(name).setLevel(logging.CRITICAL)
        name, folder = self.plan["sweep"], str(self.store.resolve() / "mlartifacts" / self.plan["sweep"])
        with locked(self.store / "mlflow.lock", wait=True):
            file = database.file_of(self.uri)
            if file is not None and missing(self.uri):
                database.create(file, lambda fresh: mlflow.MlflowClient(fresh).search_experiments())
            self._file = database.identity(self.uri)
            client = mlflow.MlflowClient(self.uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                place = folder if self.uri.startswith(DATABASES) else None
                experiment = client.get_experiment(client.create_experiment(name, place))
            elif experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment.experiment_id)
            # Two stores may keep the same sweep on one server: each reads and writes its own runs only.
            identity = self._identity(client)
            tags = {"mlflow.note.content": self.plan["question"], self._place(): identity}
            tags |= {"mlflow.experimentKind": "custom_model_development", board.TAG: board.view(self.cards)}
            for key, value in tags.items() - experiment.tags.items():
                client.set_experiment_tag(experiment.experiment_id, key, value)
        self.cards.scope = {"shapelex.store": identity, "shapelex.sweep": name}
        told = experiment.experiment_id, self.cards, self._ledger
        self._models = Models(mlflow, client, *told)
        return Runs(client, mlflow.entities, *told)

    def _place(self) -> str:
        return f"shapelex.store.{digest([socket.gethostname(), str(self.store.resolve())])[:16]}"

    def _identity(self, client: Any) -> str:
        """The store's own. Where its file is there and broken, an experiment may remember: a new identity
        would show every run twice."""
        path = self.store / "store.json"
        found = read_json(path)
        if isinstance(found, dict) and isinstance(found.get("id"), str):
            return str(found["id"])
        told = client.search_experiments() if path.exists() else []
        known = [e.tags[self._place()] for e in told if self._place() in e.tags]
        write_json(path, mark := {"schema": 1, "id": known[0] if known else os.urandom(8).hex()})
        return str(mark["id"])

    def sync(self, tell: Tell = lambda done, of: None) -> int:
        """Bring MLflow up to the ledger (twice adds nothing): how many children it wrote. Raises MirrorError,
        or Locked where another process mirrors this sweep."""
        try:
            with nullcontext() if self.held else self.alone():
                return self._sync(tell)
        except Locked:
            raise
        except Exception as error:
            self._forget()
            root: BaseException = error
            while root.__context__ is not None:
                root = root.__context__
            if database.broken(root) and self.uri == own(self.store) and self._put_aside():
                return self.sync(tell)
            # The system's own word, as connection refused or database is locked, is the shortest.
            cause = root if isinstance(root, OSError | sqlite3.Error) else error
            reason = redact(f"{self.uri} failed: {type(cause).__name__}: {' '.join(str(cause).split())}")
            raise MirrorError(f"MLflow at {reason[:300]}. {CATCH_UP}") from None

    def _put_aside(self) -> bool:
        """Make room for a fresh database; False where that did not help before."""
        file = database.file_of(self.uri)
        with locked(self.store / "mlflow.lock", wait=True):
            if file is None or self.notes:
                return False
            if database.identity(self.uri) == self._file:  # or another process was first
                aside = file.with_name(f"{file.name}.broken-{datetime.now():%Y%m%d-%H%M%S-%f}")
                database.put_aside(file, aside)
                self.notes.append(f"MLflow's database was broken: it is {aside} now, and was built anew")
        return True

    def _sync(self, tell: Tell) -> int:
        if self._runs is None or database.identity(self.uri) != self._file or missing(self.uri):
            self._forget()
            self._runs = self.connect()
        assert self._models is not None
        changed, runs, models = self.watch.look(), self._runs, self._models
        afresh = not self._record or mark(self.path) != self._record_mark
        for row, cells in self._of_row.items():
            if afresh or any(cell.signature in changed for cell in cells):
                found = self.watch.results
                results = [(cell, found[cell.signature]) for cell in cells if cell.signature in found]
                self._summaries[row] = summary(results, self.plan["unit"] == "fold")
                models.choose(row, results, len(results) == len(cells))
                shown = runs.parents.get(row)
                afresh |= shown is not None and not shown.metrics.keys() <= self._summaries[row].keys()
        if afresh:
            runs.find(self.watch, self._summaries)
            models.find()
        running = {signature for signature, begun in self.watch.begun.items() if begun.running}
        self._save(running | set(self._record.get("running", [])))  # first: killed half-way, it is remembered
        wrote, problems = 0, list[Exception]()
        for done, cell in enumerate(self.cards.cells):
            try:
                wrote += runs.show(cell, self.watch)
            except Exception as error:  # one that MLflow refuses keeps no other waiting, a dead server does
                problems.append(error)
                if len(problems) > 2:
                    raise
            tell(done + 1, len(self.cards.cells))
        for row, cells in self._of_row.items():
            over = all(cell.signature in self.watch.results for cell in cells)
            runs.sum_up(row, self._summaries[row], cells[0].signature if over else None)
        for row, parent in runs.parents.items():  # last: results are not kept waiting
            try:
                models.show(row, parent.run_id)
            except Exception as error:
                problems.append(error)
                if len(problems) > 2:
                    break
        self._save(running)
        if problems:
            raise problems[0]
        return wrote

    def shown(self) -> list[str]:
        """The status of each child, after a sync."""
        return [] if self._runs is None else [child.status for child in self._runs.children.values()]

    def _save(self, running: set[str]) -> None:
        """Write down what MLflow shows, where that is news."""
        stale = {c.signature for c in self.cards.cells if not self._shows(c)}
        shown = {s: [r.stamp, r.mark] for s, r in self.watch.results.items() if s not in stale}
        record = {"schema": 2, "view": self._view, "shown": shown, "running": sorted(running)}
        record |= {"at": digest(self.uri), "experiment": self._runs.experiment if self._runs else None}
        if record != self._record:
            write_json(self.path, record)
            self._record, self._record_mark = record, mark(self.path)

    def _shows(self, cell: Cell) -> bool:
        assert self._runs is not None and self._models is not None
        child, result = self._runs.children.get(cell), self.watch.results.get(cell.signature)
        whole = child is not None and result is not None and child.stamp == result.stamp
        return whole and self._models.shows(cell, self._runs.parents[cell.row].run_id)
