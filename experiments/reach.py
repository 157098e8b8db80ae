"""What a row of a searched sweep can come to, and the search of it on one fold."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from experiments.config import Representation, RunConfig
from experiments.identity import canonical, digest
from experiments.settings import Layer, built, inside, setting
from experiments.space import Word
from experiments.yamlfile import Document

SHARED = ("data.name", "data.split", "data.folds")  # what decides who is in a fold
CUT = ("data.window_s", "data.overlap_frac")  # at random, the windows do too
MIXED = 256  # mixtures of values that are looked at, to see which settings a row reads
Digests = dict[str, str | None]


def shared(common: RunConfig) -> tuple[str, ...]:
    """Settings that all rows of a sweep have the same."""
    return (*SHARED, *(CUT if common.data.split == "leaky_random" else ()))


class Reach(NamedTuple):
    """What a row can come to. names: the searched settings that it reads; layers: its settings, with those at
    their first value; idle: what each mixture of values switches off."""

    names: list[str]
    layers: list[Layer]
    spec: dict[str, Any]
    idle: list[set[str]]
    check: Callable[[RunConfig], None]

    def off(self, name: str) -> bool:
        """Whether no mixture reads the setting."""
        return all(inside(name, unused) for unused in self.idle)


def reach(
    word: Word | None, layers: list[Layer], config: RunConfig, check: Callable[[RunConfig], None]
) -> Reach:
    """Of a row with these settings, the last in rank its own; config: the row as it is without a search."""
    if word is None:
        return Reach([], layers, {}, [config.unused()], check)
    values = [
        [(name, value) for value in found.values[:: max(1, len(found.values) - 1)]]
        if isinstance(found.written, dict)
        else [(name, value) for value in found.values]
        for name, found in word.space.items()
    ]
    mixed = [dict(pairs) for pairs in itertools.islice(itertools.product(*values), MIXED)]
    found = [built([*layers, mixture], lambda _: None) for mixture in mixed]
    idle = [config.unused(), *(one.unused() for one in found if not isinstance(one, str))]
    names = [name for name in word.space if not all(inside(name, unused) for unused in idle)]
    spec = word.spec(names)
    return Reach(names, [*layers[:-1], word.first(names), layers[-1]], spec, idle, check)


@dataclass(frozen=True)
class Search:
    """What one study searches: its trials run at `seed`; `digests` are of the files that a config names."""

    row: str
    fold: int
    seed: int
    primary: Representation
    reach: Reach
    document: Document
    digests: Callable[[RunConfig], Digests]

    @property
    def spec(self) -> dict[str, Any]:
        """`Word.spec` of the settings that the row reads."""
        return self.reach.spec

    @cached_property
    def stem(self) -> str:
        """What its suggestions hang on; a larger budget goes on with the trials of a smaller one."""
        config = self.trial(self.first)
        spec = {name: value for name, value in self.spec.items() if name != "trials"}
        return digest([canonical(config, every=True), self.digests(config), spec])

    @cached_property
    def key(self) -> str:
        return digest([self.stem, self.spec["trials"]])[:16]

    @property
    def first(self) -> dict[str, Any]:
        """Every setting at its first value."""
        space = self.spec["space"].items()
        return {name: found[0] if isinstance(found, list) else found["low"] for name, found in space}

    def placeholder(self, seed: int | None) -> str:
        """What names the row's cell until the study has chosen; no trial has that signature."""
        return digest([self.key, "cell", seed])[:16]

    def _config(self, params: dict[str, Any], seed: int) -> RunConfig:
        at = ("search", "space")
        tried = {name: setting(name, value, self.document, at) for name, value in params.items()}
        config = built([*self.reach.layers, tried], self.reach.check)
        if isinstance(config, str):
            raise ValueError(config)
        return config.cell(seed, self.fold, self.primary)

    def trial(self, params: dict[str, Any]) -> RunConfig:
        """Tries the settings, on validation alone; raises ValueError where they don't go together. What the
        pruner reads must hang on the identity: where `validate_every` is no part of it, it is 1."""
        config = self._config(params, self.seed)
        update: dict[str, Any] = {"evaluate": "validation", "figures": False}
        if "train.validate_every" in config.unused():
            update["train"] = config.train.model_copy(update={"validate_every": 1})
        return config.model_copy(update=update)

    def final(self, params: dict[str, Any], seed: int | None) -> RunConfig:
        """The row at the chosen settings."""
        return self._config(params, self.seed if seed is None else seed)
