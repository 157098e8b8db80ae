"""What MLflow's runs say of a sweep's rows and cells: names, tags, params, values."""

import json
import statistics
from collections import Counter, namedtuple
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.identity import flat
from experiments.watch import Result, finite, stamp

Json = dict[str, Any]
Cell = namedtuple("Cell", "row seed fold signature")  # as text; a row without seeds has ""
STATUS = {"done": "FINISHED", "failed": "FAILED"}


class Cards:
    """The runs of a sweep by its plan.json. scope: the tags that say whose they are."""

    def __init__(self, plan: Json) -> None:
        self.plan = plan
        self.cells = [Cell(*("" if c[f] is None else str(c[f]) for f in Cell._fields)) for c in plan["cells"]]
        self.rows = {row["name"]: row for row in plan["rows"]}
        self.scope: dict[str, str] = {}
        factors = set().union(*(row["factors"] for row in plan["rows"]))
        self._ends = Counter(name.split(".")[-1] for name in factors)
        self._folds = len({cell.fold for cell in self.cells})

    def row(self, name: str) -> dict[str, str]:
        """The tags of a row's parent."""
        factors, variant = texts(self.rows[name]["factors"]).items(), self.rows[name]["variant"]
        tags = {end if self._ends[end := key.split(".")[-1]] == 1 else key: text for key, text in factors}
        tags |= {"shapelex.kind": "row", "shapelex.row": name, "shapelex.variant": variant}
        return tags | self.scope

    def child(self, cell: Cell, parent: str) -> dict[str, str]:
        """The tags of a cell's child while it has no result; its name holds only what differs."""
        seed, fold = f" s{cell.seed}" if cell.seed else "", f" f{cell.fold}" if self._folds > 1 else ""
        whose = {f"shapelex.{name}": value for name, value in cell._asdict().items() if value}
        named = {"shapelex.kind": "trial", "mlflow.runName": cell.row + seed + fold}
        return self.row(cell.row) | whose | named | {"mlflow.parentRunId": parent}

    def cell(self, tags: Mapping[str, str]) -> Cell:
        """Whose run it is."""
        return Cell(*(tags.get(f"shapelex.{name}", "") for name in Cell._fields))


def of_result(result: Json) -> dict[str, str]:
    """The tags that a result adds."""
    told = {"shapelex.digest": result.get("digests", {}), "environment": result.get("environment", {})}
    tags = texts(told) | {"shapelex.finished_at": result["finished_at"]}
    if result.get("attempt") is not None:
        tags["shapelex.attempt"] = str(result["attempt"])
    if result["status"] == "failed":
        tags["shapelex.failure"] = str(result.get("failure") or "failed")
    if error := result.get("error"):
        tags |= {"shapelex.error": error, "mlflow.note.content": error}
    return {name: value[:5000] for name, value in tags.items()}


def stamp_of(tags: Mapping[str, str]) -> str:
    """The stamp of the result that a run shows, or began to; "" where it shows none."""
    if "shapelex.finished_at" not in tags:
        return ""
    attempt = tags.get("shapelex.attempt")
    return stamp({"finished_at": tags["shapelex.finished_at"], "attempt": attempt})


def finals(result: Json) -> dict[str, float]:
    return finite(result["metrics"]) | finite(result.get("cost") or {}, "cost/")


def summary(results: Iterable[tuple[Cell, Result]], by_fold: bool) -> dict[str, float]:
    """Mean and sample deviation of each metric over the pairs that tables use: folds, their seeds averaged,
    or, with one official split, seeds."""
    pairs: dict[str, list[dict[str, float]]] = {}
    failed = 0
    for cell, result in results:
        failed += result.status == "failed"
        if result.status == "done":
            pairs.setdefault(cell.fold if by_fold else cell.seed, []).append(result.metrics)
    means = []
    for found in pairs.values():
        shared = set.intersection(*map(set, found))
        means.append({name: statistics.fmean(metrics[name] for metrics in found) for name in shared})
    values = {name: [mean[name] for mean in means if name in mean] for name in set().union(*means)}
    out = {"n": float(len(pairs)), "failed": float(failed)}
    out |= {name: statistics.fmean(found) for name, found in values.items()}
    return out | {f"{name}/sd": statistics.stdev(found) for name, found in values.items() if len(found) > 1}


def texts(config: Json) -> dict[str, str]:
    """Dotted names and short texts: a text is itself, all else its JSON."""
    return {k: value if isinstance(value, str) else json.dumps(value) for k, value in flat(config).items()}
