"""The word `search:` of a sweep file: which settings are searched, where, and with how many trials a row."""

import json
import math
from decimal import Decimal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.settings import NAMES, Exclusion, Setting, leaves, setting
from experiments.yamlfile import Document, Keys, nearest

if TYPE_CHECKING:
    from experiments.reach import Reach

WORDS = ("trials", "sampler", "pruner", "parallel", "seed", "space")
BOUNDS = ("low", "high", "step", "log")
SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc", "nsgaii", "nsgaiii", "brute_force")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive_halving", "threshold", "patient")
NEEDS = {"cmaes": "cmaes", "gp": "torch"}  # sampler -> the package that it imports
LISTED = 100  # values of a whole-number range that are checked one by one


class Chosen(NamedTuple):
    """A sampler or a pruner by its name, and its settings."""

    name: str
    options: dict[str, Any]


class Dimension(NamedTuple):
    """One searched setting. `written`: a sorted list of values, or a range {low, high, step, log}; `values`:
    those that can be checked alone, a range's ends at least."""

    written: Any
    values: list[Setting]

    @property
    def ends(self) -> list[Setting]:
        """All values of a list, the ends of a range."""
        return self.values if isinstance(self.written, list) else [self.values[0], self.values[-1]]


class Word(NamedTuple):
    """`search:`, read. `at` is where the file has it."""

    trials: int
    sampler: Chosen
    pruner: Chosen
    parallel: int
    seed: int
    space: dict[str, Dimension]

    def refuse(
        self, grid: dict[str, list[Setting]], excludes: list[Exclusion], shared: tuple[str, ...]
    ) -> None:
        """Raise FileError where a searched setting is one for all rows, or in the grid or `exclude`."""
        for name, dimension in self.space.items():
            if name in shared:
                message = f"rows are paired, so {name} is one for all: write a sweep for each"
                raise dimension.values[0].error(message)
            if name in grid:
                raise grid[name][0].error(f"'{name}' is in the grid and searched: keep one of the two")
            for entry in excludes:
                if name in entry.layer:
                    raise entry.layer[name].error(f"'{name}' is searched, and a row has no one value of it")

    def check(self, reaches: "dict[str, Reach]") -> None:
        """Raise FileError where a value goes with none of the others in a row, or no row reads a setting."""
        for row, found in reaches.items():
            for name in found.names:
                for value in self.space[name].values:
                    if problem := found.problem({name: value}):
                        raise value.error(f"{name} {json.dumps(value.written)} in row '{row}': {problem}")
        for name, dimension in self.space.items():
            if not any(name in found.names for found in reaches.values()):
                raise dimension.values[0].error(f"'{name}' has no effect: every row switches it off")

    def spec(self, names: list[str]) -> dict[str, Any]:
        """As JSON, with those of the searched settings: all that decides what is suggested."""
        return {
            "trials": self.trials,
            "sampler": self.sampler._asdict(),
            "pruner": self.pruner._asdict(),
            "parallel": self.parallel,
            "seed": self.seed,
            "space": {name: self.space[name].written for name in names},
        }


def read_word(document: Document) -> Word | None:
    """The sweep file's `search:`; None where it has none. Raises FileError."""
    if "search" not in document.data:
        return None
    found, at = document.data["search"], ("search",)
    if not isinstance(found, dict):
        raise document.error(at, f"search is a mapping with trials and space, not {found!r}")
    for word in found:
        if word not in WORDS:
            hint = "put it under `space:`" if word in NAMES else nearest(word, WORDS)
            raise document.error((*at, word), f"unknown word '{word}' in search: {hint}")
    for word in ("trials", "space"):
        if word not in found:
            raise document.error(at, f"search needs `{word}:`")
    word = Word(
        trials=_number(document, found, "trials", 1),
        sampler=_chosen(document, "sampler", found.get("sampler", "tpe"), SAMPLERS),
        pruner=_chosen(document, "pruner", found.get("pruner", "none"), PRUNERS),
        parallel=_number(document, found, "parallel", 1),
        seed=_number(document, found, "seed", 0),
        space=_space(document, found["space"]),
    )
    from experiments import suggest

    for name, dimension in word.space.items():
        try:
            suggest.distributions({name: dimension.written})
        except (ValueError, ArithmeticError) as error:
            message = f"Optuna takes no such range for '{name}': {type(error).__name__}"
            raise dimension.values[0].error(message) from None
        endless = isinstance(dimension.written, dict) and isinstance(dimension.written["low"], float)
        if word.sampler.name == "brute_force" and endless and "step" not in dimension.written:
            message = f"sampler brute_force tries all values, and '{name}' has no end of them: give it a step"
            raise dimension.values[0].error(message)
    return word


def _number(document: Document, found: dict[str, Any], word: str, least: int) -> int:
    value = found.get(word, least)
    if type(value) is not int or value < least:
        raise document.error(("search", word), f"{word} is a whole number from {least}, not {value!r}")
    return value


