"""Several sweeps as one table: rows by name, a column a sweep; differences and a leaderboard below it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import leaderboard, mixture, stats
from analysis.ablation_tables import BEST, best_marks, difference_cell, validated
from analysis.table import Mark, Table
from analysis.wording import (
    NONE,
    VALIDATION,
    formatter,
    higher_is_better,
    is_leaky,
    mean_sd,
    metric_title,
    p_value,
    path,
)


class Sweep(NamedTuple):
    """load.plan and load.frame of one sweep."""

    plan: Mapping[str, Any]
    frame: pd.DataFrame

    @property
    def rows(self) -> list[str]:
        return [row["name"] for row in self.plan["rows"]]


def labels(sweeps: Sequence[Sweep]) -> list[str]:
    """The heading of each sweep: its data set, with its own name where sweeps share one. Raises ValueError
    for a sweep that is there twice."""
    sets = [sweep.plan["dataset"] for sweep in sweeps]
    names = [sweep.plan["sweep"] for sweep in sweeps]
    if len(set(names)) < len(names):
        raise ValueError(f"expected different sweeps, found one twice among {names}")
    return [
        name if sets.count(name) == 1 else f"{name} ({sweep.plan['sweep']})"
        for name, sweep in zip(sets, sweeps, strict=True)
    ]


def scores(sweeps: Sequence[Sweep], metric: str) -> pd.DataFrame:
    """Data sets x rows, in the order of first appearance: means over pairs, NaN where there is none.

    Raises ValueError where a sweep with done cells doesn't have the metric, or is there twice.
    """
    means = [stats.summary(s.frame, metric, s.plan["unit"])["mean"].reindex(s.rows) for s in sweeps]
    table = pd.concat(means, axis=1, keys=labels(sweeps), sort=False).T
    return table.rename_axis(index="dataset", columns="row")


def build(sweeps: Sequence[Sweep], metric: str = "test/macro_f1") -> Table:
    """The table of one or several sweeps over `metric`; see `scores` for what it raises."""
    found, title = scores(sweeps, metric), metric_title(metric)
    rows, columns = list(found), {"row": list(found)}
    numeric, marks = list[pd.DataFrame](), set[tuple[int, int, Mark]]()
    notes: dict[str, list[str]] = {}
    for column, (label, sweep) in enumerate(zip(found.index, sweeps, strict=True), start=1):
        table = _column(sweep, metric, rows)
        numeric.append(table.assign(dataset=label, sweep=sweep.plan["sweep"]))
        head, cells = _cells(label, table, sweep, metric)
        columns[head] = cells
        marks |= best_marks(validated(table, metric), column)
        said = stats.notes(sweep.frame, sweep.plan, metric)
        for line in [*said, *mixture.budgets(sweep.frame, sweep.plan)]:
            notes.setdefault(line, []).append(label)
    read = path(metric, "each sweep's primary representation")
    lines = [line if len(sweeps) == 1 else f"{', '.join(where)}: {line}" for line, where in notes.items()]
    ranked, why_not = _leaderboard(sweeps, metric, found)
    return Table(
        numeric=pd.concat(numeric).rename_axis(index="row").set_index(["dataset", "sweep"], append=True),
        caption=f"{title[0].upper()}{title[1:]} by data set, mean ± sd over the n folds or seeds of each"
        f"{read and '; '}{read}." + (f" {BEST}, column by column." if marks else ""),
        notes=tuple([*lines, *why_not]),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
        marks=frozenset(marks),
        below=tuple([*_differences(sweeps, metric, list(found.index)), *ranked]),
    )


def _column(sweep: Sweep, metric: str, rows: Sequence[str]) -> pd.DataFrame:
    """One sweep's numbers; a line for each of `rows`, whether or not the sweep has it."""
    unit: stats.Unit = sweep.plan["unit"]
    table = stats.summary(sweep.frame, metric, unit)
    table = table.rename(columns={name: f"{metric}/{name}" for name in ("mean", "sd", "low", "high")})
    if VALIDATION in sweep.frame and metric != VALIDATION:
        table[f"{VALIDATION}/mean"] = stats.per_pair(sweep.frame, VALIDATION, unit).mean()
    table = table.reindex(rows)
    counts = ["n", "done", "failed", "missing"]
    table[counts] = table[counts].astype("Int64")
    return table


