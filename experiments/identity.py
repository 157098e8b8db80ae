"""A trial is its resolved config: signature = hash(canonical JSON of the config, digests included)."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.config import RunConfig
from experiments.ledger import read_json, write_json


def canonical(config: RunConfig, every: bool = False) -> dict[str, Any]:
    """The part of the config that can change a result: no inert fields, no switched-off subtrees (unless
    `every`: what a search switches on is not known), no late-comers at the literal value where they leave
    the hash."""
    return _prune(config, "", set() if every else config.unused())


def _prune(node: BaseModel, prefix: str, unused: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, field in type(node).model_fields.items():
        value, dotted = getattr(node, name), f"{prefix}{name}"
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if dotted in unused or extra.get("inert"):
            continue
        if isinstance(value, BaseModel):
            value = _prune(value, f"{dotted}.", unused)
        if "leaves_at" not in extra or extra["leaves_at"] != value:
            out[name] = list(value) if isinstance(value, tuple) else value
    return out


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form: sorted keys, shortest round-trip numbers."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signature(config: RunConfig, digests: dict[str, str | None]) -> str:
    """16 hex digits that name the trial."""
    return digest({"config": canonical(config), "digests": digests})[:16]


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict to dotted names."""
    out: dict[str, Any] = {}
    for name, value in node.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return out


class FileDigests:
    """SHA-256 over files' bytes, remembered by path, size and time of change: hashing an encoder's weights
    at every plan would take most of its time."""

    def __init__(self, cache: Path) -> None:
        self.path = cache / "digests.json"
        known = read_json(self.path)
        self.known: dict[str, str] = known if isinstance(known, dict) else {}

    def of(self, files: Iterable[Path]) -> str:
        """Digest of the files' contents in the order given; raises FileNotFoundError."""
        total = hashlib.sha256()
        for file in files:
            stat = file.stat()
            key = f"{file}|{stat.st_size}|{stat.st_mtime_ns}"
            if key not in self.known:
                with file.open("rb") as handle:
                    self.known[key] = hashlib.file_digest(handle, "sha256").hexdigest()
                write_json(self.path, self.known)
            total.update(self.known[key].encode())
        return total.hexdigest()