def _chosen(document: Document, kind: str, value: Any, known: tuple[str, ...]) -> Chosen:
    """A name, or `{name: ..., its settings}`."""
    at: Keys = ("search", kind)
    options = value if isinstance(value, dict) else {"name": value}
    if "name" not in options:
        raise document.error(at, f"{kind} needs its name: {{name: {known[1]}, ...}}")
    name = "none" if options["name"] is None else options["name"]
    if name not in known:
        at = (*at, "name") if isinstance(value, dict) else at
        raise document.error(at, f"{name!r} is no {kind}: {nearest(str(name), known)}")
    if (package := NEEDS.get(name)) and find_spec(package) is None:
        raise document.error(at, f"{kind} {name} needs the package {package}: pip install {package}")
    chosen = Chosen(name, {key: options[key] for key in sorted(options) if key != "name"})
    from experiments import suggest  # what Optuna takes, Optuna knows

    try:
        suggest.check(kind, chosen)
    except suggest.OptionError as error:
        raise document.error((*at, error.option) if error.option else at, str(error)) from None
    return chosen


def _space(document: Document, value: Any) -> dict[str, Dimension]:
    at: Keys = ("search", "space")
    if not isinstance(value, dict) or not value:
        raise document.error(at, "the space is empty: give it a setting and its range or values")
    out = {}
    for name, (found, here) in leaves(document, at, value).items():
        extra = NAMES[name].json_schema_extra
        if name == "baseline":
            raise document.error(here, "a row is of one kind, so baseline is not searched: use variants")
        if isinstance(extra, dict) and extra.get("inert"):
            raise document.error(here, f"'{name}' changes no result: leave it out of the search")
        if isinstance(found, list):
            out[name] = _values(document, here, name, found)
        elif isinstance(found, dict):
            out[name] = _range(document, here, name, found)
        else:
            raise document.error(here, f"'{name}' needs a list of values or {{low: ..., high: ...}}")
    return dict(sorted(out.items()))


def _values(document: Document, at: Keys, name: str, found: list[Any]) -> Dimension:
    if len(found) < 2:
        raise document.error(at, f"'{name}' needs two values at least: one alone belongs under `set:`")
    values = [setting(name, written, document, (*at, i)) for i, written in enumerate(found)]
    for i, one in enumerate(values):
        if any(one.value == other.value for other in values[:i]):
            raise one.error(f"'{name}' has {json.dumps(one.written)} twice")
    values.sort(key=lambda one: rank(one.written))
    return Dimension([one.written for one in values], values)


def rank(written: Any) -> tuple[bool, float, str]:
    """Numbers first, by size: the order in the file means nothing."""
    number = isinstance(written, int | float) and not isinstance(written, bool)
    return not number, written if number else 0, json.dumps(written, sort_keys=True)


def _range(document: Document, at: Keys, name: str, found: dict[str, Any]) -> Dimension:
    """Numbers from low to high, both included."""
    for key in found:
        if key not in BOUNDS:
            raise document.error((*at, key), f"unknown '{key}' in a range: {nearest(key, BOUNDS)}")
    for key in ("low", "high"):
        if key not in found:
            raise document.error(at, f"'{name}' needs `{key}:`")
    low, high = (setting(name, found[key], document, (*at, key)) for key in ("low", "high"))
    log, step = found.get("log", False), found.get("step")
    if any(type(end.value) not in (int, float) for end in (low, high)):
        raise document.error(at, f"'{name}' has no range of numbers: give it a list of values")
    if type(log) is not bool:
        raise document.error((*at, "log"), f"log is true or false, not {log!r}")
    if not low.value < high.value:
        raise document.error((*at, "high"), f"high {high.written} is not above low {low.written}")
    if log and step is not None:
        raise document.error((*at, "step"), "a range with log has no step: keep one of the two")
    if log and low.value <= 0:
        raise low.error(f"low {low.written} has no logarithm: a range with log starts above 0")
    whole = type(low.value) is int
    if step is None:
        values = [low, high]
        if whole and not log:
            values = _listed(document, at, name, low, high, 1) or values
        return Dimension({"low": low.value, "high": high.value, "log": log}, values)
    fits = type(step) is int if whole else type(step) in (int, float) and math.isfinite(step)
    if not fits or step <= 0:
        kind = "whole number" if whole else "number"
        raise document.error((*at, "step"), f"step is a {kind} above 0, not {step!r}")
    parts = (Decimal(str(high.value)) - Decimal(str(low.value))) / Decimal(str(step))
    if parts != int(parts):
        message = f"high {high.written} is not low {low.written} plus a multiple of step {step}"
        raise document.error((*at, "high"), message)
    values = (_listed(document, at, name, low, high, step) if whole else None) or [low, high]
    step = step if whole else float(step)
    return Dimension({"low": low.value, "high": high.value, "step": step, "log": False}, values)


def _listed(
    document: Document, at: Keys, name: str, low: Setting, high: Setting, step: int
) -> list[Setting] | None:
    """All of a range's whole numbers, where they are few."""
    if (high.value - low.value) // step >= LISTED:
        return None
    between = [Setting(number, number, document, at) for number in range(low.value + step, high.value, step)]
    return [low, *between, high]
