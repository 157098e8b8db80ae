"""How well codes mean what they are named, row by row, and whether seeds agree on it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import agreement, lexicon, stats
from analysis.table import Table
from analysis.wording import MINUS, NONE, where

COLUMNS = {  # heading -> the measure, and what it is to be compared with
    "shapes apart": ("meaning/shapes_apart_frac", None),
    "code and phrase": ("meaning/nmi", "meaning/nmi_null"),
    "purity": ("meaning/purity", "meaning/purity_null"),
    "code and event": ("meaning/event_nmi", "meaning/event_nmi_null"),
    "named": ("meaning/named_frac", None),
    "named right": ("meaning/recovered_frac", None),
    "drop": ("meaning/named_drop", "meaning/random_drop"),
    "text overlap": ("meaning/text_overlap", None),
}
WORDS = {
    "shapes apart": "part of the variance of decoded shapes that lies between codes (0: all draw the same)",
    "code and phrase": "normalised mutual information of a token's code and the phrase of its class that it "
    "attends to most (in brackets: with codes dealt anew within each class, which is what knowing the class "
    "alone gives)",
    "purity": "part of tokens with their code's commonest phrase (in brackets: dealt anew)",
    "code and event": "as code and phrase, with what truly happens at the token's place",
    "named": "part of codes in use with a name: one phrase that is 1.5 times as probable as any other",
    "named right": "part of codes in use named as what mostly happens at their tokens",
    "drop": "what the predicted class's score loses without a token whose code is named as one of that "
    "class's sub-actions (in brackets: without any token)",
    "text overlap": "part of code use that texts and series share",
}


def build(frame: pd.DataFrame, plan: Mapping[str, Any]) -> Table | None:
    """Means of `meaning/...` by row, rows whose text was a control marked; None where no cell has any."""
    there = {
        heading: pair
        for heading, pair in COLUMNS.items()
        if pair[0] in frame and frame.loc[frame["status"] == "done", pair[0]].notna().any()
    }
    if not there:
        return None
    numeric = pd.DataFrame(
        {
            name: stats.per_pair(frame, name, plan["unit"]).mean()
            for pair in there.values()
            for name in pair
            if name is not None and name in frame
        }
    )
    known = {row["name"]: row["factors"] for row in plan["rows"]}
    numeric = numeric.reindex(list(known)).dropna(how="all").rename_axis(index="row")
    text = [str(known[row].get("text.control") or "") for row in numeric.index]
    columns = {"row": [str(row) for row in numeric.index]}
    if any(text):
        columns["control"] = text
    for heading, (name, beside) in there.items():
        columns[heading] = [_cell(line.get(name), line.get(beside)) for _, line in numeric.iterrows()]
    notes = [f"{heading}: {WORDS[heading]}." for heading in there]
    if any(text):
        notes.append(
            "control: what was done to the text of that row; codes that mean something differ from there."
        )
    return Table(
        numeric=numeric,
        caption=f"Do codes mean what they are named? {where(plan)}, held-out windows, means over "
        f"{plan['unit']}s.",
        notes=tuple(notes),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
    )


def over_seeds(store: Path, frame: pd.DataFrame, plan: Mapping[str, Any]) -> Table | None:
    """Agreement of a row's trials that differ in their seed alone, of those whose lexicon is there; None
    where no two are."""
    lines = []
    for row in [row["name"] for row in plan["rows"]]:
        done = frame[(frame["status"] == "done") & (frame["row"] == row) & frame["seed"].notna()]
        parts = [agreement.between(_read(store, cells)) for _, cells in done.groupby("fold")]
        found = pd.concat(parts) if parts else pd.DataFrame()
        if len(found):
            lines.append({"row": row, "pairs": len(found), **found.mean().to_dict()})
    if not lines:
        return None
    numeric = pd.DataFrame(lines).set_index("row")
    names = {"code_nmi": "codes", "name_kappa": "names", "covered": "places compared"}
    columns = {"row": [str(row) for row in numeric.index], "pairs": [str(n) for n in numeric["pairs"]]}
    columns |= {heading: [_number(value) for value in numeric[name]] for name, heading in names.items()}
    return Table(
        numeric=numeric,
        caption="Do seeds agree? Trials of one fold that differ in their seed alone, by the same held-out "
        "windows, means over pairs of trials.",
        notes=(
            "codes: normalised mutual information of the codes at the same places (1: the same partition, 0: "
            "none in common). names: Cohen's kappa of the codes' names there (1: full agreement, 0: chance).",
        ),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
    )


def _read(store: Path, cells: pd.DataFrame) -> dict[str, lexicon.Lexicon]:
    """The lexicons of these cells, by signature, of the same held-out windows, as far as they can be read."""
    found: dict[str, lexicon.Lexicon] = {}
    for signature in cells["signature"]:
        with suppress(OSError, ValueError):
            found[signature] = lexicon.read(store, signature)
    first = next(iter(found.values()), None)
    return {k: one for k, one in found.items() if first and np.array_equal(one.window, first.window)}


def _cell(value: Any, beside: Any) -> str:
    return _number(value) + (f" ({_number(beside)})" if pd.notna(value) and pd.notna(beside) else "")


def _number(value: Any) -> str:
    return NONE if pd.isna(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)
