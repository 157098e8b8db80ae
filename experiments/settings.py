"""Overrides of a config as a YAML file writes them, each checked where it stands.

Dotted (`model.guidance.into: [z]`) and nested (`model: {guidance: {into: [z]}}`) forms mean the same.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from experiments.config import RunConfig
from experiments.identity import flat
from experiments.yamlfile import Document, FileError, Keys, nearest

OWNED = {"seed": "seeds", "data.fold": "folds", "probe.representation": "primary", "evaluate": "search"}


class Setting(NamedTuple):
    """One override: as the config holds it, as it was written, and where."""

    value: Any
    written: Any
    document: Document
    at: Keys

    def error(self, message: str) -> FileError:
        return self.document.error(self.at, message)


Layer = dict[str, Setting]


def submodel(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that holds settings; None for a setting."""
    below = field.annotation
    return below if isinstance(below, type) and issubclass(below, BaseModel) else None


def dotted(model: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, FieldInfo]:
    """Every field by its dotted name, subtrees included."""
    out: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        out[prefix + name] = field
        if below := submodel(field):
            out |= dotted(below, f"{prefix}{name}.")
    return out


NAMES = dotted()
DEFAULTS = flat(RunConfig().model_dump())


def inside(name: str, subtrees: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{subtree}.") for subtree in subtrees)


def leaves(document: Document, at: Keys, value: Any, prefix: str = "") -> dict[str, tuple[Any, Keys]]:
    """What is written below `at`, by dotted name; raises FileError for an unknown or misplaced name."""
    if not isinstance(value, dict):
        raise document.error(at, f"expected settings (name: value) here, found {value!r}")
    out: dict[str, tuple[Any, Keys]] = {}
    for key, below in value.items():
        name, here = f"{prefix}{key}", (*at, key)
        if name not in NAMES:
            alike = isinstance(below, dict)
            known = [k for k in NAMES if k not in OWNED and (alike or submodel(NAMES[k]) is None)]
            raise document.error(here, f"unknown setting '{name}': {nearest(name, known)}")
        if name in OWNED:
            raise document.error(here, f"'{name}' is set by the sweep's word `{OWNED[name]}`")
        subtree = submodel(NAMES[name])
        if subtree is None:
            found = {name: (below, here)}
        elif isinstance(below, dict):
            found = leaves(document, here, below, f"{name}.")
        else:
            some = ", ".join(known for known in dotted(subtree, f"{name}.") if known not in OWNED)
            raise document.error(here, f"'{name}' holds settings, not {below!r}: set one of {some}")
        for twice in found.keys() & out.keys():
            raise document.error(here, f"'{twice}' is set twice here")
        out |= found
    return out


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    kind: Any = Annotated[NAMES[name].annotation, NAMES[name]]
    return TypeAdapter(kind)


def setting(name: str, written: Any, document: Document, at: Keys) -> Setting:
    """The value as the config will hold it; raises FileError where its type or range does not fit."""
    text = json.dumps(written, ensure_ascii=False)
    try:
        return Setting(_adapter(name).validate_json(text, strict=True), written, document, at)
    except ValidationError as error:
        faults = error.errors()
    wrong = [fault for fault in faults if fault["type"] != "too_short"] or faults  # what a wrong item leaves
    problem = " or ".join(dict.fromkeys(fault["msg"].removeprefix("Value error, ") for fault in wrong))
    expected = str(wrong[0].get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    hint = nearest(str(wrong[0]["input"]), [choice.strip("'") for choice in expected])
    if hint.startswith("did you mean"):
        problem += f"; {hint}"
    problem = problem.replace("a valid array", "a list").replace("a valid boolean", "true or false")
    raise document.error(at, f"{name}: {text} does not fit: {problem}")


def settings(document: Document, at: Keys, value: Any) -> Layer:
    """The overrides below `at`."""
    found = leaves(document, at, value)
    return {name: setting(name, written, document, here) for name, (written, here) in found.items()}


def choices(document: Document, at: Keys, value: Any) -> dict[str, list[Setting]]:
    """The overrides below `at` where each has a list of values to try."""
    if not isinstance(value, dict) or not value:
        raise document.error(at, "the grid is empty: give it a setting and a list of values, or leave it out")
    out = {}
    for name, (values, here) in leaves(document, at, value).items():
        if not isinstance(values, list) or not values:
            raise document.error(here, f"'{name}' needs a list of values, one at least")
        out[name] = [setting(name, written, document, (*here, i)) for i, written in enumerate(values)]
    return out


def resolve(
    layers: list[Layer], document: Document, at: Keys, check: Callable[[RunConfig], None]
) -> RunConfig:
    """The config that the layers make, later ones first in rank. `check` may raise ValueError too.

    Settings that don't go together raise FileError at the last one that has a say in it, or at `at`.
    """
    problem = built(layers, check)
    if not isinstance(problem, str):
        return problem
    for i in reversed(range(len(layers))):
        for name in reversed(layers[i]):
            without = {key: value for key, value in layers[i].items() if key != name}
            if built([*layers[:i], without, *layers[i + 1 :]], check) != problem:
                raise layers[i][name].error(problem)
    raise document.error(at, problem)


def built(layers: list[Layer], check: Callable[[RunConfig], None]) -> RunConfig | str:
    """The config, or what speaks against it."""
    nested: dict[str, Any] = {}
    for name, override in (item for layer in layers for item in layer.items()):
        *path, leaf = name.split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = override.value
    try:
        config = RunConfig.model_validate(nested)
        check(config)
        return config
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        return message if not where or f"{where}." in message else f"{where}: {message}"
    except ValueError as error:
        return str(error)


class Exclusion(NamedTuple):
    """Settings that don't go together: of one variant, or of any."""

    variant: str | None
    layer: Layer

    def hits(self, variant: str, layers: Layer) -> bool:
        """Whether the variant's point has every value, set or by default."""
        return self.variant in (None, variant) and all(
            setting.value == (layers[name].value if name in layers else DEFAULTS[name])
            for name, setting in self.layer.items()
        )


def exclusions(document: Document, variants: list[str]) -> list[Exclusion]:
    """The entries of `exclude`."""
    entries = document.data.get("exclude", [])
    if not isinstance(entries, list):
        raise document.error(("exclude",), "exclude is a list of settings that don't go together")
    return [_exclusion(document, ("exclude", i), entry, variants) for i, entry in enumerate(entries)]


def _exclusion(document: Document, at: Keys, entry: Any, variants: list[str]) -> Exclusion:
    if not isinstance(entry, dict) or not entry:
        raise document.error(at, "expected settings (name: value) here")
    for name in entry:
        if name not in NAMES and name != "variant":
            hint = nearest(name, ["variant", *NAMES])
            raise document.error((*at, name), f"unknown setting '{name}': {hint}")
    variant = entry.get("variant")
    if "variant" in entry and variant not in variants:
        hint = nearest(str(variant), variants)
        raise document.error((*at, "variant"), f"no variant is named {variant!r}: {hint}")
    rest = {name: value for name, value in entry.items() if name != "variant"}
    return Exclusion(variant, settings(document, at, rest))
