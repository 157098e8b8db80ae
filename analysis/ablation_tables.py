"""A sweep's table: mean and sd per row, differences to the reference, named contrasts.

"Best" always means best on validation. Failed and missing cells are shown and counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import failures, mixture, rebuilt, stats
from analysis.table import Mark, Marks, Table
from analysis.wording import (
    LABELS,
    MINUS,
    NONE,
    VALIDATION,
    formatter,
    heading,
    mean_sd,
    metric_title,
    p_value,
    path,
    where,
)

BEST = "Best means best on validation: best bold, second underlined"
EXTRA = ("test/accuracy", "test/tokens/macro_f1", "test/histogram/macro_f1")


def build(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    metric: str = "test/macro_f1",
    extra: Sequence[str] = EXTRA,
) -> Table:
    """The table of one sweep from load.frame and load.plan, rows in the plan's order.

    `extra` metrics show their mean only and are dropped where no row has them. Raises ValueError for a
    `metric` that no done cell has.
    """
    unit: stats.Unit = plan["unit"]
    rows = [row["name"] for row in plan["rows"]]
    numeric = stats.summary(frame, metric, unit).reindex(rows)
    counts = ["n", "done", "failed", "missing"]
    numeric[counts] = numeric[counts].fillna(0).astype("int64")
    # One column of text, not one a word: the header is then every sweep's, whatever failed in it and however.
    how = failures.by_row(frame)
    numeric.insert(numeric.columns.get_loc("failed") + 1, "failures", [how.get(row, "") for row in rows])
    numeric.insert(0, "variant", [row["variant"] for row in plan["rows"]])
    columns = {"row": rows, "n": [str(n) for n in numeric["n"]]}
    columns[heading(metric)] = [
        mean_sd(formatter(metric), mean, sd) for mean, sd in zip(numeric["mean"], numeric["sd"], strict=True)
    ]
    numeric = numeric.rename(columns={k: f"{metric}/{k}" for k in ("mean", "sd", "low", "high")})
    others = [
        name
        for name in dict.fromkeys([*extra, VALIDATION])
        if name != metric and name in frame and frame[name].notna().any()
    ]
    means = {}
    for name in others:
        numeric[f"{name}/mean"] = stats.per_pair(frame, name, unit).mean().reindex(rows)
        means[heading(name)] = [formatter(name)(value) for value in numeric[f"{name}/mean"]]
    last = {LABELS[VALIDATION]: means.pop(LABELS[VALIDATION])} if VALIDATION in others else {}
    columns |= means
    notes = stats.notes(frame, plan, metric)
    notes += mixture.budgets(frame, plan) + rebuilt.notes(frame)
    if plan.get("reference") is not None:
        pairs = [(row, plan["reference"]) for row in rows]
        table, cells, p_cells = _differences(frame, metric, unit, pairs, list(numeric["n"]))
        numeric = numeric.join(table.set_index(numeric.index).add_prefix("difference/"))
        columns |= {f"vs {plan['reference']}": cells, "p": p_cells}
        if tests := table["p"].count():
            what = f"vs {plan['reference']}: mean difference with its 95 % t interval"
            notes.append(f"{what}; p: paired t test, Holm-adjusted over the {tests} of this table.")
    columns |= last
    best = validated(numeric, metric)
    marks = best_marks(best, column=2)
    if best.notna().any() and not marks:
        notes.append("More than two rows tie for best on validation: none is marked.")
    if numeric["failed"].any():
        columns["failed"] = [str(n) for n in numeric["failed"]]
    return Table(
        numeric=numeric,
        caption=_caption(plan, metric, bool(marks)),
        notes=tuple(notes),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
        marks=marks,
        below=(("contrasts", _contrasts(frame, plan, metric)),) if plan.get("contrasts") else (),
    )


def _contrasts(frame: pd.DataFrame, plan: Mapping[str, Any], metric: str) -> Table:
    pairs = [(a, b) for a, b in plan["contrasts"]]
    table, cells, p_cells = _differences(frame, metric, plan["unit"], pairs)
    names = [f"{a} {MINUS} {b}" for a, b in pairs]
    return Table(
        numeric=pd.DataFrame(pairs, columns=["a", "b"]).join(table).set_index(["a", "b"]),
        caption=f"Named contrasts of {plan['sweep']}: difference in {metric_title(metric)}, "
        "with its 95 % t interval; p of the paired t test, Holm-adjusted within this table.",
        notes=(),
        header=("contrast", "difference", "p", "n"),
        body=tuple(zip(names, cells, p_cells, map(str, table["n"]), strict=True)),
    )


def _differences(
    frame: pd.DataFrame,
    metric: str,
    unit: stats.Unit,
    pairs: Sequence[tuple[str, str]],
    ns: Sequence[int] = (),
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Numbers, difference cells and p cells of a - b per pair; `ns`: the n beside which a cell will stand."""
    known = iter(stats.contrasts(frame, metric, unit, [(a, b) for a, b in pairs if a != b]))
    found = [None if a == b else next(known) for a, b in pairs]
    adjusted = stats.holm([None if d is None else d.p for d in found])
    names = ["mean", "low", "high", "p", "n", "remark"]
    table = pd.DataFrame([[getattr(d, k, None) for k in names] for d in found], columns=names)
    table = table.astype(dict.fromkeys(names[:4], "float64") | {"n": "Int64"})
    table.insert(4, "p_holm", pd.Series(adjusted, dtype="float64"))
    cells = []
    for i, d in enumerate(found):
        cells.append("reference" if d is None else difference_cell(d, metric, ns[i] if ns else None))
    return table, cells, [NONE if p is None else p_value(p) for p in adjusted]


