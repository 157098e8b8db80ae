"""What a row of a searched sweep can come to, and the search of it on one fold."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from experiments.config import Representation, RunConfig
from experiments.identity import canonical, digest
from experiments.settings import Layer, built, inside, resolve, setting
from experiments.space import Word
from experiments.yamlfile import Document, Keys

SHARED = ("data.name", "data.split", "data.folds")  # what decides who is in a fold
CUT = ("data.window_s", "data.overlap_frac")  # at random, the windows do too
MIXED = 64  # mixtures of values that are looked at, to see which settings a row reads
Digests = dict[str, str | None]
Check = Callable[[RunConfig], None]  # may raise ValueError


def shared(common: RunConfig) -> tuple[str, ...]:
    """Settings that all rows of a sweep have the same."""
    return (*SHARED, *(CUT if common.data.split == "leaky_random" else ()))


class Reach(NamedTuple):
    """What a row can come to. config: the row with its searched settings, `names`, at values that go
    together, `start`; layers: its settings without them; mixed: mixtures of values; idle: what each that goes
    together switches off."""

    config: RunConfig
    names: list[str]
    start: Layer
    layers: list[Layer]
    mixed: list[Layer]
    idle: list[set[str]]
    check: Check

    def off(self, name: str) -> bool:
        """Whether no mixture reads the setting."""
        return all(inside(name, unused) for unused in self.idle)

    def problem(self, value: Layer) -> str | None:
        """What speaks against the value whatever the other settings; None where it goes with some."""
        problems = [
            found
            for others in (self.start, *self.mixed)
            if isinstance(found := built([*self.layers, others, value], self.check), str)
        ]
        return problems[0] if len(problems) > len(self.mixed) else None


def reach(word: Word | None, layers: list[Layer], document: Document, at: Keys, check: Check) -> Reach:
    """Of a row with these settings, which stands at `at`; raises FileError where nothing goes together."""
    if word is None:
        config = resolve(layers, document, at, check)
        return Reach(config, [], {}, layers, [], [config.unused()], check)
    values = [[(name, value) for value in found.ends] for name, found in word.space.items()]
    mixed = [dict(pairs) for pairs in itertools.islice(itertools.product(*values), MIXED)]
    fits = [(m, c) for m in mixed if not isinstance(c := built([*layers, m], check), str)]
    start, config = fits[0] if fits else (mixed[0], resolve([*layers, mixed[0]], document, at, check))
    idle = [config.unused() for _, config in fits]
    names = [name for name in word.space if not all(inside(name, unused) for unused in idle)]
    if not names:
        config = resolve(layers, document, at, check)
    return Reach(config, names, {name: start[name] for name in names}, layers, mixed, idle, check)


@dataclass(frozen=True)
class Search:
    """What one study searches: its trials run at `seed`; `digests` are of the files that a config names."""

    row: str
    fold: int
    seed: int
    primary: Representation
    word: Word
    reach: Reach
    document: Document
    digests: Callable[[RunConfig], Digests]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """`Word.spec` of the settings that the row reads."""
        return self.word.spec(self.reach.names)

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
        """Values that go together."""
        return {name: value.written for name, value in self.reach.start.items()}

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
