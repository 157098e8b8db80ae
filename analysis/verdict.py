"""What a sweep came to, in two sentences with their uncertainty: the numbers of its table, put into words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import stats
from analysis.table import Table
from analysis.wording import (
    VALIDATION,
    formatter,
    higher_is_better,
    is_leaky,
    metric_scale,
    metric_title,
    p_equals,
)

SHARP = 0.05
FEW = 6  # pairs below which even the smallest two-sided signed-rank p is above 5 %
GRAVE = ("LEAKY", "Incomplete", "Failed cells", "Mixed", "Uncommitted", "Not rebuilt")


class Compared(NamedTuple):
    """Row a less row b, out of the table; `why` these two, `tests` that share Holm's adjustment."""

    a: str
    b: str
    why: str
    found: stats.Difference
    p_holm: float | None
    tests: int


def sentences(plan: Mapping[str, Any], table: Table, metric: str, ranking: Sequence[str]) -> list[str]:
    """Two sentences from load.plan, ablation_tables.build and choice.ranking: the first contrast or, without
    contrasts, the row that is best on validation against the reference, and what its n allows."""
    pair = compared(plan, table, ranking)
    if pair is None:
        return _alone(plan, table, metric, ranking)
    score = metric_title(metric).removesuffix(" in percent")
    found, show = pair.found, formatter(metric)
    unit = plan["unit"]
    if found.mean is None:
        return [
            f"{pair.a} and {pair.b} ({pair.why}) can't be compared yet: no {unit} has a result of both.",
            "There is no verdict.",
        ]
    size, which = _size(metric, found.mean), _which(metric, found.mean)
    if found.n == 1:
        return [
            f"In the one {unit} that has both, {pair.a} scores {size} {which} than {pair.b} in {score} "
            f"({pair.why}).",
            "One pair gives no interval and no test: this is an observation, not a finding.",
        ]
    if found.low is None or found.high is None:
        said = "score alike" if found.mean == 0 else f"differ by the same {size}"
        return [
            f"{pair.a} and {pair.b} {said} in {score} in each of {found.n} {unit}s ({pair.why}).",
            f"Without variation there is no interval and no test. {_allows(plan, found.n)}",
        ]
    numbers = f"95 % interval {show(found.low, True)} to {show(found.high, True)}, {_p(pair)}, n = {found.n}"
    if found.low <= 0 <= found.high:
        first = (
            f"Whether {pair.a} and {pair.b} differ in {score} is open: {pair.a} scores {size} {which}, and "
            f"the interval of the difference holds 0 ({numbers}; {pair.why})."
        )
        return [first, _allows(plan, found.n)]
    first = f"{pair.a} scores {size} {which} than {pair.b} in {score} ({numbers}; {pair.why})"
    if pair.p_holm is not None and pair.p_holm > SHARP:
        first += f"; adjusted for the {pair.tests} comparisons of the table this is no longer significant"
    return [f"{first}.", _allows(plan, found.n, settled=True)]


def warnings(table: Table) -> list[str]:
    """The table's notes that a reader of the verdict must not miss."""
    return [line for line in table.notes if line.startswith(GRAVE)]


def compared(plan: Mapping[str, Any], table: Table, ranking: Sequence[str]) -> Compared | None:
    """None where the sweep names neither contrasts nor a reference, or nothing but the reference has a
    validation score."""
    if plan.get("contrasts"):
        a, b = plan["contrasts"][0]
        numbers = table.below[0][1].numeric
        count = len(plan["contrasts"])
        why = "the sweep's only contrast" if count == 1 else f"the first of the sweep's {count} contrasts"
        return _read(a, b, why, numbers.iloc[0], numbers)
    numbers, reference = table.numeric, plan.get("reference")
    others = [row for row in ranking if row != reference]
    if reference is None or not others:
        return None
    best, scores = others[0], _validation(numbers)
    ties = int((scores[others] == scores[best]).sum())
    first = "the best" if ties == 1 else f"one of {ties} that tie for best"
    why = f"{first} of {len(others)} rows on validation, against the reference"
    if scores[best] < scores[reference]:
        why += ", which is better there"
    difference = numbers.filter(like="difference/").rename(columns=lambda name: name.split("/", 1)[1])
    return _read(best, reference, why, difference.loc[best], difference)


