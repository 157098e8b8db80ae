"""The ledger as data frames: a sweep's plan, one line a cell, one line an epoch.

Reads `runs/sweeps/<sweep>/plan.json` and `runs/trials/<signature>/`; no server, nothing of ours is imported.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

By = Literal["class", "subject"]
PARTS: dict[By, str] = {"class": "per_class_f1", "subject": "per_subject_macro_f1"}
CELL = ["row", "variant", "seed", "fold", "signature"]


def nearest_store(name: str) -> Path:
    """The store `name`; a relative one in this folder or the nearest above it that has one, as notebooks run
    where they lie or in the root."""
    folders = [Path.cwd(), *Path.cwd().parents]
    return next((at / name for at in folders if (at / name / "sweeps").is_dir()), Path(name))


def plan(store: Path, sweep: str) -> dict[str, Any]:
    """The plan of `sweep` as it was last written; FileNotFoundError says how to write one."""
    path = Path(store) / "sweeps" / sweep / "plan.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = f"run `shapelex plan sweeps/{sweep}.yaml` first"
        raise FileNotFoundError(f"no plan of sweep {sweep!r} in the store {store}: {hint}") from None
    if found.get("schema") != 1:
        raise ValueError(f"{path}: expected a plan of schema 1, found schema {found.get('schema')!r}")
    return dict(found)


def frame(store: Path, sweep: str) -> pd.DataFrame:
    """One line per cell of the plan, in plan order, whether it ran or not.

    Columns: row, variant, seed (Int64, null = the row has no randomness), fold, signature, status (done,
    failed or missing), error ("" if none), failure (how it failed in a word or two, "failed" where the result
    doesn't say, "" if it didn't), data/validation, finished (ISO time or ""), budget/epochs (Int64, null
    where no epoch is trained); then every metric, sorted, as floats; `cost/*` as floats; `env/*` as strings.
    A search's pruned trials leave no result, and are no cells.
    """
    cells = plan(store, sweep)["cells"]
    results = _results(store, cells)
    identity = _identity(cells)
    identity["status"] = [r.get("status", "missing") for r in results]
    identity["error"] = [r.get("error") or "" for r in results]
    identity["failure"] = [_failure(r) for r in results]
    identity["data/validation"] = [_part(r, "data").get("validation") for r in results]
    identity["finished"] = pd.Series([r.get("finished_at") or "" for r in results], dtype="str")
    identity["budget/epochs"] = pd.Series([_planned_epochs(r) for r in results], dtype="Int64")
    return pd.concat(
        [
            identity,
            _numbers([_metrics(Path(store), r) for r in results], ""),
            _numbers([_part(r, "cost") for r in results], "cost/"),
            _strings([_environment(r) for r in results], "env/"),
        ],
        axis=1,
    )


def curves(store: Path, sweep: str) -> pd.DataFrame:
    """One line per cell and epoch: row, seed, fold, epoch, then every logged number, sorted, as floats.

    A trial that was killed and resumed may have logged an epoch twice: the later line counts.
    """
    cells = plan(store, sweep)["cells"]
    owners, lines = [], []
    for cell in cells:
        epochs = _epochs(Path(store), cell["signature"])
        owners += [cell] * len(epochs)
        lines += epochs
    identity = _identity(owners)[["row", "seed", "fold"]]
    identity["epoch"] = pd.Series([line["epoch"] for line in lines], dtype="int64")
    return pd.concat([identity, _numbers(lines, "").drop(columns="epoch", errors="ignore")], axis=1)


def per(store: Path, sweep: str, by: By) -> pd.DataFrame:
    """One line per done cell and class (its F1) or test subject (its macro-F1): row, seed, fold, `by`, value.

    In plan order, classes and subjects as the trials have them. A class that a fold's test windows lack has
    no line there. Raises ValueError for another `by`.
    """
    if by not in get_args(By):
        raise ValueError(f"expected by 'class' or 'subject', found {by!r}")
    cells = plan(store, sweep)["cells"]
    owners, names, values = [], [], []
    for cell, result in zip(cells, _results(store, cells), strict=True):
        scores = _part(result, PARTS[by]) if result.get("status") == "done" else {}
        owners += [cell] * len(scores)
        names += list(scores)
        values += list(scores.values())
    identity = _identity(owners)[["row", "seed", "fold"]]
    identity[by] = pd.Series(names, dtype="str")
    identity["value"] = pd.to_numeric(pd.Series(values, dtype="object"), errors="coerce").astype("float64")
    return identity


def confusions(store: Path, sweep: str) -> dict[str, tuple[list[str], np.ndarray]]:
    """Row -> its classes and the sum of its done cells' confusion matrices (windows: true x predicted).

    In the order of the cells; a row without a matrix is left out. A row without randomness counts once a
    fold, the others once a seed and fold: compare rows by shares of a line, not by windows. Raises ValueError
    where classes differ within a row.
    """
    cells = plan(store, sweep)["cells"]
    found: dict[str, tuple[list[str], np.ndarray]] = {}
    for cell, result in zip(cells, _results(store, cells), strict=True):
        classes, matrix = _part(result, "data").get("classes"), np.asarray(result.get("confusion") or [])
        if result.get("status") != "done" or not classes or matrix.shape != (len(classes),) * 2:
            continue
        known, total = found.get(cell["row"], (classes, np.zeros(matrix.shape, dtype=np.int64)))
        if known != classes:
            raise ValueError(f"row {cell['row']!r}: expected the classes {known}, found {classes}")
        found[cell["row"]] = known, total + matrix
    return found


def importances(store: Path, sweep: str) -> dict[str, dict[str, float]]:
    """Row -> searched setting -> its importance, averaged over folds; {} where no search has ended."""
    try:
        text = (Path(store) / "sweeps" / sweep / "importances.json").read_text(encoding="utf-8")
        found = json.loads(text).get("rows")
    except (OSError, ValueError, AttributeError):
        return {}
    return dict(found or {})


def digests(store: Path, sweep: str) -> dict[str, dict[str, str]]:
    """Of what done trials read: kind (data, text, encoder) -> digest -> the name of what it is of, or ""."""
    found: dict[str, dict[str, str]] = {}
    for result in _results(store, plan(store, sweep)["cells"]):
        if result.get("status") != "done":
            continue
        config = _part(result, "config")
        names = {"data": _part(result, "data").get("name"), "encoder": _part(config, "text").get("encoder")}
        for kind, digest in _part(result, "digests").items():
            if digest is not None:
                found.setdefault(kind, {})[str(digest)] = str(names.get(kind) or "")
    return found


def _results(store: Path, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The result of each cell; each file is read once."""
    known = {s: _result(Path(store), s) for s in dict.fromkeys(cell["signature"] for cell in cells)}
    return [known[cell["signature"]] for cell in cells]


