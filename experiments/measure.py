"""What a trial measures, by `baseline`: each way gives the parts of a result that come from running it."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments import baselines, classifier, data, figures, metrics, probe, retrieval
from experiments.attempt import Attempt
from experiments.config import RunConfig
from experiments.environment import environment
from experiments.execute import Job
from experiments.fcn import Training, keep_fcn, predict
from experiments.ledger import Store
from experiments.models import EXAMPLE
from experiments.stage import find, stage
from experiments.train import Trained, augment, train
from model import checkpoint
from model.guided import GuidedVQShape


class Measure(NamedTuple):
    """What a way to measure a trial is given."""

    config: RunConfig
    job: Job
    loaded: data.Loaded
    sides: tuple[data.Side, ...]  # without test, where it is not evaluated
    attempt: Attempt


def measure(config: RunConfig, job: Job, attempt: Attempt) -> dict[str, Any]:
    """The parts of a result that come from running the trial."""
    loaded = data.load_split(config.data, str(job.digests["data"]), Store(Path(job.store)).cache)
    sides = loaded.sides(job.device)[: 2 if config.evaluate == "validation" else 3]
    asked = Measure(config, job, loaded, sides, attempt)
    found = {"best_epoch": None, "cost": {}} | MEASURES[config.baseline](asked)
    if len(sides) == 3 and config.baseline in classifier.KINDS:
        np.save(attempt.folder / EXAMPLE, loaded.windows.series[loaded.split.train[:1]])
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
    if known is not None:
        try:
            model = checkpoint.from_pretrained(known.folder / "model").to(asked.job.device)
            model.config = config.model  # its keep_scale may be another
            trained = Trained(model, known.result["best_epoch"])
        except (OSError, ValueError):  # torn by a power cut, or replaced just now
            known = None
        else:
            attempt.take_curve(known.curve)
            if config.figures:
                figures.take(known.folder / "figures", folder / "figures")
    if known is None:
        trained = train(config, asked.job, loaded, sides, attempt)
    started = time.monotonic()
    encoded = []
    for side in sides:
        attempt.check()
        encoded.append(metrics.encode(trained.model, side))
    found = probed(asked, [e.features for e in encoded], config.probe.representation)
    mse = metrics.series_mse(trained.model, sides[1], encoded[1].tokens)
    r2 = metrics.series_r2(trained.model, sides[1], mse)
    found["metrics"] |= {"val/series_mse": mse, "val/series_r2": r2}
    attempt.check()
    for side, (_, code, tokens) in zip(sides[2:], encoded[2:], strict=True):
        test = metrics.errors(trained.model, side, tokens)
        found["metrics"] |= {f"test/{name}": value for name, value in test._asdict().items()}
        found["metrics"]["test/series_r2"] = metrics.series_r2(trained.model, side, test.series_mse)
        found["metrics"] |= metrics.code_health(trained.model, code) | metrics.spans(tokens)
        found["metrics"] |= retrieval.diagnose(config, asked.job, trained.model, side)
        if config.figures:
            draw(config, loaded, trained.model, side, code, folder / "figures")
    clock.evaluation(started)
    checkpoint.save_pretrained(trained.model, folder / "model")
    if known is not None:
        found["trained_by"] = known.result["signature"]
    return {"best_epoch": trained.best_epoch, "cost": {"parameters": _parameters(trained.model)}, **found}


def statistics(asked: Measure) -> dict[str, Any]:
    """Probe the channels' means and deviations."""
    started, clock = time.monotonic(), asked.attempt.clock
    features = [baselines.statistics(side) for side in asked.sides]
    found = probed(asked, [{"statistics": x} for x in features], "statistics")
    clock.evaluation(started)
    return found


def minirocket(asked: Measure) -> dict[str, Any]:
    """Probe the features of random convolutions."""
    started, (training, *others) = time.monotonic(), asked.sides
    features = baselines.minirocket(training, others, asked.config.seed)
    asked.attempt.check()
    found = probed(asked, [{"minirocket": x} for x in features], "minirocket")
    asked.attempt.clock.evaluation(started)
    return found


def fcn(asked: Measure) -> dict[str, Any]:
    """Train the network on labels; its own predictions count."""
    config, _, loaded, (training, val, *tests), attempt = asked
    change = augment(config, loaded, training)
    attempt.clock.training()
    model, best_epoch = Training(config, training, len(loaded.classes), attempt, change).fit(val)
    attempt.clock.trained()
    started = time.monotonic()
    found: dict[str, Any] = {"metrics": {"val/macro_f1": metrics.macro_f1(val.label, predict(model, val))}}
    for test in tests:
        predicted = predict(model, test)
        found |= reported(asked, predicted)
        scores = metrics.scores(test.label, predicted)
        found["metrics"] |= {f"test/{name}": value for name, value in scores.items()}
    attempt.clock.evaluation(started)
    keep_fcn(model, attempt.folder / "model")
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
    labels, penalties = [side.label for side in asked.sides], asked.config.probe.penalties
    out: dict[str, Any] = {"metrics": {}}
    sides = [probe.blocks(side) for side in features]
    for name in sides[0]:
        x = [side[name] for side in sides]
        if len(x) == 2:
            found = probe.tune(x[0], labels[0], x[1], labels[1], penalties).val_macro_f1
            out["metrics"] |= {f"val/{name}/macro_f1": found}
            out["metrics"] |= {"val/macro_f1": found} if name == primary else {}
            continue
        tested = probe.test((x[0], x[1], x[2]), (labels[0], labels[1], labels[2]), penalties)
        for key, value in tested.metrics.items():
            side, metric = key.split("/")
            out["metrics"][f"{side}/{name}/{metric}"] = value
            if name == primary:
                out["metrics"][key] = value
        if name == primary:
            out |= reported(asked, tested.predicted)
            classifier.keep(tested.probe, asked.attempt.folder)
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
