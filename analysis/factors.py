"""Main effects and two-way interactions of a grid's factors, as repeated measures: a pair (fold, seeds
averaged; or seed) sees every row, an effect is found within each pair and tested over pairs.

R rows, P pairs, d degrees of freedom of a term.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.stats

from analysis import stats
from analysis.ablation_tables import difference_cell
from analysis.design import Design, design, short
from analysis.table import Table
from analysis.wording import MINUS, NONE, TIMES, formatter, metric_title, p_value, where

REST, NOISE = "higher interactions", f"pairs {TIMES} rows"


class NoFactors(ValueError):
    """A sweep whose rows cross no settings."""


class Term(NamedTuple):
    """One factor, or two that interact. effect: None where d > 1; f, p: None where nothing can be tested."""

    factors: tuple[str, ...]
    d: int
    effect: stats.Difference | None
    f: float | None
    p: float | None
    eta2: float


def build(frame: pd.DataFrame, plan: Mapping[str, Any], metric: str = "test/macro_f1") -> Table:
    """Effects of a sweep's factors on `metric`; below it the mean of each level. Raises NoFactors."""
    unit: stats.Unit = plan["unit"]
    every = stats.per_pair(frame, metric, unit)
    found = design(plan, list(every.columns[every.notna().any()]))
    if found is None:
        raise NoFactors(
            f"{plan['sweep']}: its rows cross no settings (a `grid`, or variants that each name the same "
            "setting): there is no factor to average over"
        )
    pairs = stats.per_pair(frame, metric, unit, common=list(found.levels.index))
    if pairs.empty:
        raise NoFactors(f"{plan['sweep']}: in no {unit} does every row of the grid have a result yet")
    terms, left = effects(pairs, found)
    names = short(list(found.levels))
    adjusted = stats.holm([term.p for term in terms])
    body = [
        (
            *_words(term, found, names, len(pairs), metric),
            NONE if p is None else p_value(p),
            _share(term.eta2),
        )
        for term, p in zip(terms, adjusted, strict=True)
    ]
    body += [(name, NONE, NONE, _share(share)) for name, share in left.items()]
    mine = frame[frame["row"].isin(found.levels.index)]
    used = _notes(found, names) + stats.notes(mine, plan, metric, len(pairs), stats.CROSSED)
    return Table(
        numeric=_numeric(terms, adjusted, left),
        caption=f"Factors of {where(plan)}: effects on {metric_title(metric)} over "
        f"the {len(found.levels)} rows that cross {_crossed(found, names)}, with 95 % t intervals over "
        f"{len(pairs)} {unit}s; p Holm-adjusted within this table; share: eta squared in percent.",
        notes=tuple(used),
        header=("term", "effect", "p", "share"),
        body=tuple(body),
        below=(("levels", _levels(pairs, found, names, metric)),),
    )


def importances(found: Mapping[str, Mapping[str, float]], plan: Mapping[str, Any]) -> Table:
    """What mattered in a sweep's searches (`load.importances`): rows x searched settings, in percent."""
    settings = list(dict.fromkeys(name for of in found.values() for name in of))
    numeric = pd.DataFrame.from_dict(found, orient="index", columns=None)[settings].rename_axis(index="row")
    names = short(settings)
    return Table(
        numeric=numeric,
        caption=f"What mattered in the searches of {where(plan)}: Optuna's importance of each setting for "
        "macro-F1 on validation, in percent, averaged over folds.",
        notes=("Importances describe the trials that a sampler chose: no effect, no interval, no test.",),
        header=("row", *names.values()),
        body=tuple(
            (row, *(_share(of[s]) if s in of else NONE for s in settings)) for row, of in found.items()
        ),
    )


def effects(pairs: pd.DataFrame, grid: Design) -> tuple[list[Term], dict[str, float]]:
    """Terms of order one and two, and the shares of variance of what is left.

    `pairs` (P x R) is per_pair's over the grid's rows. eta2: part of the sum of squares around each pair's
    mean. The F test is that of a repeated-measures analysis of variance with pairs as subjects: a term's
    error is its own variation over pairs; d = 1: the square of the paired t.
    """
    levels = grid.levels
    y = pairs[list(levels.index)]
    centred = y.to_numpy() - y.to_numpy().mean(axis=1, keepdims=True)
    total, n = float((centred**2).sum()), len(y)
    within = n * float((centred.mean(axis=0) ** 2).sum())
    noise = 1e-12 * float(np.abs(y.to_numpy()).max())
    terms, explained = [], 0.0
    for factors in [*((name,) for name in levels), *combinations(levels, 2)]:
        z = centred @ _contrasts(levels, factors)
        d, squares = z.shape[1], n * float((z.mean(axis=0) ** 2).sum())
        effect = stats.difference(*_sides(y, levels, factors)) if d == 1 else None
        f, p = _f_test(z, noise)
        p = p if effect is None else effect.p  # the same test, but for its words where it can't be made
        terms.append(Term(factors, d, effect, f, p, squares / total if total else 0.0))
        explained += squares
    left = {REST: within - explained} if len(levels.columns) > 2 else {}
    left |= {NOISE: total - within}
    return terms, {name: max(0.0, value) / total if total else 0.0 for name, value in left.items()}


