"""A sweep file to its cells: variant x grid point x fold x seed, each with the signature of its trial."""

import itertools
import json
import math
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from experiments import data, words
from experiments.config import Representation, RunConfig
from experiments.identity import by_seed, canonical, digest
from experiments.ledger import Store
from experiments.named import Named
from experiments.plan import Cell, Row, Sweep
from experiments.reach import Reach, Search, reach, shared
from experiments.settings import (
    DEFAULTS,
    NAMES,
    OWNED,
    Layer,
    choices,
    exclusions,
    resolve,
    settings,
)
from experiments.space import read_word
from experiments.studies import Studies
from experiments.yamlfile import Document, FileError, Keys, nearest, read

WORDS = (
    "base", "set", "variants", "grid", "search", "exclude", "seeds", "folds", "reference", "contrasts",
    "primary",
)  # fmt: skip
MAX_CELLS = 10_000
MAX_SEED = 2**32 - 1  # numpy's and scikit-learn's
MAX_NAME = 100


class Point(NamedTuple):
    """What a variant and a grid point set, and where the variant stands."""

    variant: str
    own: Layer
    grid: Layer
    at: Keys

    @property
    def layer(self) -> Layer:
        return self.own | self.grid


def load(path: Path, store: Store) -> Sweep:
    """Plan the sweep file; raises FileError with one line before anything runs."""
    document = read(path)
    for word in document.data:
        if word in OWNED:
            raise document.error((word,), f"'{word}' is set by the word `{OWNED[word]}`")
        if word not in WORDS:
            hint = "put it under `set:`" if word in NAMES else nearest(word, WORDS)
            raise document.error((word,), f"unknown word '{word}': {hint}")
    try:
        store.sweep(path.stem)
    except ValueError as error:
        raise FileError(str(path), None, str(error)) from None
    sweep = _Planner(document, store).sweep(path.stem)
    return Studies(sweep, store).sweep if sweep.searches else sweep


