"""Overrides of a config as a YAML file writes them, each with the line to blame.

Dotted (`model.guidance.into: [z]`) and nested (`model: {guidance: {into: [z]}}`) forms mean the same.
"""

import json
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from experiments.config import RunConfig
from experiments.yamlfile import Document, FileError, Keys, nearest

OWNED = {"seed": "seeds", "data.fold": "folds", "probe.representation": "primary"}


class Setting(NamedTuple):
    """One override and where it was written."""

    value: Any
    document: Document
    at: Keys


def dotted_names(model: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, type[BaseModel] | None]:
    """Every setting's dotted name; subtrees map to their model, leaves to None."""
    out: dict[str, type[BaseModel] | None] = {}
    for name, field in model.model_fields.items():
        below = field.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            out[prefix + name] = below
            out |= dotted_names(below, f"{prefix}{name}.")
        else:
            out[prefix + name] = None
    return out


NAMES = dotted_names()


def settings(document: Document, at: Keys, value: Any, prefix: str = "") -> dict[str, Setting]:
    """Overrides below `at` as dotted name -> Setting; raises FileError for an unknown or misplaced one."""
    if not isinstance(value, dict):
        raise document.error(at, f"expected settings (name: value) here, found {value!r}")
    out: dict[str, Setting] = {}
    for key, below in value.items():
        name, here = f"{prefix}{key}", (*at, key)
        if name not in NAMES:
            raise document.error(here, f"unknown setting '{name}': {nearest(name, NAMES)}")
        if name in OWNED:
            raise document.error(here, f"'{name}' is set by the sweep's word `{OWNED[name]}`")
        subtree = NAMES[name]
        if subtree is None:
            found = {name: Setting(below, document, here)}
        elif isinstance(below, dict):
            found = settings(document, here, below, f"{name}.")
        else:
            inside = ", ".join(f"{name}.{field}" for field in subtree.model_fields)
            raise document.error(here, f"'{name}' holds settings, not {below!r}: set one of {inside}")
        for twice in found.keys() & out.keys():
            raise document.error(here, f"'{twice}' is set twice here")
        out |= found
    return out


def resolve(layers: dict[str, Setting], document: Document, at: Keys) -> RunConfig:
    """The config that the overrides make; raises FileError at the line of the override at fault."""
    nested: dict[str, Any] = {}
    for name, setting in layers.items():
        *path, leaf = name.split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = setting.value
    try:
        return RunConfig.model_validate_json(json.dumps(nested), strict=True)
    except ValidationError as error:
        raise explain(error, layers, document, at) from None


def explain(error: ValidationError, layers: dict[str, Setting], document: Document, at: Keys) -> FileError:
    """pydantic's first complaint as one line at the override that caused it."""
    fault = error.errors()[0]
    parts = [str(part) for part in fault["loc"]]
    known = [".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in NAMES]
    name = known[0] if known else ""
    message = fault["msg"].removeprefix("Value error, ")
    if name in layers:
        where = layers[name]
        value = json.dumps(where.value)
        choices = str(fault.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
        word = fault["input"] if isinstance(fault["input"], str) else None
        hint = f"; {nearest(word, [c.strip(chr(39)) for c in choices])}" if word and len(choices) > 1 else ""
        return where.document.error(where.at, f"{name}: {value} does not fit: {message}{hint}")
    inside = [
        s for key, s in layers.items() if name and key.startswith(f"{name}.") and s.document is document
    ]
    return document.error(inside[-1].at if inside else at, f"{name}: {message}" if name else message)
