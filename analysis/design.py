"""Which settings a sweep's rows cross: the factors of a plan, and the largest complete grid of its rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

VARIANT = "variant"


class Design(NamedTuple):
    """`levels`: rows x factors, each level as text, every combination once, in the file's order.

    `left_out`: row -> why it isn't in the grid.
    """

    levels: pd.DataFrame
    left_out: dict[str, str]


def design(plan: Mapping[str, Any], usable: Collection[str]) -> Design | None:
    """The complete grid in the plan's rows, of those with results (`usable`); None where nothing is crossed.

    Factors are the settings that vary within a variant (the sweep's `grid`), and what the variants are: the
    settings that all of them name, where these tell them apart and cross, else "variant". Without a grid only
    settings can be factors. Where combinations are missing, levels are left out until none is.
    """
    rows = [row for row in plan["rows"] if row["name"] in usable]
    left_out = {row["name"]: "there is no result" for row in plan["rows"] if row["name"] not in usable}
    grid = _varied_within(plan["rows"])
    if not grid:  # a baseline has no settings to cross
        alone = [row for row in rows if str(row["factors"].get("baseline", "none")) != "none"]
        left_out |= {row["name"]: "it has no such setting" for row in alone}
        rows = [row for row in rows if row not in alone]
    else:
        bare = [row for row in rows if not set(grid) <= row["factors"].keys()]
        left_out |= {row["name"]: "the grid makes no difference there" for row in bare}
        rows = [row for row in rows if row not in bare]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    own = _own(rows, grid) if len(variants) > 1 else []
    if not rows or not (grid or own):
        return None
    named = {name: [_text(row["factors"][name]) for row in rows] for name in [*own, *grid]}
    if grid and not own and len(variants) > 1:
        named = {VARIANT: [row["variant"] for row in rows]} | named
    levels = pd.DataFrame(named, index=pd.Index([row["name"] for row in rows], name="row"))
    return _complete(levels, left_out)


def short(names: Sequence[str]) -> dict[str, str]:
    """Settings as row names show them: the last word, or all of it where two end alike."""
    ends = [name.split(".")[-1] for name in names]
    return {n: end if ends.count(end) == 1 else n for n, end in zip(names, ends, strict=True)}


def _varied_within(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that take several values within one variant, in the file's order."""
    seen: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name, value in row["factors"].items():
            seen.setdefault((row["variant"], name), set()).add(_text(value))
    return list(dict.fromkeys(name for (_, name), values in seen.items() if len(values) > 1))


def _own(rows: Sequence[Mapping[str, Any]], grid: Sequence[str]) -> list[str]:
    """The settings by which variants differ, where each variant names each and they are crossed."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["variant"], row["factors"])
    names = [n for n in dict.fromkeys(k for f in first.values() for k in f) if n not in grid]
    differ = [n for n in names if len({_text(f.get(n)) for f in first.values()}) > 1]
    if not differ or not all(n in f for n in differ for f in first.values()):
        return []
    points = {tuple(_text(f[n]) for n in differ) for f in first.values()}
    size = math.prod(len(set(column)) for column in zip(*points, strict=True))
    return differ if len(points) == size == len(first) else []


def _complete(levels: pd.DataFrame, left_out: dict[str, str]) -> Design | None:
    """Drop the level that lacks the largest part of its combinations (of equals the last) until none does."""
    while True:
        for name in [name for name in levels if levels[name].nunique() < 2]:
            levels = levels.drop(columns=name)
        if levels.empty or not len(levels.columns):
            return None
        sets = [list(dict.fromkeys(levels[name])) for name in levels]
        total = math.prod(map(len, sets))
        if len(levels) == total:
            return Design(levels, left_out)
        gaps = [
            (1 - (levels[name] == level).sum() * len(values) / total, i, j, name, level)
            for i, (name, values) in enumerate(zip(levels, sets, strict=True))
            for j, level in enumerate(values)
        ]
        *_, name, level = max(gaps)
        mine = levels.index[levels[name] == level]
        why = f"{short(list(levels))[name]}={level} is not crossed with all else"
        left_out = left_out | dict.fromkeys(map(str, mine), why)
        levels = levels.drop(index=mine)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