def _result(store: Path, signature: str) -> dict[str, Any]:
    """The result of one trial, {} where there is none that can be read or where it answers another trial."""
    try:
        with open(f"{store}/trials/{signature}/result.json", encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    accepted = (
        isinstance(found, dict)
        and found.get("status") in ("done", "failed")
        and found.get("signature") == signature
    )
    return found if accepted else {}


def _epochs(store: Path, signature: str) -> list[dict[str, Any]]:
    """The lines of one metrics.jsonl, a line an epoch; what a kill cut off is skipped."""
    try:
        text = (store / "trials" / signature / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = text.splitlines()
    try:  # all at once, which takes a third of the time
        parsed = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        parsed = [found for line in lines if (found := _parsed(line)) is not None]
    whole = [line for line in parsed if isinstance(line, dict) and isinstance(line.get("epoch"), int)]
    by_epoch = {line["epoch"]: line for line in whole}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _identity(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {name: pd.Series([c[name] for c in cells], dtype="str") for name in CELL}
    columns["seed"] = pd.Series([c["seed"] for c in cells], dtype="Int64")
    columns["fold"] = pd.Series([c["fold"] for c in cells], dtype="int64")
    return pd.DataFrame(columns)


def _part(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A sub-dictionary of a result; a failed result may lack it."""
    return result.get(name) or {}


def _metrics(store: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Of the trial, and of its `evaluation.json` where there is one that belongs to this result."""
    own = _part(result, "metrics")
    if result.get("status") != "done":
        return own
    try:
        with open(f"{store}/trials/{result['signature']}/evaluation.json", encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return own
    same = isinstance(found, dict) and all(
        found.get(name) == result.get(name) for name in ("signature", "finished_at", "attempt")
    )
    return _part(found, "metrics") | own if same else own


def _planned_epochs(result: Mapping[str, Any]) -> int | None:
    """The epochs that the configuration asks for, None where nothing is trained by epochs."""
    epochs = _part(_part(result, "config"), "train").get("epochs")
    return epochs if isinstance(epochs, int) and result.get("best_epoch") is not None else None


def _failure(result: Mapping[str, Any]) -> str:
    return str(result.get("failure") or "failed") if result.get("status") == "failed" else ""


def _environment(result: Mapping[str, Any]) -> dict[str, Any]:
    """With the threads, which a trial's configuration sets."""
    threads = _part(result, "config").get("threads")
    return ({} if threads is None else {"threads": threads}) | _part(result, "environment")


def _names(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for part in parts for name in part})


def _numbers(parts: Sequence[Mapping[str, Any]], prefix: str) -> pd.DataFrame:
    columns = {prefix + name: [part.get(name) for part in parts] for name in _names(parts)}
    numbers = pd.DataFrame(columns, index=range(len(parts)))
    return numbers.apply(pd.to_numeric, errors="coerce").astype("float64")


def _strings(parts: Sequence[Mapping[str, Any]], prefix: str) -> pd.DataFrame:
    columns = {
        prefix + name: [None if part.get(name) is None else str(part[name]) for part in parts]
        for name in _names(parts)
    }
    return pd.DataFrame(columns, index=range(len(parts)), dtype="str")
