"""MLflow as a view of the ledger: a parent run per row of a sweep, a child run per finished cell.

Nothing lives in MLflow alone: `Mirror.sync` brings it up to plan and ledger from any state, and deletes
(MLflow can undo it) what they no longer hold. Final metrics keep the ledger's names, curves are `epoch/...`
lest their last point pass for a final value; a parent holds means, `<metric>/sd`, `n` and `failed`.
"""

import json
import logging
import os
import re
import statistics
import sys
from collections import Counter, namedtuple
from datetime import datetime
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.identity import digest, flat
from experiments.ledger import Store, locked, read_json, write_json

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STATUS = {"done": "FINISHED", "failed": "FAILED"}
# Defaults, the user's own settings win. With MLflow's, a dead server blocks one call for minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
CATCH_UP = "Nothing is lost: the ledger has every result, and the next run catches up."
Json = dict[str, Any]
Cell = namedtuple("Cell", "row seed fold signature")  # as text; a row without seeds has ""


class MirrorError(Exception):
    """MLflow could not be brought up to the ledger: one line, free of secrets."""


def uri(store: Path) -> str:
    """MLFLOW_TRACKING_URI, or else an SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.resolve()}/mlflow.db"


def redact(text: str) -> str:
    """`text` without the credentials of the addresses in it."""
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def pending(store: Path, plan: Json) -> list[Cell]:
    """The finished cells that MLflow may not show as they are: new or retried ones; all of them where plan or
    address changed, or the database file is gone. Answers without importing mlflow."""
    mirror = Mirror(store, plan)
    finished, record = mirror.finished(), read_json(mirror.path)
    if not record or _missing(mirror.uri) or record.get("view") != mirror.record({})["view"]:
        return list(finished)
    shown = {tuple(cell) for cell in record["cells"]}
    return [cell for cell, result in finished.items() if (*cell, result["finished_at"]) not in shown]


def ui_command(store: Path, port: int = 5000) -> tuple[list[str] | None, str]:
    """The command that serves MLflow's UI to this machine alone, and where; (None, hint) where a server does.
    The database goes by this process's environment: a password in a command line is everybody's to read."""
    address = uri(store)
    if not address.startswith(DATABASES):
        return None, f"MLFLOW_TRACKING_URI is a server with a UI of its own: {redact(address)}"
    if _missing(address):
        return None, f"MLflow has nothing of {store} yet: it gets its database from the first run"
    os.environ.update(ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": address})
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--artifacts-destination", str(store.resolve() / "mlartifacts")]
    return command, f"http://127.0.0.1:{port}"


class Mirror:
    """One sweep's view in MLflow; `plan` is the sweep's plan.json."""

    def __init__(self, store: Path, plan: Json) -> None:
        self.store, self.plan, self.uri, self._ledger = store, plan, uri(store), Store(store)
        self.path = self._ledger.sweep(plan["sweep"]) / "mirrored.json"
        self._rows = {row["name"]: row for row in plan["rows"]}
        self.cells = [Cell(*("" if c[f] is None else str(c[f]) for f in Cell._fields)) for c in plan["cells"]]
        factors = set().union(*(row["factors"] for row in plan["rows"]))
        self._ends = Counter(name.split(".")[-1] for name in factors)
        self._client: Any = None
        self._record: Json = {}  # as last written here; where the file differs, MLflow is searched again
        self._parents: dict[str, Json] = {}  # row -> run, status, metrics
        self._children: dict[Cell, tuple[str, str]] = {}  # finished_at, run_id

    def finished(self) -> dict[Cell, Json]:
        """The plan's cells that have a result."""
        results = {name: self._ledger.result(name) for name in {cell.signature for cell in self.cells}}
        return {cell: result for cell in self.cells if (result := results[cell.signature])}

    def record(self, finished: dict[Cell, Json]) -> Json:
        """What MLflow shows; its address, which may hold a password, is in it as a digest."""
        cells = [[*cell, result["finished_at"]] for cell, result in finished.items()]
        return {"schema": 1, "view": digest([self.uri, self.plan]), "cells": cells}

    def connect(self) -> None:
        """Create the database and the experiment where they are missing, one process at a time."""
        os.environ.update(ENVIRONMENT | os.environ)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of every retry
        import mlflow

        name, folder = self.plan["sweep"], str(self.store.resolve() / "mlartifacts" / self.plan["sweep"])
        with locked(self.store / "mlflow.lock", wait=True):
            if _missing(self.uri):  # killed half-way, MLflow's own migration leaves a file that nothing opens
                file = Path(self.uri.removeprefix("sqlite:///"))
                with TemporaryDirectory(prefix=".mlflow-", dir=file.parent) as fresh:
                    mlflow.MlflowClient(f"sqlite:///{fresh}/mlflow.db").search_experiments()
                    os.replace(f"{fresh}/mlflow.db", file)
            client = mlflow.MlflowClient(self.uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                place = folder if self.uri.startswith(DATABASES) else None
                experiment = client.get_experiment(client.create_experiment(name, place))
            elif experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment.experiment_id)
            client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", self.plan["question"])
            if (mark := read_json(self.store / "store.json")) is None:
                write_json(self.store / "store.json", mark := {"schema": 1, "id": os.urandom(8).hex()})
        # Two stores may keep the same sweep on one server: each reads and writes its own runs only.
        self._scope = {"shapelex.store": mark["id"], "shapelex.sweep": name}
        self._client, self._experiment, self._make = client, experiment.experiment_id, mlflow.entities

    def sync(self) -> int:
        """Bring MLflow up to the ledger (twice adds nothing): how many children it wrote, or MirrorError."""
        try:
            if self._client is None:
                self.connect()
            with locked(self.store / "mlflow.lock", wait=True):
                return self._sync()
        except Exception as error:
            self._record = {}
            root: BaseException = error
            while root.__context__ is not None:
                root = root.__context__
            cause = root if isinstance(root, OSError) else error  # the system's word, as connection refused
            reason = redact(f"{self.uri} failed: {type(cause).__name__}: {' '.join(str(cause).split())}")
            raise MirrorError(f"MLflow at {reason[:300]}. {CATCH_UP}") from None

    def _sync(self) -> int:
        finished = self.finished()
        cells = {row: [cell for cell in self.cells if cell.row == row] for row in self._rows}
        by_fold = self.plan["unit"] == "fold"
        results = {row: {c: finished[c] for c in of if c in finished} for row, of in cells.items()}
        summaries = {row: _summary(found, by_fold) for row, found in results.items()}
        if not self._record or read_json(self.path) != self._record:
            self._take_stock(finished, summaries)
        news = [c for c, r in finished.items() if self._children.get(c, ("",))[0] != r["finished_at"]]
        for cell in news:
            if cell in self._children:
                self._client.delete_run(self._children[cell][1])
            self._children[cell] = finished[cell]["finished_at"], self._write_child(cell, finished[cell])
        now_ms = int(1000 * datetime.now().timestamp())
        for row, parent in self._parents.items():
            changed = summaries[row].items() - parent["metrics"].items()
            self._log(parent["run"], {}, {}, [(name, value, now_ms, 0) for name, value in changed])
            status = "FINISHED" if len(results[row]) == len(cells[row]) else "RUNNING"
            if status != parent["status"]:
                end = self._client.set_terminated if status == "FINISHED" else self._client.update_run
                end(parent["run"].info.run_id, status)
            parent |= {"status": status, "metrics": summaries[row]}
        self._record = self.record(finished)
        write_json(self.path, self._record)
        return len(news)

    def _take_stock(self, finished: dict[Cell, Json], summaries: dict[str, Json]) -> None:
        """Keep the runs that are whole and current, delete the others, create the missing parents."""
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in self._scope.items())
        runs = self._client.search_runs([self._experiment], where, max_results=50_000)
        self._parents, self._children = {}, {}
        for run in (run for run in runs if run.data.tags.get("shapelex.kind") == "row"):
            row, metrics = run.data.tags.get("shapelex.row"), run.data.metrics
            if row in summaries and row not in self._parents and metrics.keys() <= summaries[row].keys():
                self._log(run, self._tags(row))
                self._parents[row] = {"run": run, "status": run.info.status, "metrics": metrics}
            else:
                self._client.delete_run(run.info.run_id)
        for row in [row for row in self._rows if row not in self._parents]:
            run = self._client.create_run(self._experiment, tags=self._tags(row), run_name=row)
            self._parents[row] = {"run": run, "status": "RUNNING", "metrics": {}}
        for run in (run for run in runs if run.data.tags.get("shapelex.kind") == "trial"):
            tags = run.data.tags
            cell = Cell(*(tags.get(f"shapelex.{name}", "") for name in Cell._fields))
            whole = tags.get("shapelex.mirrored") == "true" and run.info.status in STATUS.values()
            if whole and cell in finished and cell not in self._children:
                self._log(run, self._tags(cell.row, cell))
                self._children[cell] = tags["shapelex.finished_at"], run.info.run_id
            else:
                self._client.delete_run(run.info.run_id)

    def _write_child(self, cell: Cell, result: Json) -> str:
        """All that a trial left behind; the tag that says so and the status come last."""
        folder, tags = self._ledger.trial(cell.signature), self._tags(cell.row, cell)
        costs, digests = _finite(result.get("cost") or {}, "cost/"), result.get("digests", {})
        end_ms = round(1000 * datetime.fromisoformat(result["finished_at"]).timestamp())
        start_ms = end_ms - round(1000 * costs.get("cost/total_s", 0))
        run = self._client.create_run(self._experiment, start_ms, tags, tags["mlflow.runName"])
        curves = folder / "metrics.jsonl"  # the last line of a killed trial may be torn
        lines = curves.read_text().rpartition("\n")[0].splitlines() if curves.exists() else []
        values = [(epoch.pop("epoch"), _finite(epoch, "epoch/")) for epoch in map(json.loads, lines)]
        values.append((0, _finite(result["metrics"]) | costs))
        points = [(name, value, end_ms, step) for step, at in values for name, value in at.items()]
        self._log(run, {}, _texts(result["config"]), points)
        data = {"name": self.plan["dataset"]} | (result.get("data") or {})
        short = str(digests.get("data"))[:36]  # as much as MLflow takes, a tag has the whole
        dataset = self._make.Dataset(data["name"], short, "shapelex", "{}", profile=json.dumps(data))
        self._client.log_inputs(run.info.run_id, [self._make.DatasetInput(dataset)])
        for figure in sorted(folder.glob("figures/*.png")):
            self._client.log_artifact(run.info.run_id, str(figure), "figures")
        tags = _texts({"shapelex.digest": digests, "environment": result.get("environment", {})})
        if error := result.get("error"):
            tags |= {"shapelex.error": error, "mlflow.note.content": error}
        self._log(run, tags | {"shapelex.finished_at": result["finished_at"], "shapelex.mirrored": "true"})
        self._client.set_terminated(run.info.run_id, STATUS[result["status"]], end_ms)
        return str(run.info.run_id)

    def _tags(self, row: str, cell: Cell | None = None) -> dict[str, str]:
        """Of a row's parent, or of a cell's child; a child's name holds only what differs."""
        factors, variant = _texts(self._rows[row]["factors"]).items(), self._rows[row]["variant"]
        tags = {end if self._ends[end := name.split(".")[-1]] == 1 else name: text for name, text in factors}
        tags |= self._scope | {"shapelex.kind": "row", "shapelex.row": row, "shapelex.variant": variant}
        if cell is not None:
            seed = f" s{cell.seed}" if cell.seed else ""
            fold = f" f{cell.fold}" if len({other.fold for other in self.cells}) > 1 else ""
            tags |= {f"shapelex.{name}": value for name, value in cell._asdict().items() if value}
            tags |= {"shapelex.kind": "trial", "mlflow.runName": row + seed + fold}
            tags["mlflow.parentRunId"] = self._parents[row]["run"].info.run_id
        return tags

    def _log(self, run: Any, tags: Json, params: Json | None = None, points: Any = ()) -> None:
        """Log (name, value, time_ms, step) points, params, and what `tags` change; MLflow makes batches."""
        metrics = [self._make.Metric(*point) for point in points]
        texts = [self._make.Param(name, value[:6000]) for name, value in (params or {}).items()]
        news = [self._make.RunTag(name, value[:5000]) for name, value in tags.items() - run.data.tags.items()]
        self._client.log_batch(run.info.run_id, metrics, texts, news, synchronous=True)


