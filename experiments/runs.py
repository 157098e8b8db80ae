"""A sweep's runs in MLflow, as they were found there and last written. Needs a client, imports none."""

import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from experiments import runcard
from experiments.ledger import Store
from experiments.runcard import STATUS, Cards, Cell, Json
from experiments.watch import TIME, Begun, Points, Watch, curve, stamp, told

STEP = re.compile(r"epoch-(\d+)\.png")
PAGE = 100  # runs asked for at once: with more, a server's answer takes longer than the time-out


@dataclass
class Child:
    """A cell's run. stamp: of the result that it shows, "" if none; points: what it holds until then."""

    run_id: str
    start_ms: int
    status: str
    stamp: str
    ended: str
    points: Points


class Found(NamedTuple):
    """What is kept in mind of a run that MLflow has: of ten thousand, all of it would be a gigabyte."""

    run_id: str
    start_ms: int
    status: str
    whole: bool  # of a cell, and shows a result
    tags: dict[str, str]
    params: dict[str, str]  # those that are tags too, and those that a row differs in
    metrics: dict[str, float]


@dataclass
class Parent:
    """A row's run."""

    run_id: str
    status: str
    metrics: dict[str, float]


class Runs:
    """The parents and children of a sweep's plan: `cards` says what is on them, `store` has the results."""

    def __init__(self, client: Any, entities: Any, experiment: str, cards: Cards, store: Store) -> None:
        self._client, self._make, self.experiment = client, entities, experiment
        self._cards, self._store, self._dataset = cards, store, str(cards.plan["dataset"])
        self.parents: dict[str, Parent] = {}
        self.children: dict[Cell, Child] = {}

    def find(self, watch: Watch, summaries: Mapping[str, Mapping[str, float]]) -> None:
        """Take stock: keep the runs that can go on from what they hold, delete the others, create the missing
        parents."""
        self.parents, self.children = {}, {}
        rows, trials = list[Found](), dict[Cell, list[Found]]()
        for run in self._search():
            if run.tags.get("shapelex.kind") == "row":
                rows.append(run)
            elif run.tags.get("shapelex.kind") == "trial":
                trials.setdefault(self._cards.cell(run.tags), []).append(run)
        for run in rows:
            row = run.tags.get("shapelex.row", "")
            fits = row in summaries and run.metrics.keys() <= summaries[row].keys()
            if fits and row not in self.parents and self._takes(run, row):
                self._retag(run, row, self._cards.row(row))
                self.parents[row] = Parent(run.run_id, run.status, run.metrics)
            else:
                self._client.delete_run(run.run_id)
        # The UI shows the newest first, and so rows in the plan's order.
        for row in [row for row in reversed(self._cards.rows) if row not in self.parents]:
            run = self._client.create_run(self.experiment, tags=self._cards.row(row), run_name=row)
            self._log(run.info.run_id, {}, self._cards.factors(row))
            self.parents[row] = Parent(run.info.run_id, "RUNNING", {})
        planned = set(self._cards.cells)
        for cell, runs in trials.items():
            for run in sorted(runs, key=lambda run: not run.whole):
                fits = cell in planned and self._takes(run, cell.row)
                if fits and cell not in self.children and _goes_on(run, cell, watch):
                    self._retag(run, cell.row, self._child_tags(cell))
                    self.children[cell] = self._known(run)
                else:
                    self._client.delete_run(run.run_id)

    def _search(self) -> Iterable[Found]:
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in self._cards.scope.items())
        runs, token = dict[str, Found](), None
        while True:  # all of it before anything is deleted: pages are counted by position
            page = self._client.search_runs([self.experiment], where, max_results=PAGE, page_token=token)
            for run in page:
                info, tags = run.info, run.data.tags
                whole = tags.get("shapelex.kind") == "trial" and info.status in STATUS.values()
                metrics = {} if whole else run.data.metrics
                both = self._cards.names.keys() | tags.keys()
                told = {name: text for name, text in run.data.params.items() if name in both}
                found = Found(info.run_id, info.start_time, info.status, whole, tags, told, metrics)
                runs[info.run_id] = found
            if not (token := page.token):
                return runs.values()

    def _takes(self, run: Found, row: str) -> bool:
        """Whether the run can say what the row differs in: params are written once, and none goes."""
        factors = self._cards.factors(row)
        return all(
            factors.get(name) == text
            for name, text in run.params.items()
            if name in factors or name in run.tags
        )

    def _known(self, run: Found) -> Child:
        points = Points()
        for name in run.metrics:
            for point in self._client.get_metric_history(run.run_id, name):
                twice = (name, point.step) in points  # NaN is equal to nothing, so `finish` starts afresh
                points[name, point.step] = nan if twice else point.value
        shown = runcard.stamp_of(run.tags) if run.whole else ""
        return Child(run.run_id, run.start_ms, run.status, shown, run.tags.get("shapelex.ended", ""), points)

    def show(self, cell: Cell, watch: Watch) -> bool:
        """Bring the cell's run up to the ledger; whether there was anything to do."""
        child = self.children.get(cell)
        if result := watch.results.get(cell.signature):
            return (child is None or child.stamp != result.stamp) and self._finish(cell)
        if begun := watch.begun.get(cell.signature):
            return self._follow(cell, begun)
        if child is not None:
            self._drop(cell)
        return child is not None

    def _drop(self, cell: Cell) -> None:
        self._client.delete_run(self.children.pop(cell).run_id)

    def _create(self, cell: Cell, start_ms: int, tags: Mapping[str, str] = {}) -> Child:
        tags = self._child_tags(cell) | dict(tags)
        run = self._client.create_run(self.experiment, start_ms, tags, tags["mlflow.runName"])
        self.children[cell] = Child(run.info.run_id, start_ms, "RUNNING", "", "", {})
        return self.children[cell]

    def _follow(self, cell: Cell, begun: Begun) -> bool:
        """Show a trial that has no result: its curve so far, and whether somebody works at it. Its times wait
        for the end: of an epoch that is trained again only they differ."""
        if (child := self.children.get(cell)) and child.stamp:
            self._drop(cell)
            child = None
        created, child = child is None, child or self._create(cell, begun.began_ms)
        status = "RUNNING" if begun.running else "KILLED"
        news = {p: v for p, v in begun.curve.items() if p not in child.points and p[0] != TIME}
        tags = {"shapelex.ended": begun.ended} if begun.ended != child.ended else {}
        points = [(*p, v, _at(child, begun.curve, p)) for p, v in news.items()]
        self._log(child.run_id, tags, self._cards.factors(cell.row) if created else {}, points)
        child.points |= news
        child.ended = begun.ended
        if changes := status != child.status:
            if status == "RUNNING":
                self._client.update_run(child.run_id, status)
            else:
                self._client.set_terminated(child.run_id, status)
            child.status = status
        return created or changes or bool(news or tags)

    def _finish(self, cell: Cell) -> bool:
        """All that a trial left behind, its status last. What MLflow showed of it meanwhile has to be part of
        it, or else, as nothing can be taken back there, a fresh run takes its place."""
        result, folder = told(self._store, cell.signature), self._store.trial(cell.signature)
        if result is None:
            return False
        values, end = curve(folder / "metrics.jsonl"), runcard.finals(result)
        values |= curve(folder / "system.jsonl", "system/")
        points = values | {(name, 0): value for name, value in end.items()}
        end_ms = round(1000 * datetime.fromisoformat(result["finished_at"]).timestamp())
        tags, child = runcard.of_result(result), self.children.get(cell)
        if child and (child.stamp or any(points.get(p) != v for p, v in child.points.items())):
            self._drop(cell)
            child = None
        if child is None:
            child = self._create(cell, end_ms - round(1000 * end.get("cost/total_s", 0)), tags)
            tags = {}
        if child.ended:
            self._client.delete_tag(child.run_id, "shapelex.ended")
        times = {p: _at(child, values, p) if p in values else end_ms for p in points}
        news = [(*p, value, times[p]) for p, value in points.items() if p not in child.points]
        self._log(child.run_id, tags, runcard.texts(result["config"]) | self._cards.factors(cell.row), news)
        self._read(child.run_id, result)
        self._pictures(child, values, folder)
        self._client.set_terminated(child.run_id, status := STATUS[result["status"]], end_ms)
        self.children[cell] = Child(child.run_id, child.start_ms, status, stamp(result), "", {})
        return True

    def _read(self, run_id: str, result: Json) -> None:
        """Say which data the run read."""
        dataset = self._make.Dataset(**runcard.dataset(result, self._dataset))
        context = self._make.InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run_id, [self._make.DatasetInput(dataset, [context])])

    def _pictures(self, child: Child, values: Points, folder: Path) -> None:
        """Those of the end, and those by epoch under the names that MLflow's image charts step through:
        whatever is written again is the same file."""
        found = {file: STEP.fullmatch(file.name) for file in sorted(folder.glob("figures/*.png"))}
        if not found:
            return
        with TemporaryDirectory(prefix="shapelex-") as made:
            for file, epoch in found.items():
                names = [f"figures/{file.name}"]
                if epoch:
                    step = int(epoch[1])
                    at = _at(child, values, ("", step))
                    name = f"images/training+step+{step}+timestamp+{at}+{step}"
                    names = [f"{name}.png", f"{name}+compressed.png"]  # the UI asks for both
                for name in names:
                    (Path(made) / name).parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, Path(made) / name)
            self._client.log_artifacts(child.run_id, made)
        if any(found.values()):
            self._client.set_tag(child.run_id, "mlflow.loggedImages", "true")

    def sum_up(self, row: str, summary: Mapping[str, float], first: str | None) -> None:
        """Bring the row's parent up to its cells. first: one's trial, None until all have ended."""
        parent, now_ms = self.parents[row], round(1000 * time.time())
        if changed := summary.items() - parent.metrics.items():
            self._log(parent.run_id, {}, {}, [(name, 0, value, now_ms) for name, value in changed])
        if (status := "FINISHED" if first else "RUNNING") != parent.status:
            if first and (result := self._store.result(first)):
                self._read(parent.run_id, result)
            end = self._client.set_terminated if first else self._client.update_run
            end(parent.run_id, status)
        self.parents[row] = Parent(parent.run_id, status, dict(summary))

    def _child_tags(self, cell: Cell) -> dict[str, str]:
        return self._cards.child(cell, self.parents[cell.row].run_id)

    def _retag(self, run: Found, row: str, tags: Mapping[str, str]) -> None:
        params = self._cards.factors(row).items() - run.params.items()
        if (news := dict(tags.items() - run.tags.items())) or params:
            self._log(run.run_id, news, dict(params))

    def _log(self, run_id: str, tags: Json, params: Json | None = None, points: Any = ()) -> None:
        """Log tags, params and (name, step, value, time_ms) points; MLflow makes batches."""
        metrics = [self._make.Metric(name, value, at, step) for name, step, value, at in points]
        params_ = [self._make.Param(name, value[:6000]) for name, value in (params or {}).items()]
        tags_ = [self._make.RunTag(name, value[:5000]) for name, value in tags.items()]
        self._client.log_batch(run_id, metrics, params_, tags_, synchronous=True)


def _goes_on(run: Found, cell: Cell, watch: Watch) -> bool:
    """Whether the run can become what the ledger says of its cell, or is it."""
    shown = runcard.stamp_of(run.tags)
    if result := watch.results.get(cell.signature):
        return run.whole or shown in ("", result.stamp)
    return cell.signature in watch.begun and not run.whole and not shown


def _at(child: Child, values: Points, point: tuple[str, int]) -> int:
    """When the epoch ended, ms: as the trial tells it, so that what is written twice is equal."""
    return child.start_ms + round(1000 * values.get((TIME, point[1]), 0))
