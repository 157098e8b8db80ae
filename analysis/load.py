"""The ledger as data frames: a sweep's plan, one line a cell, one line an epoch.

Reads `runs/sweeps/<sweep>/plan.json` and `runs/trials/<signature>/`; no server, nothing of ours is imported.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

CELL = ["row", "variant", "seed", "fold", "signature"]


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
    doesn't say, "" if it didn't), data/validation; then every metric, sorted, as floats; `cost/*` as floats;
    `env/*` as strings. A search's pruned trials leave no result, and are no cells.
    """
    cells = plan(store, sweep)["cells"]
    by_signature = {s: _result(Path(store), s) for s in {cell["signature"] for cell in cells}}
    results = [by_signature[cell["signature"]] for cell in cells]
    identity = _identity(cells)
    identity["status"] = [r.get("status", "missing") for r in results]
    identity["error"] = [r.get("error") or "" for r in results]
    identity["failure"] = [_failure(r) for r in results]
    identity["data/validation"] = [_part(r, "data").get("validation") for r in results]
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
    numbers = [{name: value for name, value in line.items() if name != "epoch"} for line in lines]
    return pd.concat([identity, _numbers(numbers, "")], axis=1)


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
    by_epoch: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("epoch"), int):
            by_epoch[found["epoch"]] = found
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


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
