"""Searches played out on a made-up ledger: the trials' numbers come from their configs, no model trains."""

import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

from experiments.config import RunConfig
from experiments.lease import Lease, claim, live
from experiments.ledger import Store, write_json
from experiments.studies import Asked, Studies
from experiments.sweep import load

EPOCHS = 6
SEARCHED = f"""# Which rate?
set: {{train.epochs: {EPOCHS}}}
seeds: 2
reference: plain
search:
  trials: 8
  sampler: {{name: tpe, n_startup_trials: 3}}
  pruner: {{name: median, n_startup_trials: 2, n_warmup_steps: 1}}
  parallel: 3
  space:
    train.lr: {{low: 1e-4, high: 1e-1, log: true}}
    model.codes: [16, 32, 64]
    model.heads: {{low: 2, high: 4, step: 2}}
variants:
  text: {{model.guidance.attention: one_way, losses.ce_series: 0.1}}
  plain: {{losses.ce_series: 0.1}}
  statistics: {{baseline: statistics}}
"""


def score(config: RunConfig, epoch: int) -> float:
    """Rises with the epoch; best at a rate of 0.003 and many codes, a little better with text."""
    at = 0.8 - 0.2 * abs(math.log10(config.train.lr / 3e-3)) + config.model.codes / 1000
    return (at + 0.05 * (config.model.guidance.attention != "none")) * (epoch + 2) / (EPOCHS + 1)


def diverges(config: RunConfig) -> bool:
    return config.train.lr > 3e-2


def line(config: RunConfig, epoch: int) -> str:
    return json.dumps({"epoch": epoch, "val/macro_f1": score(config, epoch), "time_s": 0.5}) + "\n"


def finish(store: Store, asked: Asked, test: float = 0.5, lease: Lease | None = None) -> dict[str, Any]:
    """The trial's accepted result and all its epochs."""
    trial, config = store.trial(asked.signature), asked.config
    epochs = 3 if diverges(config) else EPOCHS
    result: dict[str, Any] = {"schema": 1, "signature": asked.signature, "metrics": {}, "error": None}
    result |= {"finished_at": "2026-11-21T21:00:00Z"}
    if diverges(config):
        result |= {"status": "failed", "failure": "diverged", "error": "diverged: the loss is not finite"}
    else:
        metrics = {"val/macro_f1": score(config, EPOCHS - 1), "val/series_mse": 0.5, "test/macro_f1": test}
        result |= {"status": "done", "metrics": metrics}
    folder = lease.folder if lease else trial
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(line(config, epoch) for epoch in range(epochs)))
    if lease:
        lease.accept(result)
    else:
        write_json(trial / "result.json", result)
    return result


def step(store: Store, asked: Asked) -> bool:
    """One more epoch of the trial in its live folder; whether it has all now."""
    path = live(store.trial(asked.signature)) / "metrics.jsonl"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    with path.open("a") as file:
        file.write(line(asked.config, done))
    return done + 1 >= (3 if diverges(asked.config) else EPOCHS)


def play(file: Path, store: Store, workers: int, seed: int, kill: float = 0.0, lag: float = 0.0) -> Studies:
    """Run the file's searches to their end, trials advancing in an order drawn from `seed`. kill: chance at
    each step that the launch dies with all that runs; lag: that it does not look before the next epoch."""
    draw, running = random.Random(seed), dict[str, tuple[Asked, Lease]]()
    studies = Studies(load(file, store), store)
    while studies.open:
        for asked in studies.ready():
            if asked.signature not in running and len(running) < workers:
                running[asked.signature] = asked, claim(store.trial(asked.signature))
        name = draw.choice(sorted(running))
        asked, lease = running[name]
        if step(store, asked):
            result = finish(store, asked, lease=lease)
            del running[name]
            studies.ended(name, result)
        elif draw.random() >= lag and studies.look(name):
            lease.ended("pruned", "")
            del running[name]
            studies.ended(name, None)
        if draw.random() < kill:
            for _, lease in running.values():
                lease.release()
            running.clear()
            studies = Studies(load(file, store), store)
    for _, lease in running.values():
        lease.release()
    studies.ready()
    return studies


def records(store: Store) -> dict[str, bytes]:
    """Every study's file."""
    return {path.name: path.read_bytes() for path in store.root.glob("sweeps/*/search/*.json")}


def forget(store: Store) -> None:
    """Lose every study's file."""
    for folder in store.root.glob("sweeps/*/search"):
        shutil.rmtree(folder)


def put(file: Path, text: str = SEARCHED) -> Path:
    """Write the sweep file, elsewhere than the store."""
    os.makedirs(file.parent, exist_ok=True)
    file.write_text(text)
    return file
