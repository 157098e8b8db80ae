"""Rows ranked over data sets: mean ranks, Friedman's test, signed-rank tests with Holm's adjustment.

A pair is a data set, with one score a row (its mean there). scipy and statsmodels do the maths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import scipy.stats

from analysis import stats
from analysis.table import Table
from analysis.wording import NONE, formatter, metric_title, p_equals, p_value

DIGITS = 12  # averaging leaves rounding noise after them


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows in the order of their mean rank, 1 the best; equal scores share a rank.

    scores: data sets x rows, without gaps. table: a line a row with rank, wins (data sets on which no row is
    better), mean, and against `against` (itself: null) better, equal, worse, p (signed-rank, null where all
    are equal), p_holm (over these lines). pairs: rows x rows, the p of every two, Holm-adjusted over all of
    them, 1 on the diagonal and where two rows are equal everywhere. friedman: p over all rows, None below
    three rows or two data sets or where nothing differs. A critical-difference diagram draws ranks and pairs.
    """

    scores: pd.DataFrame
    table: pd.DataFrame
    pairs: pd.DataFrame
    friedman: float | None
    against: str

    @property
    def ranks(self) -> pd.Series:
        return self.table["rank"]


def rank(scores: pd.DataFrame, higher: bool, against: str | None = None) -> Ranking:
    """Rank the rows of `scores` (data sets x rows); `against`: the row that others are tested with, else the
    first by rank. Raises ValueError for gaps, fewer than two rows or an unknown `against`."""
    if scores.isna().any(axis=None) or scores.shape[1] < 2:
        raise ValueError("expected a score of two rows or more on every data set, found gaps or fewer rows")
    if against is not None and against not in scores:
        raise ValueError(f"expected a row of {list(scores)} to compare with, found {against!r}")
    scores = scores.round(DIGITS)
    each = scores.rank(axis=1, ascending=not higher)
    ranks = each.mean().sort_values(kind="stable")
    scores = scores[list(ranks.index)]
    against = against or str(ranks.index[0])
    best = scores.max(axis=1) if higher else scores.min(axis=1)
    gain = scores.sub(scores[against], axis=0) * (1 if higher else -1)
    table = pd.DataFrame({"rank": ranks, "wins": scores.eq(best, axis=0).sum(), "mean": scores.mean()})
    table = table.loc[scores.columns].rename_axis(index="row")
    signs = {"better": gain > 0, "equal": gain == 0, "worse": gain < 0}
    for word, sign in signs.items():
        table[word] = sign.sum().astype("Int64").mask(table.index == against)
    tests = [None if row == against else _signed_rank(scores[row], scores[against]) for row in scores]
    table["p"] = pd.Series(tests, index=table.index, dtype="float64")
    table["p_holm"] = pd.Series(stats.holm(tests), index=table.index, dtype="float64")
    return Ranking(scores, table, _pairs(scores), _friedman(scores), against)


def _signed_rank(a: pd.Series, b: pd.Series) -> float | None:
    return None if (a == b).all() else float(scipy.stats.wilcoxon(a, b).pvalue)


def _pairs(scores: pd.DataFrame) -> pd.DataFrame:
    rows = list(scores)
    table = pd.DataFrame(np.eye(len(rows)), index=rows, columns=rows)
    every = list(combinations(rows, 2))
    adjusted = stats.holm([_signed_rank(scores[a], scores[b]) for a, b in every])
    for (a, b), p in zip(every, adjusted, strict=True):
        table.loc[a, b] = table.loc[b, a] = 1.0 if p is None else p
    return table


def _friedman(scores: pd.DataFrame) -> float | None:
    if scores.shape[1] < 3 or len(scores) < 2 or scores.nunique(axis=1).max() == 1:
        return None
    return float(scipy.stats.friedmanchisquare(*(scores[row] for row in scores)).pvalue)


def build(ranking: Ranking, metric: str, left_out: Mapping[str, str], note: str = "") -> Table:
    """The leaderboard; `left_out`: rows that are not ranked, and where they lack a score."""
    show, table, against = formatter(metric), ranking.table, ranking.against
    columns = {
        "row": list(table.index),
        "mean rank": [f"{value:.2f}" for value in table["rank"]],
        "wins": [str(n) for n in table["wins"]],
        f"vs {against}: better / equal / worse": [
            "reference" if row == against else f"{line.better} / {line.equal} / {line.worse}"
            for row, line in zip(table.index, table.itertuples(), strict=True)
        ],
        "p": [NONE if pd.isna(p) else p_value(p) for p in table["p_holm"]],
        "mean": [show(value) for value in table["mean"]],
    }
    columns["row"] += left_out
    for name in list(columns)[1:]:
        columns[name] += ["not ranked" if name == "mean rank" else NONE] * len(left_out)
    return Table(
        numeric=table.drop(columns="mean").assign(**{f"{metric}/mean": table["mean"]}),
        caption=f"Leaderboard over {len(ranking.scores)} data sets by {metric_title(metric)}: mean rank "
        "(1 is best), wins (no row is better there), mean; p: Wilcoxon's signed-rank test over data sets, "
        "Holm-adjusted within this table.",
        notes=tuple([*notes(ranking), *([note] if note else []), *_absent(left_out)]),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
    )


def notes(ranking: Ranking) -> list[str]:
    """What the number of data sets allows one to say."""
    n, tests = ranking.scores.shape[0], int(ranking.table["p"].count())
    rows = ranking.scores.shape[1]
    lines = []
    if ranking.friedman is not None:
        lines.append(
            f"Friedman's test over {rows} rows and {n} data sets: {p_equals(ranking.friedman)}"
            + (" (its chi-squared is rough below ten data sets)." if n < 10 else ".")
        )
    smallest = 2 / 2**n
    adjusted = min(1.0, smallest * max(tests, 1))
    said = f"With {n} data sets the smallest two-sided signed-rank p is {smallest:.4g}"
    said += f", after Holm over {tests} rows {adjusted:.4g}" if tests > 1 else ""
    if smallest > 1 - stats.LEVEL:
        lines.append(f"{said}: nothing can be significant below six data sets, whatever the scores.")
    elif adjusted > 1 - stats.LEVEL:
        lines.append(f"{said}: with so many rows, none can be told from {ranking.against} by itself.")
    else:
        lines.append(f"{said}.")
    return lines


def _absent(left_out: Mapping[str, str]) -> list[str]:
    each = "; ".join(f"{row} ({where})" for row, where in left_out.items())
    return [f"Not ranked, as they have no score somewhere: {each}."] if each else []


def repeated(datasets: Sequence[str]) -> str:
    """A sentence on sweeps that share a data set, "" where none do."""
    twice = list(dict.fromkeys(name for name in datasets if list(datasets).count(name) > 1))
    if not twice:
        return ""
    return (
        f"Sweeps on one data set ({', '.join(twice)}) count as so many data sets, which they are not: ranks "
        "and p-values look surer than they are."
    )
