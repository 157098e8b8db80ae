"""A sweep's report: one HTML file that needs no other, no network and no script."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis import (
    ablation_tables,
    breakdown,
    codes_page,
    costs,
    factors,
    failures,
    figures,
    lexicon,
    load,
    meanings,
    provenance,
    verdict,
)
from analysis.pictures import Picture, picture
from analysis.source import Missing, Source
from analysis.table import Table
from analysis.wording import AFTERWARDS, where

MOST_CARDS = 48  # codes
MOST_STRIPS = 20  # windows, one a class
MOST_FAILED = 30  # cells, each with its error
ERROR_LETTERS = 400
Tell = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """What the ledger doesn't know. run, evaluate: the commands that go on here; again: those that have the
    numbers again elsewhere. files: name -> text, the sweep file first. coded: row and signature whose codes
    are shown; no_codes: why there are none."""

    run: str
    evaluate: str
    again: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    coded: tuple[str, str] | None = None
    no_codes: str = ""


def page(source: Source, about: About, tell: Tell = lambda line: None) -> str:
    """The whole page. `tell` hears what is at work. Raises what Source raises, ValueError for a metric that
    no done cell has."""
    frame, plan = source.frame, source.plan
    done = int((frame["status"] == "done").sum())
    shown: dict[str, Any] = {"tables": [], "pictures": [], "skipped": {}, "warnings": [], "verdict": [
        "No cell is done yet, so there is no verdict.",
        f"This command goes on: {about.run}",
    ]}  # fmt: skip
    if done:
        tell("tables")
        table = ablation_tables.build(frame, plan, source.metric)
        shown["verdict"] = verdict.sentences(plan, table, source.metric, source.ranking)
        shown["warnings"] = verdict.warnings(table)
        shown["tables"] = _tables(source, table)
        shown |= _pictures(source, tell)
    tell("codes")
    shown |= _codes(source, about)
    return codes_page.TEMPLATES.get_template("report.html").render(
        about=about,
        plan=plan,
        where=where(plan),
        rows=[{"name": row["name"], "sets": provenance.settings(row)} for row in plan["rows"]],
        cells={word: int((frame["status"] == word).sum()) for word in ("done", "failed", "missing")},
        unevaluated=done - evaluated(frame),
        failures=failures.notes(frame),
        failed=_failed(frame),
        most_failed=MOST_FAILED,
        cost=costs.build(frame, plan) if done else None,
        origins=provenance.origins(frame, load.digests(source.store, source.sweep)) if done else [],
        commit=provenance.commit(frame),
        finished=frame["finished"].max(),
        **shown,
    )


def evaluated(frame: pd.DataFrame) -> int:
    """How many done cells have something that only an evaluation adds."""
    names = [name for name in frame if str(name).startswith(AFTERWARDS)]
    return int(frame.loc[frame["status"] == "done", names].notna().any(axis=1).sum())


def _tables(source: Source, first: Table) -> list[tuple[str, Table]]:
    """Title and table: variants, contrasts, classes, factors and what mattered in searches."""
    frame, plan = source.frame, source.plan
    found = [("Rows", first), *(("Contrasts", below) for _, below in first.below)]
    per = load.per(source.store, source.sweep, "class")
    if not per.empty:
        found.append(("By class", breakdown.build(per, frame, plan, "class")))
    try:
        table = factors.build(frame, plan, source.metric)
        found += [("Effects of settings", table), *(("Means by setting", below) for _, below in table.below)]
    except factors.NoFactors:
        pass
    if mattered := load.importances(source.store, source.sweep):
        found.append(("What mattered in the searches", factors.importances(mattered, plan)))
    return _once(found)


def _once(tables: list[tuple[str, Table]]) -> list[tuple[str, Table]]:
    """A note that stands under one table is not repeated under the next."""
    said: set[str] = set()
    found = []
    for title, table in tables:
        notes = tuple(note for note in table.notes if note not in said)
        said |= set(notes)
        found.append((title, replace(table, notes=notes)))
    return found


def _pictures(source: Source, tell: Tell) -> dict[str, Any]:
    pictures: list[Picture] = []
    skipped: dict[str, list[str]] = {}
    for name in figures.FIGURES:
        tell(f"figure {name}")
        for part, found in figures.draw(source, [name]):
            title = part.replace("_", " ")
            if isinstance(found, Missing):
                skipped.setdefault(str(found), []).append(title)
            else:
                pictures.append(picture(title, found))
    return {"pictures": pictures, "skipped": skipped}


def _codes(source: Source, about: About) -> dict[str, Any]:
    """Measures of meaning of all rows, agreement over seeds, and the dictionary of one trial."""
    found: dict[str, Any] = {
        "meaning": meanings.build(source.frame, source.plan),
        "agreement": meanings.over_seeds(source.store, source.frame, source.plan),
        "dictionary": None,
    }
    if about.coded is None:
        return found
    parts = codes_page.parts(lexicon.read(source.store, about.coded[1]))
    first = {strip["label"]: strip for strip in reversed(parts["strips"])}
    strips = [strip for strip in parts["strips"] if first[strip["label"]] is strip][:MOST_STRIPS]
    found["dictionary"] = parts | {"cards": parts["cards"][:MOST_CARDS], "strips": strips}
    found["left_out"] = max(0, len(parts["cards"]) - MOST_CARDS)
    return found


def _failed(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The failed cells, each with its error."""
    cells = frame.loc[frame["status"] == "failed", ["row", "seed", "fold", "failure", "error", "signature"]]
    lines = cells.astype({"seed": "object"}).to_dict("records")
    return [
        {str(k): v for k, v in line.items()}
        | {"seed": "-" if pd.isna(line["seed"]) else line["seed"], "error": line["error"][:ERROR_LETTERS]}
        for line in lines
    ]
