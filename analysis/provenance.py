"""Where a sweep's numbers come from: code, machines, versions, digests of what was read."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

SHOWN = 6  # values of one name, the most frequent


class Origin(NamedTuple):
    """name: what it is. values: what it was, with the number of done cells where there is more than one."""

    name: str
    values: list[str]


def origins(frame: pd.DataFrame, digests: Mapping[str, Mapping[str, str]]) -> list[Origin]:
    """`env/*` of the done cells in load.frame's order, code first, then load.digests."""
    done = frame[frame["status"] == "done"]
    names = [str(name) for name in done if str(name).startswith("env/")]
    first = ["env/commit", "env/dirty", "env/code"]
    names = [name for name in first if name in names] + [name for name in names if name not in first]
    titles = {"commit": "git commit", "dirty": "uncommitted changes", "code": "hash of the sources"}
    titles |= {"platform": "system", "cpu": "processor"}
    found = []
    for name in names:
        counts = done[name].fillna("unknown").value_counts()
        short = name.removeprefix("env/")
        found.append(Origin(titles.get(short, short), _counted(counts)))
    for kind, known in digests.items():
        values = [f"{digest} ({of})" if of else digest for digest, of in known.items()]
        found.append(Origin(f"digest of the {kind}", _first(values)))
    return found


def commit(frame: pd.DataFrame) -> str | None:
    """The one commit of all done cells, None where there are several or none is known."""
    if "env/commit" not in frame:
        return None
    found = frame.loc[frame["status"] == "done", "env/commit"].unique()
    return str(found[0]) if len(found) == 1 and pd.notna(found[0]) else None


def settings(row: Mapping[str, Any]) -> list[str]:
    """What a row of the plan sets, as "name: value"."""
    return [f"{name}: {_plain(value)}" for name, value in row["factors"].items()]


def _plain(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _counted(counts: pd.Series) -> list[str]:
    words = {"True": "yes", "False": "no"}
    values = [words.get(str(value), str(value)) for value in counts.index]
    if len(values) > 1:
        values = [f"{value} ({n} cells)" for value, n in zip(values, counts, strict=True)]
    return _first(values)


def _first(values: list[str]) -> list[str]:
    rest = len(values) - SHOWN
    return values if rest <= 0 else [*values[:SHOWN], f"and {rest} more"]
