"""One trial, from its config to `result.json`. It writes only into its own folder."""

import datetime
import math
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from experiments import baselines, data, figures, metrics, probe
from experiments.config import RunConfig
from experiments.encoder import TextCache
from experiments.execute import Job
from experiments.ledger import SCHEMA, Store, locked, write_json
from experiments.train import Clock, Trained, train
from experiments.words import planned_words
from model import checkpoint

PINNED = ("lightning", "numpy", "scikit-learn", "scipy", "transformers")  # beside torch, what numbers hang on


def prepare(jobs: Iterable[Job]) -> None:
    """Fill the caches of windows and text embeddings once, before trials start."""
    torch.set_num_threads(1)
    seen = set()
    for job in jobs:
        config, store = RunConfig.model_validate(job.config), Store(Path(job.store))
        needs = (config.data.window_s, config.data.overlap_frac, *job.digests.values())
        if needs in seen:
            continue
        seen.add(needs)
        data.load(config.data, str(job.digests["data"]), store.cache)
        if config.reads_text or config.reads_concepts:
            wanted = planned_words(config, job.digests["text"]).every()
            TextCache(store.cache, config.text.encoder, str(job.digests["encoder"])).get(wanted)


def run(jobs: list[Job]) -> None:
    """Train, evaluate, write: one job. A failure becomes a failed result with one line and a log."""
    (job,) = jobs
    folder = Store(Path(job.store)).trial(job.signature)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", wait=True):
        for name in ("result.json", "metrics.jsonl", "predictions.npz"):
            (folder / name).unlink(missing_ok=True)
        for name in ("figures", "model"):
            shutil.rmtree(folder / name, ignore_errors=True)
        identity = {"signature": job.signature, "config": job.config, "digests": job.digests}
        write_json(folder / "config.json", identity)
        result: dict[str, Any] = {"schema": SCHEMA, **identity, "status": "done", "error": None}
        clock = Clock(job.submitted_at)
        try:
            config = RunConfig.model_validate(job.config)
            torch.set_num_threads(config.threads)
            with threadpool_limits(config.threads):
                measured = measure(config, job, folder, clock)
            for name, value in measured["metrics"].items():
                if not math.isfinite(value):
                    raise FloatingPointError(f"diverged: {name} is {value}")
            result |= measured
        except Exception as error:
            line = " ".join(str(error).split()) or "no message"
            result |= {"status": "failed", "error": f"{type(error).__name__}: {line[:500]}", "metrics": {}}
            with (folder / "log.txt").open("a") as log:
                traceback.print_exc(file=log)
        result["environment"] = environment(job)
        result["cost"] = result.get("cost", {}) | clock.cost()
        result["finished_at"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        write_json(folder / "result.json", result)


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def environment(job: Job) -> dict[str, Any]:
    """What bit-equality is promised for: versions, machine type, threads, device, code."""
    device, number = job.device, torch.device(job.device).index
    if number is not None and number < torch.cuda.device_count():
        device = torch.cuda.get_device_name(number)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in PINNED},
        "platform": f"{sys.platform}-{platform.machine()}",
        "cpu": _cpu(),
        "device": device,
        "code": job.code,
    }


def measure(config: RunConfig, job: Job, folder: Path, clock: Clock) -> dict[str, Any]:
    """The parts of a result that come from running the trial."""
    loaded = data.load_split(config.data, str(job.digests["data"]), Store(Path(job.store)).cache)
    sides = [loaded.side(rows) for rows in loaded.split]
    if config.baseline != "none":
        started = time.time()
        compute = baselines.BASELINES[config.baseline]
        computed: list[dict[str, np.ndarray]] = [{config.baseline: compute(np.asarray(x))} for x, _ in sides]
        found = score(config, loaded, computed, config.baseline, folder)
        clock.evaluation(started)
        return {"data": loaded.describe(config.data), "best_epoch": None, **found}
    trained = train(config, job, loaded, folder, clock)
    started = time.time()
    x_WMT = [trained.tensor(x) for x, _ in sides]
    encoded = [metrics.encode(trained.model, x) for x in x_WMT]
    found = score(config, loaded, [e.features for e in encoded], config.probe.representation, folder)
    test = metrics.errors(trained.model, x_WMT[2], encoded[2].tokens)
    found["metrics"] |= {
        "val/series_mse": metrics.series_mse(trained.model, x_WMT[1], encoded[1].tokens),
        "test/series_mse": test.series_mse,
        "test/shape_mse": test.shape_mse,
        "test/series_mse_shuffled_codes": test.series_mse_shuffled_codes,
        **metrics.code_health(trained.model, encoded[2].code),
    }
    if config.figures:
        draw(config, loaded, trained, sides[2], encoded[2].code, folder / "figures")
    clock.evaluation(started)
    checkpoint.save_pretrained(trained.model, folder / "model")
    parameters = sum(p.numel() for p in trained.model.parameters())
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost: dict[str, float] = {"parameters": parameters, "peak_memory_mb": peak_kb / 1024}
    if job.device != "cpu":
        cost["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(job.device) / 2**20
    return {"data": loaded.describe(config.data), "best_epoch": trained.best_epoch, "cost": cost, **found}


def score(
    config: RunConfig, loaded: data.Loaded, features: list[dict[str, np.ndarray]], primary: str, folder: Path
) -> dict[str, Any]:
    """Probe every representation; the primary one's numbers carry no representation in their names."""
    classes = loaded.entry.classes
    labels = [np.asarray(loaded.windows.label[rows]) for rows in loaded.split]
    out: dict[str, Any] = {"metrics": {}}
    sides = [probe.blocks(side) for side in features]
    for name in sides[0]:
        train_x, val_x, test_x = (side[name] for side in sides)
        tested = probe.test(
            (train_x, val_x, test_x), (labels[0], labels[1], labels[2]), config.probe.penalties, len(classes)
        )
        for key, value in tested.metrics.items():
            side, metric = key.split("/")
            out["metrics"][f"{side}/{name}/{metric}"] = value
            if name == primary:
                out["metrics"][key] = value
        if name == primary:
            subject = np.asarray(loaded.windows.subject[loaded.split.test])
            out["per_class_f1"] = metrics.per_class(labels[2], tested.predicted, classes)
            out["per_subject_macro_f1"] = metrics.per_subject(
                labels[2], tested.predicted, subject, len(classes)
            )
            out["confusion"] = metrics.confusion(labels[2], tested.predicted, len(classes))
            np.savez_compressed(
                folder / "predictions.npz",
                window=loaded.split.test,
                label=labels[2],
                predicted=tested.predicted,
            )
    return out


def draw(
    config: RunConfig,
    loaded: data.Loaded,
    trained: Trained,
    test: tuple[np.ndarray, np.ndarray],
    code: np.ndarray | None,
    folder: Path,
) -> None:
    folder.mkdir(exist_ok=True)
    entry = loaded.entry
    x = trained.tensor(test[0])
    figures.reconstruction(
        trained.model, x, test[1], entry.classes, entry.channels, folder / "reconstruction.png"
    )
    if code is not None:
        figures.code_usage(code, test[1], entry.classes, config.model.codes, folder / "code_usage.png")
