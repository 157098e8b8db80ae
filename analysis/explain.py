"""The trials behind one row of a sweep's table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.table import Table
from analysis.wording import NONE, VALIDATION, formatter, heading, metric_title


def build(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    row: str,
    metrics: Sequence[str] = ("test/macro_f1",),
    runs: Mapping[str, str] | None = None,
) -> Table:
    """One line a cell of `row`, by seed and fold; `runs`: signature -> MLflow run id, where known.

    Raises ValueError for a row that the sweep doesn't have.
    """
    mine = frame[frame["row"] == row].sort_values(["seed", "fold"], kind="stable")
    if mine.empty:
        raise ValueError(f"no row {row!r}, expected one of {list(frame['row'].unique())}")
    shown = [name for name in dict.fromkeys([*metrics, VALIDATION]) if name in mine]
    ids = [(runs or {}).get(signature, "") for signature in mine["signature"]]
    numeric = mine[["seed", "fold", "signature", "status", "failure", *shown, "finished"]].assign(mlflow=ids)
    columns = {
        "seed": [NONE if pd.isna(seed) else str(seed) for seed in mine["seed"]],
        "fold": [str(fold) for fold in mine["fold"]],
        "signature": list(mine["signature"]),
        "status": [how or status for how, status in zip(mine["failure"], mine["status"], strict=True)],
        **{heading(name): [formatter(name)(value) for value in mine[name]] for name in shown},
        "finished": [time or NONE for time in mine["finished"]],
        "MLflow run": [run or NONE for run in ids],
    }
    set_ = next((r["factors"] for r in plan["rows"] if r["name"] == row), {})
    errors = mine.loc[mine["error"] != ""].drop_duplicates("error")
    return Table(
        numeric=numeric.set_index(["seed", "fold"]),
        caption=f"Trials behind {row} of {plan['sweep']} on {plan['dataset']}: {metric_title(shown[0])}; "
        "each in runs/trials/<signature>.",
        notes=tuple(
            ([f"It sets {', '.join(f'{k}={v}' for k, v in set_.items())}."] if set_ else [])
            + [f"{line.signature}: {line.error}" for line in errors.itertuples()]
        ),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
    )
