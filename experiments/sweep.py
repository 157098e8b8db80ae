"""A sweep file to its cells: variant x grid point x fold x seed, each with the signature of its trial."""

import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, get_args

from experiments import captions, data, encoder
from experiments.config import Representation, RunConfig
from experiments.identity import FileDigests, canonical, digest, flat, signature
from experiments.ledger import Store, write_json
from experiments.settings import NAMES, OWNED, Setting, resolve, settings
from experiments.yamlfile import Document, FileError, Keys, nearest, read

WORDS = ("base", "set", "variants", "grid", "exclude", "seeds", "folds", "reference", "contrasts", "primary")
MAX_CELLS = 10_000


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
    """A planned sweep. `configs` and `digests` are by signature; `merged` counts equal points that became
    one, `excluded` those that `exclude` dropped."""

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

    def plan(self) -> dict[str, Any]:
        """What `<store>/sweeps/<name>/plan.json` holds: all that analysis and tracking need."""
        first = next(iter(self.configs.values()))
        by_row = {cell.row: self.configs[cell.signature] for cell in reversed(self.cells)}
        settings = [flat(config.model_dump(mode="json")) for config in by_row.values()]
        differs = [name for name in settings[0] if any(s[name] != settings[0][name] for s in settings)]
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
            "unit": "seed" if first.data.split == "official" else "fold",
            "rows": [row._asdict() for row in self.rows],
            "differs": [name for name in differs if name not in OWNED],
            "cells": [cell._asdict() for cell in self.cells],
        }

    def save(self, store: Store) -> None:
        write_json(store.sweep(self.name) / "plan.json", self.plan())


def load(path: Path, store: Store) -> Sweep:
    """Plan the sweep file; raises FileError with one line before anything runs."""
    document = read(path)
    for word in document.data:
        if word not in WORDS:
            hint = "put it under `set:`" if word in NAMES else nearest(word, WORDS)
            raise document.error((word,), f"unknown word '{word}': {hint}")
    try:
        store.sweep(path.stem)
    except ValueError as error:
        raise FileError(str(path), None, str(error)) from None
    return _Planner(document, store).sweep(path.stem)


