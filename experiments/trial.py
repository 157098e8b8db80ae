"""One trial, from its config to `result.json`. It writes only into its own folder."""

import datetime
import math
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from experiments import baselines, data, figures, metrics, probe
from experiments.config import RunConfig
from experiments.execute import Job
from experiments.fcn import predict, train_fcn
from experiments.ledger import SCHEMA, Store, locked, write_json
from experiments.texts import read_text
from experiments.train import Clock, Sides, augment, train
from model import checkpoint
from model.guided import GuidedVQShape

PINNED = (  # beside torch, what numbers hang on
    "aeon", "lightning", "numpy", "scikit-learn", "scipy", "transformers", "vector-quantize-pytorch",
)  # fmt: skip


def prepare(jobs: Iterable[Job]) -> None:
    """Fill the caches of windows and text embeddings once, before trials start."""
    torch.set_num_threads(1)
    seen = set()
    for job in jobs:
        config, store = RunConfig.model_validate(job.config), Store(Path(job.store))
        text = config.text if config.reads_text or config.reads_concepts else None
        # By seed, other classes' texts meet what else is said of a window, and noise is drawn.
        by_seed = text is not None and text.control in ("shuffled_classes", "random")
        needs = (config.data, text, config.seed if by_seed else None, *job.digests.values())
        if needs not in seen:
            seen.add(needs)
            read_text(config, job, data.load_split(config.data, str(job.digests["data"]), store.cache))


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a machine that trains needs neither data sets nor every quantizer
        return None


def environment(job: Job) -> dict[str, Any]:
    """What bit-equality is promised for: versions, machine type, threads, device, code."""
    device, number = job.device, torch.device(job.device).index
    if number is not None and number < torch.cuda.device_count():
        device = torch.cuda.get_device_name(number)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in PINNED},
        "platform": f"{sys.platform}-{platform.machine()}",
        "cpu": _cpu(),
        "device": device,
        "code": job.code,
    }


class Measure(NamedTuple):
    """What a way to measure a trial is given."""

    config: RunConfig
    job: Job
    loaded: data.Loaded
    sides: Sides
    folder: Path
    clock: Clock


def measure(config: RunConfig, job: Job, folder: Path, clock: Clock) -> dict[str, Any]:
    """The parts of a result that come from running the trial."""
    loaded = data.load_split(config.data, str(job.digests["data"]), Store(Path(job.store)).cache)
    asked = Measure(config, job, loaded, loaded.sides(job.device), folder, clock)
    found = {"best_epoch": None, "cost": {}} | MEASURES[config.baseline](asked)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["cost"]["peak_memory_mb"] = peak_kb / 1024
    if job.device != "cpu":
        found["cost"]["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(job.device) / 2**20
    return {"data": loaded.describe(), **found}


def core(asked: Measure) -> dict[str, Any]:
    """Train the core, then probe its representations and decode its tokens."""
    config, _, loaded, sides, folder, clock = asked
    trained = train(config, asked.job, loaded, sides, folder, clock)
    started = time.time()
    encoded = [metrics.encode(trained.model, side) for side in sides]
    found = probed(asked, [e.features for e in encoded], config.probe.representation)
    test = metrics.errors(trained.model, sides[2], encoded[2].tokens)
    found["metrics"] |= {
        "val/series_mse": metrics.series_mse(trained.model, sides[1], encoded[1].tokens),
        "test/series_mse": test.series_mse,
        "test/shape_mse": test.shape_mse,
        "test/series_mse_shuffled_codes": test.series_mse_shuffled_codes,
        **metrics.code_health(trained.model, encoded[2].code),
    }
    if config.figures:
        draw(config, loaded, trained.model, sides[2], encoded[2].code, folder / "figures")
    clock.evaluation(started)
    checkpoint.save_pretrained(trained.model, folder / "model")
    return {"best_epoch": trained.best_epoch, "cost": {"parameters": _parameters(trained.model)}, **found}


def statistics(asked: Measure) -> dict[str, Any]:
    """Probe the channels' means and deviations."""
    started = time.time()
    features = [baselines.statistics(side) for side in asked.sides]
    found = probed(asked, [{"statistics": x} for x in features], "statistics")
    asked.clock.evaluation(started)
    return found


def minirocket(asked: Measure) -> dict[str, Any]:
    """Probe the features of random convolutions."""
    started, (training, *others) = time.time(), asked.sides
    features = baselines.minirocket(training, others, asked.config.seed)
    found = probed(asked, [{"minirocket": x} for x in features], "minirocket")
    asked.clock.evaluation(started)
    return found


def fcn(asked: Measure) -> dict[str, Any]:
    """Train the network on labels; its own predictions count."""
    config, _, loaded, (training, val, test), folder, clock = asked
    started = time.time()
    with (folder / "metrics.jsonl").open("w", buffering=1) as lines:

        def after_epoch(epoch: int, found: dict[str, float]) -> None:
            lines.write(clock.line(epoch, found))

        change = augment(config, loaded, training)
        model, best_epoch = train_fcn(config, training, val, len(loaded.classes), after_epoch, change)
    clock.train_s = time.time() - started
    started = time.time()
    predicted = [predict(model, side) for side in (val, test)]
    found = reported(asked, predicted[1])
    scores = metrics.scores(test.label, predicted[1])
    found["metrics"] = {f"test/{name}": value for name, value in scores.items()}
    found["metrics"]["val/macro_f1"] = metrics.macro_f1(val.label, predicted[0])
    clock.evaluation(started)
    return {"best_epoch": best_epoch, "cost": {"parameters": _parameters(model)}, **found}


MEASURES: dict[str, Callable[[Measure], dict[str, Any]]] = {
    "none": core,
    "statistics": statistics,
    "fcn": fcn,
    "minirocket": minirocket,
}


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def probed(asked: Measure, features: list[dict[str, np.ndarray]], primary: str) -> dict[str, Any]:
    """Probe every representation; the primary one's numbers carry no representation in their names."""
    labels = asked.sides[0].label, asked.sides[1].label, asked.sides[2].label
    out: dict[str, Any] = {"metrics": {}}
    sides = [probe.blocks(side) for side in features]
    for name in sides[0]:
        x = sides[0][name], sides[1][name], sides[2][name]
        tested = probe.test(x, labels, asked.config.probe.penalties)
        for key, value in tested.metrics.items():
            side, metric = key.split("/")
            out["metrics"][f"{side}/{name}/{metric}"] = value
            if name == primary:
                out["metrics"][key] = value
        if name == primary:
            out |= reported(asked, tested.predicted)
    return out


def reported(asked: Measure, predicted: np.ndarray) -> dict[str, Any]:
    """Test scores by class and subject, and the predictions themselves in the trial's folder."""
    test, classes = asked.sides[2], asked.loaded.classes
    window = asked.loaded.split.test
    file = asked.folder / "predictions.npz"
    np.savez_compressed(file, window=window, label=test.label, predicted=predicted)
    return {
        "per_class_f1": metrics.per_class(test.label, predicted, classes),
        "per_subject_macro_f1": metrics.per_subject(test.label, predicted, test.subject),
        "confusion": metrics.confusion(test.label, predicted, len(classes)),
    }


def draw(
    config: RunConfig,
    loaded: data.Loaded,
    model: GuidedVQShape,
    test: data.Side,
    code: np.ndarray | None,
    folder: Path,
) -> None:
    folder.mkdir(exist_ok=True)
    figures.reconstruction(model, test, loaded.classes, loaded.channels, folder / "reconstruction.png")
    if code is not None:
        figures.code_usage(code, test.label, loaded.classes, config.model.codes, folder / "code_usage.png")
