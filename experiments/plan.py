"""A planned sweep: its rows and cells, and what `plan.json` says of them to analysis and tracking."""

import os
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import RunConfig
from experiments.identity import different, flat
from experiments.ledger import Store, keep_json, read_json
from experiments.reach import Search
from experiments.yamlfile import FileError


class Cell(NamedTuple):
    """One entry of the paper's table before averaging. seed is None where the row has no randomness."""

    row: str
    variant: str
    seed: int | None
    fold: int
    signature: str


class Row(NamedTuple):
    """A line of the table: a variant at one grid point. `factors` is what it sets beyond the base."""

    name: str
    variant: str
    factors: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A planned sweep. `configs` and `digests` are by signature. Of the points (variant x grid point x fold x
    seed) that the file asks for, `merged` equal another of their variant and `exclude` dropped `excluded`.

    With `search:`, a study of `searches` chooses the settings of its row and fold. Until it has, its cells
    are `waiting`: their signatures name no trial. `chosen` says what came out of those that ended."""

    name: str
    question: str
    rows: list[Row]
    cells: list[Cell]
    configs: dict[str, RunConfig]
    digests: dict[str, dict[str, str | None]]
    reference: str | None
    contrasts: list[list[str]]
    merged: int
    excluded: int
    searches: tuple[Search, ...] = ()
    waiting: frozenset[str] = frozenset()
    chosen: tuple[dict[str, Any], ...] = ()

    @cached_property
    def folded(self) -> bool:
        """Whether there are several folds."""
        return len({cell.fold for cell in self.cells}) > 1

    def label(self, cell: Cell) -> str:
        """What a person calls the cell: the row, and seed and fold where there are several."""
        seed = "" if cell.seed is None else f" seed {cell.seed}"
        return cell.row + seed + (f" fold {cell.fold}" if self.folded else "")

    def plan(self) -> dict[str, Any]:
        """What `<store>/sweeps/<name>/plan.json` holds: all that analysis and tracking need."""
        first = next(iter(self.configs.values()))
        by_row = {cell.row: self.configs[cell.signature] for cell in reversed(self.cells)}
        searched = {name: found for one in self.searches for name, found in one.spec["space"].items()}
        differ = set().union(*(different(first, config) for config in by_row.values())) - {
            *searched,
            "seed",
            "data.fold",
        }
        differs = [name for name in flat(first.model_dump()) if name in differ]
        studies = [{"row": one.row, "fold": one.fold, "study": one.key} for one in self.searches]
        about = {"space": searched, "studies": studies, "chosen": list(self.chosen)}
        return {
            "schema": 1,
            "sweep": self.name,
            "question": self.question,
            "primary": next(
                (c.probe.representation for c in by_row.values() if c.baseline == "none"), "statistics"
            ),
            "reference": self.reference,
            "contrasts": self.contrasts,
            "dataset": first.data.name,
            "split": first.data.split,
            "unit": "seed" if first.data.split == "official" else "fold",
            "rows": [row._asdict() | {"differs": _read(by_row[row.name], differs)} for row in self.rows],
            "differs": differs,
            "cells": [cell._asdict() for cell in self.cells],
            **({"search": self.searches[0].spec | about} if self.searches else {}),
        }

    def save(self, store: Store, file: Path) -> None:
        """Leave the plan in the store. Raises FileError where another file of the same name has its plan
        there: two sweeps that share a name would overwrite each other's table. Names that differ in case
        alone are the same name, as a file system may see it so."""
        path, source = store.sweep(self.name) / "plan.json", str(file.resolve())
        known = os.listdir(path.parent.parent) if path.parent.parent.is_dir() else []
        for twin in [name for name in known if name.lower() == self.name.lower()]:
            found = read_json(path.parent.with_name(twin) / "plan.json")
            owner = found.get("file") if isinstance(found, dict) else None
            if not isinstance(owner, str) or owner == source or not os.path.exists(owner):
                continue
            if not file.exists() or not os.path.samefile(owner, file):
                raise FileError(str(file), None, f"in this store '{twin}' is {owner}: rename one of the two")
        plan = self.plan() | {"file": source}
        if read_json(path) != plan:  # a full disk is in nobody's way who only looks
            keep_json(path, plan)


def _read(config: RunConfig, names: list[str]) -> dict[str, Any]:
    """Those of the settings `names` that the config reads, with their values as JSON has them."""
    unused, out = config.unused(), {}
    for name in names:
        above = [name[:at] for at, letter in enumerate(name) if letter == "."]
        if unused.isdisjoint([*above, name]):
            value = attrgetter(name)(config)
            out[name] = list(value) if isinstance(value, tuple) else value
    return out