def _cells(label: str, table: pd.DataFrame, sweep: Sweep, metric: str) -> tuple[str, list[str]]:
    """Heading and cells; n stands in the heading where every row has the same."""
    show, unit = formatter(metric), sweep.plan["unit"]
    ns = {int(n) for n in table["n"].dropna() if n > 0}
    cells = []
    for _, line in table.iterrows():
        n = line["n"]
        if pd.isna(n):
            cells.append("not in it")
        else:
            each = f" (n = {n})" if len(ns) > 1 and n else ""
            cells.append(mean_sd(show, line[f"{metric}/mean"], line[f"{metric}/sd"]) + each)
    label += " LEAKY" if is_leaky(sweep.plan) else ""
    if len(ns) != 1:
        return label, cells
    n = ns.pop()
    return f"{label} (n = {n} {unit}{'' if n == 1 else 's'})", cells


def _reference(sweeps: Sequence[Sweep]) -> str | None:
    """The reference that all sweeps name, if they do."""
    found = {sweep.plan.get("reference") for sweep in sweeps}
    return found.pop() if len(found) == 1 else None


def _differences(sweeps: Sequence[Sweep], metric: str, heads: Sequence[str]) -> list[tuple[str, Table]]:
    """The table of differences to the reference, where all sweeps name the same; Holm over all of it."""
    reference = _reference(sweeps)
    if reference is None:
        return []
    keys, found = [], []
    for head, sweep in zip(heads, sweeps, strict=True):
        rows = [row for row in sweep.rows if row != reference]
        keys += [(row, head) for row in rows]
        pairs = [(row, reference) for row in rows]
        found += stats.contrasts(sweep.frame, metric, sweep.plan["unit"], pairs)
    if not found:
        return []
    adjusted = stats.holm([d.p for d in found])
    numeric = pd.DataFrame([vars(d) for d in found]).assign(p_holm=pd.Series(adjusted, dtype="float64"))
    cells = {
        key: difference_cell(d, metric) + ("" if p is None else f" {p_value(p)}")
        for key, d, p in zip(keys, found, adjusted, strict=True)
    }
    rows = list(dict.fromkeys(row for row, _ in keys))
    table = Table(
        numeric=numeric.set_index(pd.MultiIndex.from_tuples(keys, names=["row", "dataset"])),
        caption=f"Difference to {reference} in {metric_title(metric)}: mean over pairs, its 95 % t interval, "
        "and the p of the paired t test, Holm-adjusted within this table.",
        notes=(),
        header=("row", *heads),
        body=tuple((row, *(cells.get((row, head), NONE) for head in heads)) for row in rows),
    )
    return [("differences", table)]


def _leaderboard(
    sweeps: Sequence[Sweep], metric: str, found: pd.DataFrame
) -> tuple[list[tuple[str, Table]], list[str]]:
    """The leaderboard over the rows that every sweep has, or why there is none."""
    higher, whole = higher_is_better(metric), found.dropna(axis=1)
    if len(found) == 1:
        return [], ["One data set: nothing to rank rows over."]
    if higher is None:
        return [], [f"No leaderboard: {metric} does not say which way is better."]
    if whole.shape[1] < 2:
        return [], [f"No leaderboard: rows with a score on every data set: {whole.shape[1]}."]
    reference = _reference(sweeps)
    ranking = leaderboard.rank(whole, higher, reference if reference in whole else None)
    gaps = {row: list(found.index[found[row].isna()]) for row in found if row not in whole}
    left_out = {row: f"none on {', '.join(where)}" for row, where in gaps.items()}
    note = leaderboard.repeated([sweep.plan["dataset"] for sweep in sweeps])
    return [("leaderboard", leaderboard.build(ranking, metric, left_out, note))], []