def _contrasts(levels: pd.DataFrame, factors: Sequence[str]) -> np.ndarray:
    """R x d orthonormal columns that span a term: products of Helmert contrasts of its factors."""
    columns = np.ones((len(levels), 1))
    for name in factors:
        codes, found = pd.factorize(levels[name])
        helmert = scipy.linalg.helmert(len(found)).T[codes]
        columns = (columns[:, :, None] * helmert[:, None, :]).reshape(len(levels), -1)
    return columns / np.linalg.norm(columns, axis=0)


def _sides(y: pd.DataFrame, levels: pd.DataFrame, factors: Sequence[str]) -> tuple[pd.Series, pd.Series]:
    """Of a term with d = 1, per pair, what its effect is the difference of: second level less first, or what
    the first factor does at the second level of the other less what it does at the first."""
    signs = np.ones(len(levels))
    for name in factors:
        signs *= np.where(pd.factorize(levels[name])[0] == 1, 1, -1)
    scale = len(factors)  # sums of two means, where two factors interact
    return scale * y.loc[:, signs > 0].mean(axis=1), scale * y.loc[:, signs < 0].mean(axis=1)


def _f_test(z: np.ndarray, noise: float) -> tuple[float | None, float | None]:
    """F and p of a term's contrasts (P x d); None for one pair, or for variation that is rounding `noise`."""
    n, d = z.shape
    if n < 2:
        return None, None
    error = float(((z - z.mean(axis=0)) ** 2).sum()) / (d * (n - 1))
    if error <= noise**2:
        return None, None
    f = n * float((z.mean(axis=0) ** 2).sum()) / d / error
    return f, float(scipy.stats.f.sf(f, d, d * (n - 1)))


def _words(term: Term, grid: Design, names: Mapping[str, str], n: int, metric: str) -> tuple[str, str]:
    """The first two cells of a term's line."""
    label = f" {TIMES} ".join(names[name] for name in term.factors)
    if term.effect is not None:
        if len(term.factors) == 1:
            first, second = grid.levels[term.factors[0]].unique()
            label = f"{label}: {second} {MINUS} {first}"
        return label, difference_cell(term.effect, metric, n)
    return label, NONE if term.f is None else f"F({term.d}, {term.d * (n - 1)}) = {term.f:.3g}"


def _share(part: float) -> str:
    return f"{100 * part:.1f}"


def _numeric(
    terms: Sequence[Term], adjusted: Sequence[float | None], left: Mapping[str, float]
) -> pd.DataFrame:
    lines = [
        {
            "term": f" {TIMES} ".join(term.factors),
            "df": term.d,
            "effect": getattr(term.effect, "mean", None),
            **{key: getattr(term.effect, key, None) for key in ("low", "high")},
            "f": term.f,
            "p": term.p,
            "p_holm": p,
            "eta2": term.eta2,
        }
        for term, p in zip(terms, adjusted, strict=True)
    ]
    lines += [{"term": name, "eta2": share} for name, share in left.items()]
    return pd.DataFrame(lines).set_index("term").astype("float64").astype({"df": "Int64"})


def _levels(pairs: pd.DataFrame, grid: Design, names: Mapping[str, str], metric: str) -> Table:
    """The mean at each level of each factor, and how far it is from the mean of all levels."""
    show, everywhere = formatter(metric), pairs.mean(axis=1)
    numeric, body = [], []
    for name in grid.levels:
        for level in grid.levels[name].unique():
            mine = pairs.loc[:, grid.levels[name] == level].mean(axis=1)
            found = stats.difference(mine, everywhere)
            about = {"factor": name, "level": level, f"{metric}/mean": mine.mean()}
            numeric.append(about | {f"difference/{key}": value for key, value in vars(found).items()})
            body.append((names[name], level, show(mine.mean()), difference_cell(found, metric, len(pairs))))
    table = pd.DataFrame(numeric).drop(columns="difference/p")  # the terms above are what is tested
    return Table(
        numeric=table.set_index(["factor", "level"]),
        caption=f"The factors' levels: mean {metric_title(metric)} over all other factors, and its "
        "difference to the mean of the factor's levels with a 95 % t interval.",
        notes=(),
        header=("factor", "level", "mean", "vs mean of levels"),
        body=tuple(body),
    )


def _crossed(grid: Design, names: Mapping[str, str]) -> str:
    sizes = [f"{names[name]} ({grid.levels[name].nunique()})" for name in grid.levels]
    return f" {TIMES} ".join(sizes)


def _notes(grid: Design, names: Mapping[str, str]) -> list[str]:
    """How effects are to be read, and which rows are not in them."""
    lines = [
        "A factor of two levels: second less first, all else averaged. Two that interact: the first's effect "
        "at the other's second level less that at its first."
    ]
    if grid.levels.nunique().max() > 2:
        lines.append("More levels: F of a repeated-measures analysis of variance, sphericity assumed.")
    if grid.levels.shape[1] == 1:
        lines = lines[1:] or ["Second level less first."]
    reasons: dict[str, list[str]] = {}
    for row, why in grid.left_out.items():
        reasons.setdefault(why, []).append(row)
    lines += [f"Not in it, as {why}: {', '.join(rows)}." for why, rows in reasons.items()]
    return lines