class _Planner:
    """Turns a read sweep file into cells, holding what every step needs: the file and the digests."""

    def __init__(self, document: Document, store: Store) -> None:
        self.document, self.data = document, document.data
        self.word = read_word(document)
        self.reaches: dict[str, Reach] = {}  # of the rows that are searched
        self.named = Named(store)

    def sweep(self, name: str) -> Sweep:
        seeds, folds, primary = self.numbers("seeds"), self.numbers("folds"), self.primary()
        base = self.base()
        own = settings(self.document, ("set",), self.data["set"]) if "set" in self.data else {}
        common = resolve([base, own], self.document, (), data.check)
        points, excluded = self.points(base, own, common)
        each = len(seeds) * len(folds)
        self.limit(len(points) * each, "seeds" if len(seeds) > len(folds) else "folds")
        rows = self.rows(base, own, points, common, primary)
        if max(folds) > (last := data.last_fold(common.data)):
            message = f"fold {max(folds)} is asked for, but the data's last one is {last}"
            raise self.error("folds", message)
        reference, contrasts = self.compared([row.name for row, _ in rows])
        digests_of = {row.name: self.named.digests(config) for row, config in rows}
        ordered = sorted(rows, key=lambda pair: pair[0].name != reference)
        at = {
            (row.name, fold): by_seed(config.cell(seeds[0], fold, primary), digests_of[row.name], seeds)
            for (row, config), fold in itertools.product(rows, folds)
        }
        asked = {
            (name, fold): Search(
                name, fold, seeds[0], primary, self.word, found, self.document, self.named.digests
            )
            for (name, found), fold in itertools.product(self.reaches.items(), folds)
            if self.word
        }
        self.limit(len(points) * each + sum(one.spec["trials"] for one in asked.values()), "search")
        cells: list[Cell] = []
        configs: dict[str, RunConfig] = {}
        digests: dict[str, dict[str, str | None]] = {}
        for seed, fold, (row, config) in itertools.product(seeds, folds, ordered):
            seedless = "seed" in config.unused()
            if seedless and seed != seeds[0]:
                continue
            one, name_of = at[row.name, fold][seed]
            cell_seed = None if seedless else seed
            if search := asked.get((row.name, fold)):
                name_of = search.placeholder(cell_seed)
            cells.append(Cell(row.name, row.variant, cell_seed, fold, name_of))
            configs[name_of], digests[name_of] = one, digests_of[row.name]
        return Sweep(
            name=name,
            question=self.document.comment,
            rows=[row for row, _ in rows],
            cells=cells,
            configs=configs,
            digests=digests,
            reference=reference,
            contrasts=contrasts,
            merged=len(points) * each - len(cells),
            excluded=excluded * each,
            searches=tuple(asked.values()),
        )

    def error(self, word: str, message: str) -> FileError:
        return self.document.error((word,), message)

    def limit(self, cells: int, word: str) -> None:
        if cells > MAX_CELLS:
            raise self.error(word, f"{cells:,} cells are more than the limit of {MAX_CELLS:,}")

    def base(self) -> Layer:
        if "base" not in self.data:
            return {}
        name, here = self.data["base"], self.document.path.parent
        if not isinstance(name, str):
            raise self.error("base", f"base is the path of a YAML file, not {name!r}")
        if not os.path.lexists(here / name):
            folder = (here / name).parent if os.path.isdir((here / name).parent) else here
            there = sorted(p for p in (*folder.glob("*.yaml"), *folder.glob("*/*.yaml")) if p.is_file())
            hint = nearest(name, [os.path.relpath(p, here) for p in there if p != self.document.path])
            raise self.error("base", f"base file '{name}' does not exist: {hint}")
        if os.path.exists(here / name) and os.path.samefile(here / name, self.document.path):
            raise self.error("base", "base is this very file")
        document = read(here / name)
        for word in document.data:
            if word in WORDS:
                raise document.error((word,), f"`{word}` belongs in the sweep file, not in its base")
        return settings(document, (), document.data)

    def points(self, base: Layer, own: Layer, common: RunConfig) -> tuple[list[Point], int]:
        """Every variant at every grid point, less the excluded, and how many those were."""
        variants = self.data.get("variants", {"base": {}})
        if not isinstance(variants, dict) or not variants:
            raise self.error("variants", "variants is a mapping: a name and its settings, one at least")
        grid = choices(self.document, ("grid",), self.data["grid"]) if "grid" in self.data else {}
        total = len(variants) * math.prod(map(len, grid.values()))
        self.limit(total, "grid" if grid else "variants")
        excludes = exclusions(self.document, list(variants))
        if self.word:
            self.word.refuse(grid, excludes, shared(common))
        used, out = [False] * len(excludes), []
        for variant, value in variants.items():
            at: Keys = ("variants", variant) if "variants" in self.data else ()
            if not 0 < len(variant.strip()) == len(variant) <= MAX_NAME or not variant.isprintable():
                message = (
                    f"a variant's name is one line of text ({MAX_NAME} letters at most), not {variant!r}"
                )
                raise self.document.error(at, message)
            mine = settings(self.document, at, {} if value is None else value)
            for name, setting in (own | mine).items():
                if name in grid:
                    raise setting.error(f"'{name}' is set here and varied by the grid: keep one of the two")
                if self.word and name in self.word.space:
                    raise setting.error(f"'{name}' is set here and searched: keep one of the two")
            for values in itertools.product(*grid.values()):
                point = Point(variant, mine, dict(zip(grid, values, strict=True)), at)
                hits = [entry.hits(variant, base | own | point.layer) for entry in excludes]
                used = [u or hit for u, hit in zip(used, hits, strict=True)]
                if not any(hits):
                    out.append(point)
        if not all(used):
            raise self.document.error(("exclude", used.index(False)), "this entry excludes nothing")
        if not out:
            raise self.error("exclude", "nothing is left to run")
        return out, total - len(out)

    def rows(
        self, base: Layer, own: Layer, points: list[Point], common: RunConfig, primary: Representation
    ) -> list[tuple[Row, RunConfig]]:
        """Rows and their configs; equal points of one variant are one row."""
        check = partial(self.check, primary)
        reaches: dict[tuple[str, str], Reach] = {}
        out: dict[tuple[str, str], tuple[Row, RunConfig]] = {}
        read: set[tuple[str | None, str]] = set()
        for point in points:
            found = reach(self.word, [base, own, point.layer], self.document, point.at, check)
            config = found.config
            for name in shared(common):
                field = name.removeprefix("data.")
                if getattr(config.data, field) != getattr(common.data, field):
                    where = point.layer[name]
                    raise where.error(f"rows are paired, so {name} is one for all: write a sweep for each")
            read |= {(point.variant, name) for name in point.own if not found.off(name)}
            read |= {(None, name) for name in own if not found.off(name)}
            key = point.variant, digest(canonical(config, every=bool(found.names)))
            out.setdefault(key, (self.row(point), config))
            reaches.setdefault(key, found)
        trains = any(config.baseline == "none" for _, config in out.values())
        for variant, layer in [(None, own if trains else {}), *((p.variant, p.own) for p in points)]:
            for name, setting in layer.items():
                if (variant, name) not in read and setting.value != "none":
                    rows = "the variant's other settings switch" if variant else "every row switches"
                    raise setting.error(f"'{name}' has no effect: {rows} it off")
        asked, left = Counter(point.variant for point in points), Counter(variant for variant, _ in out)
        alone = {v for v in asked if "variants" in self.data and asked[v] > left[v] == 1}
        owns = {point.variant: point.own for point in points}
        named = [
            (self.row(Point(row.variant, owns[row.variant], {}, ())) if row.variant in alone else row, config)
            for row, config in out.values()
        ]
        name, times = Counter(row.name for row, _ in named).most_common(1)[0]
        if times > 1:
            raise self.error("variants", f"two rows would be named {name!r}: rename one of the variants")
        pairs = zip(named, reaches.values(), strict=True)
        self.reaches = {row.name: found for (row, _), found in pairs if found.names}
        if self.word:
            self.word.check(self.reaches)
        return named

    def check(self, primary: Representation, config: RunConfig) -> None:
        data.check(config)
        words.check(config)
        config.check_primary(primary)
        if config.reads_encoder:
            self.named.encoder(config.text.encoder)

    def row(self, point: Point) -> Row:
        factors = {name: setting.written for name, setting in point.layer.items()}
        short = [f"{k.split('.')[-1]}={json.dumps(factors[k]).replace(chr(34), '')}" for k in point.grid]
        named = [point.variant] if "variants" in self.data or not short else []
        return Row(" ".join(named + short), point.variant, factors)

    def numbers(self, word: str) -> list[int]:
        """`seeds: 3` is 0, 1, 2; a list is itself."""
        value = self.data.get(word, 1)
        if type(value) is int and value > 0:
            self.limit(value, word)
            return list(range(value))
        good = isinstance(value, list) and value and all(type(v) is int and v >= 0 for v in value)
        if good and max(value) > MAX_SEED:
            raise self.error(word, f"{word} go up to {MAX_SEED:,}, not {max(value):,}")
        if good and len(set(value)) == len(value):
            return value
        raise self.error(word, f"{word} is a number from 1 or a list of different numbers, not {value!r}")

    def primary(self) -> Any:
        known = [name for name in get_args(Representation) if name != "statistics"]
        primary = self.data.get("primary", DEFAULTS["probe.representation"])
        if primary not in known:
            raise self.error("primary", f"{primary!r} is no representation: {nearest(str(primary), known)}")
        return primary

    def compared(self, rows: list[str]) -> tuple[str | None, list[list[str]]]:
        """The reference row and the contrasts."""
        reference, contrasts = self.data.get("reference"), self.data.get("contrasts", [])
        named: list[tuple[Keys, Any]] = [(("reference",), reference)] if reference is not None else []
        if not isinstance(contrasts, list):
            raise self.error("contrasts", "contrasts is a list of pairs [row, row]")
        for i, pair in enumerate(contrasts):
            at: Keys = ("contrasts", i)
            if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
                raise self.document.error(at, f"a contrast is a pair of two rows, not {pair!r}")
            named += [((*at, 0), pair[0]), ((*at, 1), pair[1])]
        for at, name in named:
            if name not in rows:
                raise self.document.error(at, f"no row is named {name!r}: {nearest(str(name), rows)}")
        return reference, contrasts