def difference_cell(d: stats.Difference, metric: str, n: int | None = None) -> str:
    """Mean and interval, or why there is none; its n where that isn't the `n` beside which it stands."""
    show = formatter(metric)
    if d.mean is None:
        return NONE
    if d.low is None or d.high is None:
        return f"{show(d.mean, True)} ({d.remark})"
    fewer = f" (n = {d.n})" if n is not None and d.n != n else ""
    return f"{show(d.mean, True)} [{show(d.low)}, {show(d.high)}]{fewer}"


def validated(numeric: pd.DataFrame, metric: str) -> pd.Series:
    """The validation means of the lines that have the metric's."""
    validation = numeric.get(f"{VALIDATION}/mean", pd.Series(index=numeric.index, dtype="float64"))
    return validation.where(numeric[f"{metric}/mean"].notna())


def best_marks(validation: pd.Series, column: int) -> Marks:
    """Bold where validation is highest, underlined where it is second; equal rows are marked alike.

    Nothing is marked where more than two rows are the highest: validation then chooses nobody.
    """
    rounded = validation.round(12)
    levels = sorted(rounded.dropna().unique(), reverse=True)
    if levels and (rounded == levels[0]).sum() > 2:
        return frozenset()
    marks: list[Mark] = ["bold", "underline"]
    return frozenset(
        (i, column, mark)
        for level, mark in zip(levels, marks, strict=False)
        for i, value in enumerate(rounded)
        if value == level
    )


def _caption(plan: Mapping[str, Any], metric: str, marked: bool) -> str:
    question = " ".join((plan.get("question") or "").split())
    if "?" in question:
        question = question[: question.index("?") + 1]
    what = f"{metric_title(metric)}, mean ± sd over {plan['unit']}s"
    read = path(metric, f"primary representation: {plan['primary']}")
    parts = [
        where(plan) + (f": {question}" if question else "."),
        f"{what[0].upper()}{what[1:]}{read and '; '}{read}.",
    ]
    return " ".join(parts + [f"{BEST} (val: macro-F1 there)."] * marked)
