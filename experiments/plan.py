"""A planned sweep: its rows and cells, and what `plan.json` says of them to analysis and tracking."""

from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import RunConfig
from experiments.identity import flat
from experiments.ledger import Store, read_json, write_json
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


class Sweep(NamedTuple):
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

    def label(self, cell: Cell) -> str:
        """What a person calls the cell: the row, and seed and fold where there are several."""
        seed = "" if cell.seed is None else f" seed {cell.seed}"
        return cell.row + seed + (f" fold {cell.fold}" if len({c.fold for c in self.cells}) > 1 else "")

    def plan(self) -> dict[str, Any]:
        """What `<store>/sweeps/<name>/plan.json` holds: all that analysis and tracking need."""
        first = next(iter(self.configs.values()))
        by_row = {cell.row: self.configs[cell.signature] for cell in reversed(self.cells)}
        settings = [flat(config.model_dump(mode="json")) for config in by_row.values()]
        searched = {name: found for one in self.searches for name, found in one.spec["space"].items()}
        names = [name for name in settings[0] if name not in searched]
        differs = [name for name in names if any(s[name] != settings[0][name] for s in settings)]
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
            "rows": [row._asdict() for row in self.rows],
            "differs": differs,
            "cells": [cell._asdict() for cell in self.cells],
            **({"search": self.searches[0].spec | about} if self.searches else {}),
        }

    def save(self, store: Store, file: Path) -> None:
        """Leave the plan in the store. Raises FileError where another file of the same name has its plan
        there: two sweeps that share a name would overwrite each other's table."""
        path, source = store.sweep(self.name) / "plan.json", str(file.resolve())
        owner = (read_json(path) or {}).get("file", source)
        if owner != source and Path(owner).exists():
            raise FileError(str(file), None, f"in this store '{self.name}' is {owner}: rename one of the two")
        write_json(path, self.plan() | {"file": source})
