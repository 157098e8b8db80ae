"""Paired statistics over a sweep. scipy and statsmodels do the maths; this file decides what a pair is.

With subject folds a pair is a fold, its seeds averaged. With one official split a pair is a seed. Folds
times seeds as pairs is pseudo-replication (a nominal 95 % interval then covers 72 %): nothing here offers it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.stats
from statsmodels.stats.multitest import multipletests

from analysis import failures, mixture
from analysis.wording import is_leaky

Unit = Literal["fold", "seed"]
LEVEL = 0.95
NO_VARIATION = "no variation"
NO_PAIR = "no common pair"
APART = "Rows then rest on different cells."
RESTS = "Rows then rest on different cells; a difference uses only the cells that both of its rows have."
CROSSED = "Effects rest on the seeds and folds for which every row of the grid has a result."
ONE_PAIR = "n = 1, no interval"


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over `n` pairs with its 95 % t interval and the paired t test's p.

    What cannot be had is None, and `remark` says why: no variation, one pair, no pair. Else `remark` is "".
    """

    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    remark: str


def per_pair(
    frame: pd.DataFrame, metric: str, unit: Unit, common: Sequence[str] | None = None
) -> pd.DataFrame:
    """`metric` as pairs x rows, index named `unit`; NaN where a row has no result for a pair.

    unit "fold": the seeds within a fold are averaged. unit "seed": needs one split; a row without randomness
    stands for every seed. With `common`, only these rows, over the cells that all of them have, so that two
    rows are compared on the same seeds even where trials are missing.
    Raises ValueError for another unit, for unit "seed" over several folds, for an unknown metric or row.
    """
    cells = _checked(frame, metric, unit)
    if common is not None:
        cells = _common(cells, common)
    return cells.groupby(level=unit).mean()


def _checked(frame: pd.DataFrame, metric: str, unit: Unit) -> pd.DataFrame:
    """_cells, where `unit` is a pair's."""
    if unit not in get_args(Unit):
        raise ValueError(
            f"expected unit 'fold' or 'seed', found {unit!r}: a pair is one or the other, never both"
        )
    folds = sorted(frame["fold"].unique())
    if unit == "seed" and len(folds) > 1:
        raise ValueError(
            f"expected one split for unit 'seed', found folds {folds}: pairs over folds x seeds are "
            "pseudo-replication, use unit 'fold'"
        )
    return _cells(frame, metric)


