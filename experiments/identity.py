"""A trial is its resolved config: signature = hash(canonical JSON of the config, digests included)."""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.config import RunConfig
from experiments.ledger import keep_json, read_json


def canonical(config: RunConfig, every: bool = False) -> dict[str, Any]:
    """The part of the config that can change a result: no inert fields, no switched-off subtrees (unless
    `every`: what a search switches on is not known), no late-comers at the literal value where they leave
    the hash."""
    return _prune(config, "", set() if every else config.unused())


def _prune(node: BaseModel, prefix: str, unused: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, dotted, below, leaves_at in _fields(type(node), prefix):
        if dotted in unused:
            continue
        value = getattr(node, name)
        if below:
            value = _prune(value, f"{dotted}.", unused)
        if leaves_at is _NEVER or leaves_at != value:
            out[name] = list(value) if type(value) is tuple else value
    return out


_NEVER = object()


@cache
def _fields(kind: type[BaseModel], prefix: str) -> list[tuple[str, str, bool, Any]]:
    """Fields that can change a result: name, dotted name, whether it holds settings, and the value at which
    it leaves the hash."""
    out = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        below = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if not extra.get("inert"):
            out.append((name, f"{prefix}{name}", below, extra.get("leaves_at", _NEVER)))
    return out


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form: sorted keys, shortest round-trip numbers."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signature(config: RunConfig, digests: dict[str, str | None]) -> str:
    """16 hex digits that name the trial."""
    return digest({"config": canonical(config), "digests": digests})[:16]


def by_seed(
    config: RunConfig, digests: dict[str, str | None], seeds: Iterable[int]
) -> dict[int, tuple[RunConfig, str]]:
    """The config at each seed and its signature. Nothing but the seed differs, so the rest is pruned once:
    that is most of the time that planning takes."""
    known, out = canonical(config), {}
    for seed in seeds:
        one = known | {"seed": seed} if "seed" in known else known
        name = digest({"config": one, "digests": digests})[:16]
        out[seed] = config.model_copy(update={"seed": seed}), name
    return out


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict to dotted names."""
    out: dict[str, Any] = {}
    for name, value in node.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return out


def different(one: BaseModel, other: BaseModel, prefix: str = "") -> set[str]:
    """Dotted names of the settings in which two configs differ."""
    out: set[str] = set()
    for name in type(one).model_fields:
        mine, others = getattr(one, name), getattr(other, name)
        if mine is others:
            continue
        if isinstance(mine, BaseModel):
            out |= different(mine, others, f"{prefix}{name}.")
        elif mine != others:
            out.add(f"{prefix}{name}")
    return out


class FileDigests:
    """SHA-256 over files' bytes, remembered by path, size and time of change: hashing an encoder's weights
    at every plan would take most of its time."""

    def __init__(self, cache: Path) -> None:
        self.path = cache / "digests.json"
        known = read_json(self.path)
        sound = known.items() if isinstance(known, dict) else ()
        self.known = {k: v for k, v in sound if isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v)}

    def of(self, files: Iterable[Path]) -> str:
        """Digest of the files' contents in the order given; raises FileNotFoundError."""
        total = hashlib.sha256()
        for file in files:
            stat = file.stat()
            key = f"{file}|{stat.st_size}|{stat.st_mtime_ns}"
            if key not in self.known:
                with file.open("rb") as handle:
                    self.known[key] = hashlib.file_digest(handle, "sha256").hexdigest()
                keep_json(self.path, self.known)
            total.update(self.known[key].encode())
        return total.hexdigest()