def _read(a: str, b: str, why: str, line: pd.Series, every: pd.DataFrame) -> Compared:
    numbers = {name: None if pd.isna(line[name]) else float(line[name]) for name in ("mean", "low", "high")}
    p, p_holm = (None if pd.isna(line[name]) else float(line[name]) for name in ("p", "p_holm"))
    n = 0 if pd.isna(line["n"]) else int(line["n"])
    found = stats.Difference(**numbers, p=p, n=n, remark=str(line["remark"]))
    return Compared(a, b, why, found, p_holm, int(every["p_holm"].count()))


def _validation(numbers: pd.DataFrame) -> pd.Series:
    return numbers[f"{VALIDATION}/mean"].round(12)


def _alone(plan: Mapping[str, Any], table: Table, metric: str, ranking: Sequence[str]) -> list[str]:
    """Nothing was to be compared: the row that is best on validation, and how it scores."""
    missing = (
        "The sweep names no reference and no contrasts, so that nothing is compared"
        if plan.get("reference") is None
        else f"Beside the reference {plan['reference']} no row has a validation score yet"
    )
    numbers, show = table.numeric, formatter(metric)
    if not ranking:
        return [f"{missing}.", "No row has a validation score by which one would be chosen."]
    best, scores = ranking[0], _validation(numbers)
    ties = int((scores == scores[best]).sum())
    first = "is best" if ties == 1 else f"is one of {ties} rows that tie for best"
    mean, low, high = (numbers.at[best, f"{metric}/{name}"] for name in ("mean", "low", "high"))
    n = int(numbers.at[best, "n"])
    interval = "no interval, " if pd.isna(low) else f"95 % interval {show(low)} to {show(high)}, "
    score = metric_title(metric).removesuffix(" in percent")
    value = show(mean) + (" %" if metric_scale(metric) == 100 else "")
    return [
        f"{missing}; {best} {first} on validation, with a {score} of {value} ({interval}n = {n}).",
        _allows(plan, n),
    ]


def _allows(plan: Mapping[str, Any], n: int, settled: bool = False) -> str:
    """What n pairs allow one to say, in one sentence; settled: the interval doesn't hold 0."""
    if is_leaky(plan):
        return "Windows were split at random, so that nothing follows for people or recordings not seen."
    unit = "subject fold" if plan["unit"] == "fold" else "seed"
    if n < 2:
        return f"It rests on {n} {unit}: there is no interval and no test, and nothing to generalise from."
    few = "; with so few pairs only large differences show" if n < FEW and not settled else ""
    if plan["unit"] == "fold":
        return (
            f"It rests on {n} subject folds, seeds averaged, which share training data: intervals are "
            f"approximate{few}."
        )
    return (
        f"It rests on {n} seeds of one split and covers the randomness of training alone, not the choice of "
        f"people or windows{few}."
    )


def _p(pair: Compared) -> str:
    if pair.p_holm is None:
        return "no test"
    return p_equals(pair.p_holm) + (f", Holm-adjusted over {pair.tests}" if pair.tests > 1 else "")


def _points(metric: str) -> str:
    return " points" if metric_scale(metric) == 100 else ""


def _size(metric: str, mean: float) -> str:
    return formatter(metric)(abs(mean)) + _points(metric)


def _which(metric: str, mean: float) -> str:
    """Higher or lower, and whether that is better where the metric doesn't say so itself."""
    word = "higher" if mean >= 0 else "lower"
    return f"{word} (lower is better)" if higher_is_better(metric) is False else word
