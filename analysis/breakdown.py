"""A sweep's rows by class (F1) or by test subject (macro-F1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import stats
from analysis.load import By
from analysis.table import Table
from analysis.wording import NONE, formatter, mean_sd, where

WIDE = 120  # letters of a terminal's line
WORDS: dict[By, tuple[str, str]] = {"class": ("F1", "classes"), "subject": ("macro-F1", "subjects")}


def numbers(per: pd.DataFrame, plan: Mapping[str, Any], by: By) -> pd.DataFrame:
    """mean, sd (ddof 1) and n pairs by (row, `by`) of load.per's `per`, the seeds within a fold averaged.

    Rows in the plan's order, classes in that of their first appearance, subjects by number. With seeds as
    pairs, a row without randomness has one.
    """
    pairs = per.groupby(["row", by, plan["unit"]], dropna=False, sort=False)["value"].mean()
    table = pairs.groupby(["row", by], sort=False).agg(["mean", "std", "count"])
    table.columns = pd.Index(["mean", "sd", "n"])
    every = pd.MultiIndex.from_product([_rows(per, plan), _parts(per, by)], names=["row", by])
    return table.loc[every[every.isin(table.index)]]


def build(per: pd.DataFrame, frame: pd.DataFrame, plan: Mapping[str, Any], by: By) -> Table:
    """Rows x classes or subjects, means over pairs, and the mean of each line; `per`, `frame`: load's.

    Where that is wider than a terminal, classes or subjects are the lines. Raises ValueError where no done
    cell has such values.
    """
    if per.empty:
        raise ValueError(f"{plan['sweep']}: no done cell has values by {by}")
    table, show, unit = numbers(per, plan, by), formatter("f1"), plan["unit"]
    rows, parts = _rows(per, plan), _parts(per, by)
    wide = table["mean"].unstack(by).reindex(index=rows, columns=parts)
    counts = table["n"].unstack(by).reindex(index=rows, columns=parts)
    if unit == "seed":
        drawn = set(per.loc[per["seed"].notna(), "row"])
        counts = counts.loc[[row for row in rows if row in drawn]]
    alike = counts.nunique().le(1)
    every = counts.stack().nunique() <= 1
    heads = [
        str(part) if every or not alike[part] else f"{part} (n = {counts[part].max():.0f})" for part in parts
    ]
    columns = [["row", *rows]]
    for part, head in zip(parts, heads, strict=True):
        ns = {} if alike[part] else counts[part].dropna().to_dict()
        cells = [show(wide.at[row, part]) + (f" (n = {ns[row]:.0f})" if row in ns else "") for row in rows]
        columns.append([head, *cells])
    spread = wide.std(axis=1, ddof=1) if by == "subject" else pd.Series(index=rows, dtype="float64")
    columns.append(["mean", *(mean_sd(show, wide.loc[row].mean(), spread[row]) for row in rows)])
    lines = [list(line) for line in zip(*columns, strict=True)]
    if sum(3 + max(map(len, column)) for column in columns) >= WIDE:
        lines = [[by, *rows], *columns[1:]]
    score, words = WORDS[by]
    rare = f"n: {unit}s whose test windows have the class; the mean is then not quite that of macro-F1."
    varied = [] if every or by == "subject" else [rare]
    over = f"mean over {unit}s" if by == "class" or unit == "seed" else "seeds averaged"
    return Table(
        numeric=table,
        caption=f"Test {score} in percent by {by}, {where(plan)}: {over}; mean: of "
        f"the {words}, each counted once{', ± sd over them' if by == 'subject' else ''}.",
        notes=tuple([*_gaps(wide, frame, words), *varied, *_said(frame, plan)]),
        header=tuple(lines[0]),
        body=tuple(tuple(line) for line in lines[1:]),
    )


def _rows(per: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    known = set(per["row"])
    return [row["name"] for row in plan["rows"] if row["name"] in known]


def _parts(per: pd.DataFrame, by: By) -> list[str]:
    found = list(per[by].unique())
    return sorted(found, key=lambda name: (len(name), name)) if by == "subject" else found


def _gaps(wide: pd.DataFrame, frame: pd.DataFrame, words: str) -> list[str]:
    """Rows that have no such values, or not all."""
    lines = []
    if absent := [row for row in frame["row"].unique() if row not in wide.index]:
        lines.append(f"No values for {words} in {', '.join(absent)}.")
    if partly := list(wide.index[wide.isna().any(axis=1)]):
        lines.append(f"{NONE}: no value. The mean of {', '.join(partly)} is of the other {words} alone.")
    return lines


def _said(frame: pd.DataFrame, plan: Mapping[str, Any]) -> Sequence[str]:
    return stats.notes(frame, plan, "test/macro_f1", rests=stats.APART)