class _Planner:
    """Turns a read sweep file into cells, holding what every step needs: the file and the digests."""

    def __init__(self, document: Document, store: Store) -> None:
        self.document, self.data = document, document.data
        self.files = FileDigests(store.cache)
        self.banks: dict[str, str] = {}

    def sweep(self, name: str) -> Sweep:
        base = self.base() | self.layer("set")
        rows, excluded = self.rows()
        base_config = resolve(base, self.document, ())
        seeds = self.numbers("seeds", None)
        top = 1 if base_config.data.split == "official" else base_config.data.folds
        folds = self.numbers("folds", top)
        total = len(rows) * len(seeds) * len(folds)
        if total > MAX_CELLS:
            raise self.error("grid", f"{total:,} cells are more than the limit of {MAX_CELLS:,}")
        merged, kept, seen = 0, [], set()
        cells: dict[tuple[str, int | None, int], Cell] = {}
        configs: dict[str, RunConfig] = {}
        digests: dict[str, dict[str, str | None]] = {}
        reference, contrasts = self.reference([row for row, _, _ in rows])
        for row, layers, at in rows:
            config = resolve(base | layers, self.document, at)
            if config.data.name != base_config.data.name:
                raise self.document.error(at, "a sweep holds one data set: write one sweep for each")
            point = (row.variant, digest(canonical(config)))
            if point in seen:
                merged += len(seeds) * len(folds)
                continue
            seen.add(point)
            kept.append(row)
            for seed, fold in itertools.product(seeds, folds):
                cell_config = self.cell_config(config, seed, fold)
                found = self.digests(cell_config)
                name_of = signature(cell_config, found)
                seedless = "seed" in cell_config.unused()
                cell = Cell(row.name, row.variant, None if seedless else seed, fold, name_of)
                merged += cell[:1] + cell[2:4] in cells
                cells.setdefault((cell.row, cell.seed, fold), cell)
                configs[name_of], digests[name_of] = cell_config, found
        order = {row.name: i for i, row in enumerate(sorted(kept, key=lambda r: r.name != reference))}
        return Sweep(
            name=name,
            question=self.document.comment,
            rows=kept,
            cells=sorted(cells.values(), key=lambda c: (c.seed or 0, c.fold, order[c.row])),
            configs=configs,
            digests=digests,
            reference=reference,
            contrasts=contrasts,
            merged=merged,
            excluded=excluded,
        )

    def error(self, word: str, message: str) -> FileError:
        return self.document.error((word,), message)

    def layer(self, word: str) -> dict[str, Setting]:
        return settings(self.document, (word,), self.data[word]) if word in self.data else {}

    def base(self) -> dict[str, Setting]:
        if "base" not in self.data:
            return {}
        name = self.data["base"]
        if not isinstance(name, str):
            raise self.error("base", f"base is the path of a YAML file, not {name!r}")
        path = self.document.path.parent / name
        if not path.is_file():
            folder = path.parent if path.parent.is_dir() else self.document.path.parent
            there = [str(p.relative_to(self.document.path.parent)) for p in sorted(folder.glob("**/*.yaml"))]
            raise self.error("base", f"base file '{name}' does not exist: {nearest(name, there)}")
        document = read(path)
        return settings(document, (), document.data)

    def rows(self) -> tuple[list[tuple[Row, dict[str, Setting], Keys]], int]:
        """Every variant at every grid point, less the excluded, and how many those were."""
        variants = self.data.get("variants", {"base": {}})
        if not isinstance(variants, dict) or not variants:
            raise self.error("variants", "variants is a mapping: a name and its settings, one at least")
        points = self.grid()
        limit = len(variants) * math.prod(len(values) for values in points.values())
        if limit > MAX_CELLS:
            raise self.error("grid", f"{limit:,} points are more than the limit of {MAX_CELLS:,} cells")
        excludes = self.excludes(set(points))
        used = [False] * len(excludes)
        out, excluded = [], 0
        for variant, value in variants.items():
            at: Keys = ("variants", variant) if "variants" in self.data else ()
            layers = settings(self.document, at, {} if value is None else value)
            for values in itertools.product(*points.values()):
                grid = dict(zip(points, values, strict=True))
                factors = {k: s.value for k, s in layers.items()} | {k: s.value for k, s in grid.items()}
                hits = [
                    all(({"variant": variant} | factors).get(k) == v for k, v in e.items()) for e in excludes
                ]
                used = [u or hit for u, hit in zip(used, hits, strict=True)]
                if any(hits):
                    excluded += 1
                    continue
                out.append((Row(self.row_name(variant, grid), variant, factors), layers | grid, at))
        if not all(used):
            index = used.index(False)
            raise self.document.error(("exclude", index), "this entry excludes nothing")
        if not out:
            raise self.error("exclude", "nothing is left to run")
        return out, excluded

    def row_name(self, variant: str, grid: dict[str, Setting]) -> str:
        short = [f"{k.split('.')[-1]}={json.dumps(s.value).replace(chr(34), '')}" for k, s in grid.items()]
        return " ".join(([variant] if "variants" in self.data else []) + short) or variant

    def grid(self) -> dict[str, list[Setting]]:
        if "grid" not in self.data:
            return {}
        grid = self.data["grid"]
        if not isinstance(grid, dict) or not grid:
            raise self.error("grid", "grid is empty: give it a setting and a list of values, or leave it out")
        out = {}
        for name, setting in settings(self.document, ("grid",), grid).items():
            if not isinstance(setting.value, list) or not setting.value:
                raise self.document.error(setting.at, f"'{name}' needs a list of values, one at least")
            out[name] = [
                Setting(value, self.document, (*setting.at, i)) for i, value in enumerate(setting.value)
            ]
        return out

    def excludes(self, grid: set[str]) -> list[dict[str, Any]]:
        entries = self.data.get("exclude", [])
        if not isinstance(entries, list):
            raise self.error("exclude", "exclude is a list of settings that don't go together")
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry:
                raise self.document.error(("exclude", i), "expected settings (name: value) here")
            for name in entry:
                if name != "variant" and name not in NAMES:
                    hint = nearest(name, ["variant", *NAMES])
                    raise self.document.error(("exclude", i, name), f"unknown setting '{name}': {hint}")
        return entries

    def numbers(self, word: str, top: int | None) -> list[int]:
        """`seeds: 3` is 0, 1, 2; a list is itself."""
        value = self.data.get(word, 1)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_CELLS:
            value = list(range(value))
        good = isinstance(value, list) and value and all(type(v) is int and v >= 0 for v in value)
        if not good or len(set(value)) < len(value):
            raise self.error(word, f"{word} is a number from 1 or a list of different numbers, not {value!r}")
        if top is not None and max(value) >= top:
            raise self.error(word, f"fold {max(value)} is asked for, but this data has folds 0 to {top - 1}")
        return value

    def reference(self, rows: list[Row]) -> tuple[str | None, list[list[str]]]:
        names = [row.name for row in rows]
        reference, contrasts = self.data.get("reference"), self.data.get("contrasts", [])
        if reference is not None and reference not in names:
            raise self.error("reference", f"no row is named {reference!r}: {nearest(str(reference), names)}")
        if not isinstance(contrasts, list):
            raise self.error("contrasts", "contrasts is a list of pairs [row, row]")
        for i, pair in enumerate(contrasts):
            at = ("contrasts", i)
            if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
                raise self.document.error(at, f"a contrast is a pair of two rows, not {pair!r}")
            for name in pair:
                if name not in names:
                    raise self.document.error(at, f"no row is named {name!r}: {nearest(str(name), names)}")
        return reference, contrasts

    def cell_config(self, config: RunConfig, seed: int, fold: int) -> RunConfig:
        representations = [r for r in get_args(Representation) if r != "statistics"]
        primary = self.data.get("primary", config.probe.representation)
        if primary not in representations:
            raise self.error(
                "primary", f"{primary!r} is no representation: {nearest(str(primary), representations)}"
            )
        return config.model_copy(
            update={
                "seed": seed,
                "data": config.data.model_copy(update={"fold": fold}),
                "probe": config.probe.model_copy(update={"representation": primary}),
            }
        )

    def digests(self, config: RunConfig) -> dict[str, str | None]:
        """What the config's names stand for: the raw data, the texts and the encoder's files."""
        entry = data.DATASETS[config.data.name]
        found: dict[str, str | None] = {"data": data.data_digest(self.files.of(entry.files()))}
        found |= {"text": None, "encoder": None}
        if config.reads_text:
            found["encoder"] = self.files.of(encoder.files(config.text.encoder))
            key = json.dumps([config.data.name, config.text.form, config.text.control])
            if key not in self.banks:
                path = captions.bank_path(config.data.name)
                self.banks[key] = digest(captions.class_texts(path, config.text, entry.classes))
            found["text"] = self.banks[key]
        return found