def _common(cells: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """The cells that all of `rows` have."""
    unknown = [row for row in rows if row not in cells]
    if unknown:
        raise ValueError(f"expected rows of {list(cells)}, found {unknown}")
    return cells[list(rows)].dropna()


def summary(frame: pd.DataFrame, metric: str, unit: Unit) -> pd.DataFrame:
    """Per row, in the frame's order: mean, sd (ddof 1), n pairs, low, high, and cells done, failed, missing.

    low and high bound the 95 % t interval of the mean: NaN below two pairs, the mean itself where sd is 0. A
    row without randomness, of which one value stands for every seed, has neither interval nor sd.
    """
    pairs = per_pair(frame, metric, unit)
    counts = pd.crosstab(frame["row"], frame["status"]).reindex(
        index=pairs.columns, columns=["done", "failed", "missing"], fill_value=0
    )
    table = pd.DataFrame({"mean": pairs.mean(), "sd": pairs.std(ddof=1), "n": pairs.count()})
    table[["low", "high"]] = [interval(pairs[row].dropna().to_numpy()) for row in pairs.columns]
    if unit == "seed":
        table.loc[_fixed(frame), ["sd", "low", "high"]] = np.nan
    return table.join(counts).rename_axis(index="row")


def _fixed(frame: pd.DataFrame) -> list[str]:
    """The rows without randomness."""
    return [str(row) for row, cells in frame.groupby("row", sort=False) if cells["seed"].isna().all()]


def difference(a: pd.Series, b: pd.Series) -> Difference:
    """a - b over the pairs present in both; `a` and `b` are columns of per_pair, else ValueError."""
    for column in (a, b):
        if column.index.name not in get_args(Unit) or not column.index.is_unique:
            raise ValueError(
                "expected columns of per_pair (one value per fold or per seed), found another index"
            )
    both = pd.DataFrame({"a": a, "b": b}).dropna()
    x, y, n = both["a"].to_numpy(), both["b"].to_numpy(), len(both)
    if n == 0:
        return Difference(None, None, None, None, 0, NO_PAIR)
    mean = float(np.mean(x - y))
    if n == 1:
        return Difference(mean, None, None, None, 1, ONE_PAIR)
    # Averaging seeds leaves rounding noise, on which a t test would find p = 0.
    if np.ptp(x - y) <= 1e-12 * max(np.abs(x).max(), np.abs(y).max()):
        return Difference(
            0.0 if np.allclose(x, y, rtol=1e-12, atol=0) else mean, None, None, None, n, NO_VARIATION
        )
    test = scipy.stats.ttest_rel(x, y)
    low, high = test.confidence_interval(LEVEL)
    return Difference(mean, float(low), float(high), float(test.pvalue), n, "")


def contrast(frame: pd.DataFrame, metric: str, unit: Unit, a: str, b: str) -> Difference:
    """Row `a` minus row `b`, over the cells that both have."""
    return contrasts(frame, metric, unit, [(a, b)])[0]


def contrasts(
    frame: pd.DataFrame, metric: str, unit: Unit, rows: Sequence[tuple[str, str]]
) -> list[Difference]:
    """`contrast` of each two rows; the frame is brought into pairs once."""
    cells = _checked(frame, metric, unit)
    every, whole = cells.groupby(level=unit).mean(), set(cells.columns[cells.notna().all()])
    found = []
    for two in rows:
        pairs = every  # that of two rows without gaps is the same, and dear for hundreds of rows
        if not whole.issuperset(two):
            pairs = _common(cells, list(dict.fromkeys(two))).groupby(level=unit).mean()
        found.append(difference(pairs[two[0]], pairs[two[1]]))
    return found


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the p-values that one table shows; None stays None."""
    known = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(known, method="holm")[1] if known else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


LEAKY = (
    "LEAKY: windows were split at random, so that the same people, recordings and overlapping windows are on "
    "both sides: these scores are too high for anyone new, and no result to report."
)


def note(
    n: int,
    unit: Unit,
    validation: str | None = None,
    done: int | None = None,
    planned: int | None = None,
    leaky: bool = False,
    rests: str = RESTS,
) -> list[str]:
    """What `n` pairs allow one to say, in sentences; `done` of `planned` cells, and what a reader has to know
    where not all are done."""
    sentences = [LEAKY] if leaky else []
    if done is not None and planned is not None and done < planned:
        sentences.append(f"Incomplete: {done} of {planned} cells done. {rests}")
    if unit == "fold":
        folds = _plural(n, "random fold" if leaky else "subject fold")
        shared = " Folds share training data, so the intervals are approximate." if n > 1 else ""
        sentences.append(f"n = {n} {folds}, seeds averaged within a fold.{shared}")
    else:
        sentences.append(
            f"n = {n} {_plural(n, 'seed')} on one split: the intervals cover training randomness only, "
            "not the choice of subjects or windows."
        )
    if n < 2:
        sentences.append("With fewer than two pairs there is no interval and no test.")
    else:
        smallest = 2 / 2**n
        stars = "no star would be honest" if smallest > 1 - LEVEL else "stars are left out all the same"
        sentences.append(f"With {n} pairs the smallest two-sided signed-rank p is {smallest:.4g}: {stars}.")
    if validation == "recordings":
        sentences.append("Validation is whole recordings of the training windows, not whole subjects.")
    if validation == "stratified part":
        sentences.append("Validation is a stratified part of the training windows, not whole subjects.")
    return sentences


def notes(
    frame: pd.DataFrame, plan: Mapping[str, Any], metric: str, n: int | None = None, rests: str = RESTS
) -> list[str]:
    """What a reader of `metric` must know: note(), then failed, missing, odd, mixed and shared cells. n:
    pairs, where not as many as the fullest row has."""
    unit: Unit = plan["unit"]
    done = frame[frame["status"] == "done"]
    n = int(per_pair(frame, metric, unit).count().max()) if n is None else n
    kept = [name for name in ("stratified part", "recordings") if (done["data/validation"] == name).any()]
    lines = note(n, unit, next(iter(kept), None), len(done), len(frame), is_leaky(plan), rests)
    lines += failures.notes(frame)
    missing = frame.loc[frame["status"] == "missing", "row"].value_counts(sort=False)
    if len(missing):
        each = ", ".join(f"{row} {count}" for row, count in missing.items())
        lines.append(f"Missing cells, {missing.sum()} of {len(frame)}: {each}.")
    if metric in done and (odd := int((~np.isfinite(done[metric])).sum())):
        lines.append(f"Done cells without a finite {metric}, not counted in n: {odd}.")
    by_row = frame.groupby("row", sort=False)
    if (fixed := _fixed(frame)) and unit == "seed":
        lines.append(f"No randomness in {', '.join(fixed)}: one value, which stands for every seed.")
    lines += mixture.notes(frame)
    rows_of: dict[tuple[str, ...], list[str]] = {}
    for row, cells in by_row:
        rows_of.setdefault(tuple(sorted(cells["signature"])), []).append(str(row))
    for rows in rows_of.values():
        if len(rows) > 1:
            lines.append(f"Equal configurations, one set of trials shown more than once: {', '.join(rows)}.")
    return lines


def _cells(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`metric` of the done cells, (fold, seed) x rows; a row without randomness repeats for every seed."""
    done = frame["status"] == "done"
    if metric in frame:
        value = frame[metric].where(done & np.isfinite(frame[metric]))
    elif done.any():
        known = [str(name) for name in frame.select_dtypes("float64")]
        near = difflib.get_close_matches(metric, known, n=1)
        raise ValueError(
            f"no cell has the metric {metric!r}" + (f", did you mean {near[0]!r}?" if near else "")
        )
    else:
        value = pd.Series(np.nan, index=frame.index)
    cells = frame[["row", "seed", "fold"]].assign(value=value)
    drawn, fixed = cells[cells["seed"].notna()], cells[cells["seed"].isna()]
    seeds = pd.DataFrame({"seed": sorted(drawn["seed"].unique()) or [0]}, dtype="Int64")
    every = pd.concat([drawn, fixed.drop(columns="seed").merge(seeds, how="cross")])
    wide = every.pivot(index=["fold", "seed"], columns="row", values="value")
    return wide[list(frame["row"].unique())].astype("float64")


def interval(x: np.ndarray) -> tuple[float, float]:
    """The 95 % t interval of the mean of `x`: NaN below two values, the mean itself where all are equal."""
    if len(x) < 2:
        return float("nan"), float("nan")
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    low, high = scipy.stats.t.interval(LEVEL, len(x) - 1, loc=x.mean(), scale=scipy.stats.sem(x))
    return float(low), float(high)


def _plural(n: int, noun: str) -> str:
    return noun if n == 1 else noun + "s"
