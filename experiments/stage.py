"""Training that several trials share: those that differ only in how the trained model is probed or evaluated.

A stage is named by what of the config can change training. The first trial of a stage leaves its signature;
the others take its model, and its curves but for what the probe measured.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from experiments.code import ORIGIN
from experiments.config import RunConfig
from experiments.identity import canonical, digest
from experiments.ledger import Store, read_json, write_json

PROBED = "val/macro_f1"  # of metrics.jsonl, what depends on the probe


def stage(config: RunConfig, digests: dict[str, str | None]) -> str | None:
    """16 hex digits that name the training; None where there is nothing to share. keep_scale adds to what is
    probed. Where validation picks the epoch, the probe has a say in it."""
    if config.baseline != "none":
        return None
    kept = canonical(config)
    kept.pop("evaluate", None)
    if config.train.select == "last":
        del kept["probe"]
        kept["model"].pop("keep_scale", None)
    return digest({"stage": kept, "digests": digests})[:16]


def _probe(config: dict[str, Any]) -> tuple[Any, bool]:
    """What of a trial's config the probe's scores by epoch depend on, beside training."""
    return config["probe"], config["model"]["keep_scale"]


class Trained(NamedTuple):
    """What a finished trial offers: its folder, its result and its curves."""

    folder: Path
    result: dict[str, Any]
    curve: list[dict[str, Any]]


def _path(store: Store, name: str) -> Path:
    return store.root / "stages" / f"{name}.json"


def leave(store: Store, name: str, signature: str) -> None:
    """Say that the trial `signature`, whose result is accepted, has done this training."""
    write_json(_path(store, name), signature)


def find(store: Store, name: str, config: RunConfig, environment: dict[str, Any]) -> Trained | None:
    """A finished trial of this training by the same code, versions, machine type and device."""
    signature = read_json(_path(store, name))
    result = store.result(signature) if isinstance(signature, str) and len(signature) == 16 else None
    if result is None or result["status"] != "done":
        return None
    told, ours = result.get("environment", {}), environment
    if any(told.get(name) != ours.get(name) for name in (told.keys() | ours.keys()) - set(ORIGIN)):
        return None
    folder = store.trial(str(signature))
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        curve = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return None
    if len(curve) != config.train.epochs or not (folder / "model" / "config.json").is_file():
        return None
    if _probe(result["config"]) != _probe(config.model_dump(mode="json")):
        for line in curve:
            line.pop(PROBED, None)
    if config.evaluate == "validation" and any(PROBED not in line for line in curve):
        return None  # a search's pruner would see less than if it had trained
    return Trained(folder, result, curve)