def _missing(address: str) -> bool:
    """Whether `address` is an SQLite file that isn't there."""
    return address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).exists()


def _summary(results: dict[Cell, Json], by_fold: bool) -> dict[str, float]:
    """Mean and sample deviation of each metric over the pairs that tables use: folds, their seeds averaged,
    or, with one official split, seeds."""
    pairs: dict[str, list[Json]] = {}
    for cell, result in results.items():
        if result["status"] == "done":
            pairs.setdefault(cell.fold if by_fold else cell.seed, []).append(_finite(result["metrics"]))
    means = []
    for found in pairs.values():
        shared = set.intersection(*map(set, found))
        means.append({name: statistics.fmean(metrics[name] for metrics in found) for name in shared})
    values = {name: [mean[name] for mean in means if name in mean] for name in set().union(*means)}
    failed = sum(result["status"] == "failed" for result in results.values())
    out = {"n": float(len(pairs)), "failed": float(failed)}
    out |= {name: statistics.fmean(found) for name, found in values.items()}
    return out | {f"{name}/sd": statistics.stdev(found) for name, found in values.items() if len(found) > 1}


def _finite(values: Json, prefix: str = "") -> dict[str, float]:
    return {prefix + k: float(v) for k, v in values.items() if isinstance(v, int | float) and isfinite(v)}


def _texts(config: Json) -> dict[str, str]:
    """Dotted names and short texts: a text is itself, all else its JSON."""
    return {k: value if isinstance(value, str) else json.dumps(value) for k, value in flat(config).items()}
