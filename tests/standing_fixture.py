"""A made-up sweep and trials of it in the real format. No number in it was measured."""

import hashlib
import json
from pathlib import Path
from typing import Any

from experiments.config import RunConfig
from experiments.ledger import Store
from experiments.plan import Cell, Row, Sweep


def made_up(rows: list[str], seeds: int = 2, folds: int = 2, split: str = "subject_kfold") -> Sweep:
    """Cells seed-major, as the planner writes them; 10 epochs a trial."""
    asked = {"data": {"name": "spar", "split": split, "window_s": 4.0}, "train": {"epochs": 10}}
    config = RunConfig.model_validate(asked)
    cells = [
        Cell(row, row, seed, fold, hashlib.sha256(f"{row} {seed} {fold}".encode()).hexdigest()[:16])
        for seed in range(seeds)
        for fold in range(folds)
        for row in rows
    ]
    configs = {cell.signature: config for cell in cells}
    lines = [Row(row, row, {}) for row in rows]
    return Sweep("made_up", "Why?", lines, cells, configs, {}, None, [], 0, 0)


def end(store: Store, signature: str, score: float | None, **changes: Any) -> dict[str, Any]:
    """Write a result: done with this validation score, failed where it is None."""
    result: dict[str, Any] = {
        "signature": signature,
        "status": "failed" if score is None else "done",
        "error": "ValueError: no" if score is None else None,
        "metrics": {} if score is None else {"val/macro_f1": score},
        "cost": {"total_s": 20.0},
        "finished_at": "2026-11-21T21:00:00Z",
    } | changes
    folder = store.trial(signature)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))
    return result


def of(sweep: Sweep, row: str) -> list[str]:
    """The row's signatures, in the order of seeds, then folds."""
    return [cell.signature for cell in sweep.cells if cell.row == row]


def epochs(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("{}\n" * count)
