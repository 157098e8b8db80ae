"""What MLflow's runs say of a sweep's rows and cells: names, tags, params, values."""

import json
import math
import statistics
from collections import Counter, namedtuple
from collections.abc import Iterable, Mapping
from functools import cache
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
        names = set().union(*(row["differs"] for row in plan["rows"]))
        self._ends = Counter(name.split(".")[-1] for name in names)
        self.names = dict.fromkeys(name for row in self.rows for name in self.factors(row))  # in order
        self._folds = len({cell.fold for cell in self.cells})

    def factors(self, row: str) -> dict[str, str]:
        """What rows differ in, as both tags and params of their runs: a param can be a column or an axis, a
        tag can be corrected."""
        told = texts(self.rows[row]["differs"]).items()
        ends = self._ends
        return {end if ends[end := key.split(".")[-1]] == 1 else key: text[:5000] for key, text in told}

    def row(self, name: str) -> dict[str, str]:
        """The tags of a row's parent."""
        whose = {"shapelex.row": name, "shapelex.variant": self.rows[name]["variant"]}
        return self.factors(name) | {"shapelex.kind": "row"} | whose | self.scope

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
    if "evaluation" in result:
        tags["shapelex.evaluation"] = result["evaluation"]
    if result["status"] == "failed":
        tags["shapelex.failure"] = str(result.get("failure") or "failed")
    if error := result.get("error"):
        tags |= {"shapelex.error": error, "mlflow.note.content": error}
    return {name: value[:5000] for name, value in tags.items()}


def stamp_of(tags: Mapping[str, str]) -> str:
    """The stamp of the result that a run shows, or began to; "" where it shows none."""
    if "shapelex.finished_at" not in tags:
        return ""
    names = ("finished_at", "attempt", "evaluation")
    return stamp({name: tags.get(f"shapelex.{name}") for name in names})


def dataset(result: Json, name: str) -> Json:
    """What MLflow's table of data sets shows. A digest is cut to what it takes, a tag has it whole."""
    data = {"name": name} | (result.get("data") or {})
    told = {"name": data["name"], "digest": str(result.get("digests", {}).get("data"))[:36]}
    if channels := data.get("channels"):  # the UI shows columns, and of arrays nothing
        columns = [{"name": name, "type": "float", "required": True} for name in channels]
        told["schema"] = json.dumps({"mlflow_colspec": [*columns, {"name": "label", "type": "string"}]})
    source = {"uri": f"shapelex data {data['name']}"}
    return told | {"source_type": "shapelex", "source": json.dumps(source), "profile": json.dumps(data)}


def finals(result: Json) -> dict[str, float]:
    return finite(result["metrics"]) | finite(result.get("cost") or {}, "cost/")


def summary(results: Iterable[tuple[Cell, Result]], by_fold: bool) -> dict[str, float]:
    """Mean, sample deviation and 95 % t interval of each metric over the pairs that tables use: folds, their
    seeds averaged, or, with one official split, seeds. `n` counts the pairs, `<metric>/n` those that have the
    metric, where they are fewer."""
    pairs: dict[str, dict[str, list[float]]] = {}
    failed = 0
    for cell, result in results:
        failed += result.status == "failed"
        if result.status == "done":
            pair = pairs.setdefault(cell.fold if by_fold else cell.seed, {})
            for name, value in result.metrics.items():
                pair.setdefault(name, []).append(value)
    out = {"n": float(len(pairs)), "failed": float(failed)}
    for name in sorted(set().union(*pairs.values())):
        means = [statistics.fmean(pair[name]) for pair in pairs.values() if name in pair]
        out[name] = mean = statistics.fmean(means)
        if len(means) < len(pairs):
            out[f"{name}/n"] = float(len(means))
        if len(means) > 1:
            sd = statistics.stdev(means) if min(means) < max(means) else 0.0
            half = _t_975(len(means) - 1) * sd / math.sqrt(len(means))
            out |= {f"{name}/sd": sd, f"{name}/ci_low": mean - half, f"{name}/ci_high": mean + half}
    return out


@cache
def _t_975(degrees: int) -> float:
    from scipy.special import stdtrit  # a third of scipy.stats' second of import

    return float(stdtrit(degrees, 0.975))


def best(results: Iterable[tuple[Cell, Result]]) -> Cell | None:
    """The one that is best on validation: macro-F1, then reconstruction, then the plan's order."""
    done = [(cell, result.metrics) for cell, result in results if result.status == "done"]
    told = [
        (-found["val/macro_f1"], found.get("val/series_mse", 0.0), at, cell)
        for at, (cell, found) in enumerate(done)
        if "val/macro_f1" in found
    ]
    return min(told)[-1] if told else None


def texts(config: Json) -> dict[str, str]:
    """Dotted names and short texts: a text is itself, all else its JSON."""
    return {k: value if isinstance(value, str) else json.dumps(value) for k, value in flat(config).items()}
