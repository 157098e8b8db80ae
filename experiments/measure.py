"""What a trial measures, by `baseline`: each way gives the parts of a result that come from running it."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments import baselines, data, figures, metrics, probe
from experiments.attempt import Attempt
from experiments.config import RunConfig
from experiments.environment import environment
from experiments.execute import Job
from experiments.fcn import Training, predict
from experiments.ledger import Store
from experiments.stage import find, stage
from experiments.train import Sides, Trained, augment, train
from model import checkpoint
from model.guided import GuidedVQShape


class Measure(NamedTuple):
    """What a way to measure a trial is given."""

    config: RunConfig
    job: Job
    loaded: data.Loaded
    sides: Sides
    attempt: Attempt


def measure(config: RunConfig, job: Job, attempt: Attempt) -> dict[str, Any]:
    """The parts of a result that come from running the trial."""
    loaded = data.load_split(config.data, str(job.digests["data"]), Store(Path(job.store)).cache)
    asked = Measure(config, job, loaded, loaded.sides(job.device), attempt)
    found = {"best_epoch": None, "cost": {}} | MEASURES[config.baseline](asked)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["cost"]["peak_memory_mb"] = peak_kb / 1024
    if job.device != "cpu":
        found["cost"]["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(job.device) / 2**20
    return {"data": loaded.describe(), **found}


def core(asked: Measure) -> dict[str, Any]:
    """Train the core, then probe its representations and decode its tokens."""
    config, _, loaded, sides, attempt = asked
    folder, clock = attempt.folder, attempt.clock
    store, name = Store(Path(asked.job.store)), stage(config, asked.job.digests)
    again = asked.job.accepted > 0  # whoever asks for a result anew wants it trained anew
    known = None if again else find(store, str(name), config, environment(asked.job))
    if known is None:
        trained = train(config, asked.job, loaded, sides, attempt)
    else:
        model = checkpoint.from_pretrained(known.folder / "model").to(asked.job.device)
        trained = Trained(model, known.result["best_epoch"])
        attempt.take_curve(known.curve)
    started = time.time()
    encoded = []
    for side in sides:
        attempt.check()
        encoded.append(metrics.encode(trained.model, side))
    found = probed(asked, [e.features for e in encoded], config.probe.representation)
    attempt.check()
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
    if known is not None:
        found["trained_by"] = known.result["signature"]
    return {"best_epoch": trained.best_epoch, "cost": {"parameters": _parameters(trained.model)}, **found}


def statistics(asked: Measure) -> dict[str, Any]:
    """Probe the channels' means and deviations."""
    started, clock = time.time(), asked.attempt.clock
    features = [baselines.statistics(side) for side in asked.sides]
    found = probed(asked, [{"statistics": x} for x in features], "statistics")
    clock.evaluation(started)
    return found


def minirocket(asked: Measure) -> dict[str, Any]:
    """Probe the features of random convolutions."""
    started, (training, *others) = time.time(), asked.sides
    features = baselines.minirocket(training, others, asked.config.seed)
    asked.attempt.check()
    found = probed(asked, [{"minirocket": x} for x in features], "minirocket")
    asked.attempt.clock.evaluation(started)
    return found


def fcn(asked: Measure) -> dict[str, Any]:
    """Train the network on labels; its own predictions count."""
    config, _, loaded, (training, val, test), attempt = asked
    change = augment(config, loaded, training)
    attempt.clock.training()
    model, best_epoch = Training(config, training, len(loaded.classes), attempt, change).fit(val)
    attempt.clock.trained()
    started = time.time()
    predicted = [predict(model, side) for side in (val, test)]
    found = reported(asked, predicted[1])
    scores = metrics.scores(test.label, predicted[1])
    found["metrics"] = {f"test/{name}": value for name, value in scores.items()}
    found["metrics"]["val/macro_f1"] = metrics.macro_f1(val.label, predicted[0])
    attempt.clock.evaluation(started)
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
    file = asked.attempt.folder / "predictions.npz"
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
