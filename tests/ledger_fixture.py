"""A made-up ledger in the real format, to test arithmetic and layout. No number in it was measured."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

Cell = tuple[str, int | None, int]
Scores = Callable[[str, int | None, int], dict[str, float]]

DATASET = "made_up_data"
ROWS = ("vqshape", "supervised", "z_one_way", "all_one_way", "z_two_way", "shuffled_samples", "statistics")


def made_up_scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
    """Metrics in (0, 1) that depend on the names alone."""
    draws = np.random.default_rng([*row.encode(), 99 if seed is None else seed, fold])
    test, val = 0.6 + 0.02 * len(row) % 0.2 + 0.1 * draws.random(2)
    metrics = {"test/macro_f1": test, "test/accuracy": test - 0.01, "val/macro_f1": val}
    if seed is not None:
        metrics |= {"test/tokens/macro_f1": test, "test/histogram/macro_f1": test - 0.05}
    return {name: float(value) for name, value in metrics.items()}


def signature(row: str, seed: int | None, fold: int, dataset: str = DATASET) -> str:
    """16 hex digits, as a trial's signature has."""
    where = "" if dataset == DATASET else dataset
    return hashlib.sha256(f"{row} {seed} {fold}{where}".encode()).hexdigest()[:16]


def write_ledger(
    store: Path,
    sweep: str = "made_up",
    rows: Sequence[str] = ROWS,
    seeds: int = 5,
    folds: int = 5,
    unit: str = "fold",
    reference: str | None = "supervised",
    contrasts: Sequence[tuple[str, str]] = (),
    fixed: Collection[str] = ("statistics",),
    failed: Collection[Cell] = (),
    missing: Collection[Cell] = (),
    scores: Scores = made_up_scores,
    environment: Callable[[str, int | None, int], Mapping[str, Any]] = lambda row, seed, fold: {},
    validation: str = "subjects",
    failures: Mapping[Cell, str] = MappingProxyType({}),
    parts: Callable[[str, int | None, int], Mapping[str, Any]] = lambda row, seed, fold: {},
    factors: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    dataset: str = DATASET,
) -> dict[str, Any]:
    """Write plan.json and the trials, return the plan; `rows` in file order, those in `fixed` without a seed.

    Cells are seed-major with the reference first, as the planner writes them.
    `failures`: the word of a failed cell; one without is of before there were words. `parts`: more fields of
    a done cell's result. `factors`: what a row sets.
    """
    order = sorted(rows, key=lambda row: row != reference)
    keys: list[Cell] = [
        (row, None if row in fixed else seed, fold)
        for seed in range(seeds)
        for fold in range(folds)
        for row in order
        if row not in fixed or seed == 0
    ]
    plan = {
        "schema": 1,
        "sweep": sweep,
        "question": "Do made-up numbers & 100 % of_them add up?\nsmoke: no time at all",
        "primary": "tokens",
        "reference": reference,
        "contrasts": [list(pair) for pair in contrasts],
        "dataset": dataset,
        "split": "subject_kfold" if unit == "fold" else "official",
        "unit": unit,
        "rows": [{"name": row, "variant": row, "factors": dict(factors.get(row, {}))} for row in rows],
        "differs": [],
        "cells": [
            {"row": key[0], "variant": key[0], "seed": key[1], "fold": key[2], "signature": name}
            for key in keys
            for name in [signature(*key, dataset)]
        ],
    }
    (store / "sweeps" / sweep).mkdir(parents=True, exist_ok=True)
    (store / "sweeps" / sweep / "plan.json").write_text(json.dumps(plan))
    for key in keys:
        if key not in missing:
            more = {"failure": failures[key]} if key in failures else {}
            more |= {} if key in failed else parts(*key)
            folder = store / "trials" / signature(*key, dataset)
            _write_trial(folder, key, key in failed, scores(*key), environment(*key), validation, more)
    return plan


def _write_trial(
    folder: Path,
    key: Cell,
    failed: bool,
    metrics: Mapping[str, float],
    environment: Mapping[str, Any],
    validation: str,
    more: Mapping[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "schema": 1,
        "signature": folder.name,
        "status": "failed" if failed else "done",
        "error": "RuntimeError: loss is not finite" if failed else None,
        "finished_at": "2026-11-21T21:00:00Z",
        "data": {} if failed else {"name": DATASET, "validation": validation},
        "metrics": {} if failed else metrics,
        "cost": {} if failed else {"train_s": 1.5, "parameters": 1000},
        "environment": {"torch": "2.13.0", "device": "cpu", "threads": 1, "code": "c0ffee", **environment},
        **more,
    }
    (folder / "result.json").write_text(json.dumps(result))
    if key[1] is not None:
        start = metrics.get("test/macro_f1", 0.5)
        epochs = [{"epoch": e, "train/loss": 3 * start - 0.5 * e, "time_s": 0.5} for e in range(3)]
        epochs[0]["val/macro_f1"], epochs[2]["val/macro_f1"] = start / 2, start
        (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
