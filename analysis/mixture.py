"""What a table's trials differ in beside what is compared: code, devices, versions, threads, budgets."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

SHOWN = 5  # values of a mixture, rows of a value: more are counted
UNKNOWN = "unknown"


def notes(frame: pd.DataFrame) -> list[str]:
    """A sentence for each mixture among the done cells of load.frame's `frame`, and one for uncommitted code.

    The `env/*` that split the cells alike share a sentence: code and commit, or all that tells two machines
    apart. The most frequent value comes first, the others say which rows they are in.
    """
    done = frame[frame["status"] == "done"]
    names = [str(name) for name in done if str(name).startswith("env/") and name != "env/dirty"]
    values = {name.removeprefix("env/"): done[name].fillna(UNKNOWN) for name in names}
    alike: dict[bytes, list[str]] = {}
    for name, column in values.items():
        split, found = pd.factorize(column)
        if len(found) > 1:
            alike.setdefault(split.tobytes(), []).append(name)
    one_code = "code" in values and values["code"].nunique() == 1 and UNKNOWN not in set(values["code"])
    lines = []
    for fields in alike.values():
        harmless = one_code and fields == ["commit"]
        end = (
            "The sources that make numbers are the same." if harmless else "Rows may differ for this reason."
        )
        lines.append(f"Mixed {', '.join(fields)}: {_each(done['row'], values, fields)}. {end}")
    if "env/dirty" in done:
        dirty = done.loc[done["env/dirty"] == "True", "row"]
        if len(dirty):
            where = _where(dirty, done["row"])
            lines.append(
                f"Uncommitted code in {len(dirty)} of {len(done)} cells ({where}): "
                "code.patch in a trial's folder has it."
            )
    return lines


def budgets(frame: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """A sentence where done cells trained for different numbers of epochs, and one where only some rows were
    searched. Rows that say their epochs themselves (a grid over `train.epochs`) are no mixture."""
    done = frame[frame["status"] == "done"].dropna(subset=["budget/epochs"])
    epochs = done["budget/epochs"].astype("str")
    said = [row["name"] for row in plan["rows"] if "epochs=" in row["name"]]
    lines = []
    if epochs[~done["row"].isin(said)].nunique() > 1:
        each = _each(done["row"], {"epochs": epochs}, ["epochs"])
        lines.append(f"Mixed budgets, epochs: {each}. Rows may differ for this reason.")
    search = plan.get("search") or {}
    searched = {study["row"] for study in search.get("studies", [])}
    rest = [row["name"] for row in plan["rows"] if row["name"] not in searched]
    if searched and rest:
        others = ", ".join(rest[:SHOWN]) + (f" and {len(rest) - SHOWN} more" if rest[SHOWN:] else "")
        lines.append(
            f"Mixed budgets, search: {search['trials']} trials a fold for {len(searched)} rows, none for {others}: "
            "they read no setting that is searched."
        )
    return lines


def _each(rows: pd.Series, values: dict[str, pd.Series], fields: list[str]) -> str:
    """Every combination of the `fields`' values with its number of cells, the most frequent first."""
    first = values[fields[0]]  # the others split the cells alike
    counts = sorted(first.value_counts().items(), key=lambda item: (-item[1], str(item[0])))
    parts = []
    for i, (value, count) in enumerate(counts[:SHOWN]):
        mine = first == value
        shown = {name: _short(name, values[name][mine].iloc[0]) for name in fields}
        text = ", ".join(shown.values() if len(fields) == 1 else (f"{k} {v}" for k, v in shown.items()))
        where = f": {_where(rows[mine], rows)}" if i else ""
        parts.append(f"{text} ({count} cells{where})")
    if rest := counts[SHOWN:]:
        parts.append(f"{len(rest)} more ({sum(count for _, count in rest)} cells)")
    return "; ".join(parts)


def _short(name: str, value: str) -> str:
    return value[:12] if name == "commit" else value[:60]


def _where(some: pd.Series, every: pd.Series) -> str:
    """Which rows the cells of `some` are in, of the rows of `every`."""
    of, found = every.value_counts(sort=False), some.value_counts(sort=False)
    if len(found) == len(of) > 1:
        return "every row" if found.sum() == of.sum() else "some of every row"
    if len(found) > SHOWN:
        return f"some of {len(found)} of {len(of)} rows"
    return ", ".join(f"all of {r}" if n == of[r] else f"{n} of {of[r]} of {r}" for r, n in found.items())
