"""One sweep as the figures read it: each part of the ledger once, and only when a figure asks for it."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import choice, lexicon, load, stats, style
from analysis.choice import PERPLEXITY
from analysis.wording import VALIDATION, is_leaky


class Missing(Exception):
    """Why a sweep has no figure of a kind; a sentence without its full stop."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure and its caption; `part` tells figures of one name apart, and is "" for a single one."""

    figure: Figure
    caption: str
    part: str = ""


@dataclass(frozen=True)
class Source:
    """The sweep `sweep` in `store`; `metric` is what scores, effects and ranks are about."""

    store: Path
    sweep: str
    metric: str = "test/macro_f1"

    @cached_property
    def plan(self) -> dict[str, Any]:
        return load.plan(self.store, self.sweep)

    @cached_property
    def frame(self) -> pd.DataFrame:
        return load.frame(self.store, self.sweep)

    @cached_property
    def curves(self) -> pd.DataFrame:
        return load.curves(self.store, self.sweep)

    @cached_property
    def classes(self) -> pd.DataFrame:
        return load.per(self.store, self.sweep, "class")

    @cached_property
    def confusions(self) -> Mapping[str, tuple[list[str], np.ndarray]]:
        return load.confusions(self.store, self.sweep)

    @cached_property
    def ranking(self) -> list[str]:
        """Rows that have a validation score, the best first."""
        return choice.ranking(self.frame, self.plan["unit"], self.rows)

    @property
    def rows(self) -> list[str]:
        return [row["name"] for row in self.plan["rows"]]

    def done(self) -> pd.DataFrame:
        """The frame, if the metric is anywhere in it. Raises Missing."""
        if "done" not in set(self.frame["status"]):
            raise Missing("no cell is done yet")
        if self.metric not in self.frame or self.frame[self.metric].isna().all():
            raise Missing(f"no trial has the metric {self.metric}")
        return self.frame

    def shown(self, most: int = style.MOST_ROWS) -> list[str]:
        """The rows that a figure has room for."""
        return style.shown(self.plan, self.ranking, most)

    def fit(self, rows: Sequence[str], able: Collection[str] | None = None, what: str = "") -> str:
        """The sentences of a caption about rows that were left out of `rows`, "" if none was.

        `able`: the rows that could be drawn, those that `what` ("log epochs"); by default all.
        """
        every, such, said = len(self.rows), len(self.rows if able is None else able), ""
        if such < every:
            said += f" {such} of {every} rows {what}."
        if len(rows) < such:
            of = "rows" if such == every else "these rows"
            reference = ", and the reference" if self.plan.get("reference") in rows else ""
            said += f" {len(rows)} of {such} {of}: those best on validation{reference}."
        return said

    def pairs(self, n: int | None = None, rests: str = stats.RESTS) -> str:
        """The sentences of a caption about what a pair is, how many there are, and what is not done yet.

        `n`: how many; by default as many as the fullest row has. `rests`: what a reader has
        to know while cells are missing; by default about differences.
        """
        unit = self.plan["unit"]
        if n is None:
            metric = self.metric if self.metric in self.frame else VALIDATION
            n = int(stats.per_pair(self.frame, metric, unit).count().max()) if metric in self.frame else 0
        done = int((self.frame["status"] == "done").sum())
        sentences = stats.note(n, unit, None, done, len(self.frame), is_leaky(self.plan), rests)
        return " ".join(line for line in sentences if "signed-rank" not in line)

    @cached_property
    def trials(self) -> dict[str, str]:
        """Row -> signature of its validation-best trial, where that trial kept its codes; best row first."""
        found = choice.best_trials(self.frame)
        return {
            row: found[row] for row in self.ranking if os.path.exists(lexicon.path(self.store, found[row]))
        }

    @property
    def no_codes(self) -> str:
        """Why there are no trials."""
        if PERPLEXITY not in self.frame or self.frame[PERPLEXITY].isna().all():
            return "no trial has learned codes"
        return f"no codes were read off a trial yet: run `shapelex codes sweeps/{self.sweep}.yaml` first"

    @cached_property
    def codes(self) -> tuple[lexicon.Lexicon, str]:
        """The codes of the validation-best trial of the validation-best row that has some, and a caption's
        sentence about whose they are. Raises Missing."""
        if not self.trials:
            raise Missing(self.no_codes)
        row, name = next(iter(self.trials.items()))
        try:
            found = lexicon.read(self.store, name)
        except (OSError, ValueError) as error:
            raise Missing(f"the codes of trial {name} can't be read: {error}") from None
        better = self.ranking.index(row)
        whose = (
            "best on validation" if better == 0 else f"number {better + 1} on validation, the best with codes"
        )
        return found, f"Row {row} ({whose}), its validation-best trial {name}, held-out windows."
