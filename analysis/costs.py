"""What a sweep's trials cost: seconds, parameters, memory."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.table import Table
from analysis.wording import NONE, where

COLUMNS = {  # metric -> heading, how a mean is written
    "cost/total_s": ("s a trial", "{:,.1f}"),
    "cost/train_s": ("of which training", "{:,.1f}"),
    "cost/parameters": ("parameters", "{:,.0f}"),
    "cost/peak_memory_mb": ("peak memory, MB", "{:,.0f}"),
    "cost/peak_gpu_memory_mb": ("peak GPU memory, MB", "{:,.0f}"),
}


def build(frame: pd.DataFrame, plan: Mapping[str, Any]) -> Table:
    """Means over the done cells of each row, memory its highest; parameters in full."""
    rows = [row["name"] for row in plan["rows"]]
    done = frame[frame["status"] == "done"]
    names = [name for name in COLUMNS if name in done and done[name].notna().any()]
    by_row = done.groupby("row")
    numeric = pd.DataFrame(index=pd.Index(rows, name="row"))
    numeric["done"] = by_row.size().reindex(rows, fill_value=0)
    columns = {"row": rows, "done cells": [str(n) for n in numeric["done"]]}
    for name in names:
        heading, form = COLUMNS[name]
        of_row = by_row[name].max() if "memory" in name else by_row[name].mean()
        numeric[name] = of_row.reindex(rows)
        columns[heading] = [NONE if pd.isna(value) else form.format(value) for value in numeric[name]]
    notes = []
    if "cost/total_s" in names:
        trials = done.drop_duplicates("signature")
        total = float(trials["cost/total_s"].sum())
        notes.append(
            f"All {len(trials)} done trials together: {total:,.0f} s of trials ({total / 3600:.2g} h), one "
            "after the other; search trials and evaluations afterwards are not in it."
        )
    return Table(
        numeric=numeric,
        caption=f"Cost of {where(plan)}: means over done cells, memory the highest of them.",
        notes=tuple(notes),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
    )
