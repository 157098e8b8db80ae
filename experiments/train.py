"""Training of one trial's model, and the choice of its epoch.

W windows, M channels, T steps, Y classes.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from experiments import data, figures, metrics, probe
from experiments.attempt import Attempt, Stopped
from experiments.augment import Augment
from experiments.best import Best
from experiments.config import AugmentConfig, RunConfig
from experiments.data.windows import triads
from experiments.execute import Job
from experiments.lit import Lit, TrainingSet, fit
from experiments.texts import Text, read_text
from model.batch import Sizes
from model.guided import GuidedVQShape
from model.recompute import recompute


class Trained(NamedTuple):
    """The chosen epoch's model, on the trial's device."""

    model: GuidedVQShape
    best_epoch: int


def train(
    config: RunConfig, job: Job, loaded: data.Loaded, sides: Sequence[data.Side], attempt: Attempt
) -> Trained:
    """Fit on training windows, on from what the attempt saved; where `train.select` says so, validation picks
    the epoch by macro-F1 of the primary representation's probe, ties by lower reconstruction error."""
    training, val = sides[0], sides[1]
    text, best, clock = read_text(config, job, loaded), Best(config.train), attempt.clock
    model = build(config, training, len(loaded.classes), text)
    if attempt.saved is not None:
        model.load_state_dict(attempt.saved["lit"]["model"])
        best.set_state(attempt.saved["best"])
    model.to(job.device)
    if job.recompute:
        recompute(model)

    drawn = figures.pictured(config.train) if config.figures else set()

    def validate(epoch: int) -> dict[str, float]:
        encoded = [metrics.encode(model, side) for side in (training, val)]
        series_mse = metrics.series_mse(model, val, encoded[1].tokens)
        x = [probe.blocks(e.features)[config.probe.representation] for e in encoded]
        tuned = probe.tune(x[0], training.label, x[1], val.label, config.probe.penalties)
        best.offer(epoch, (tuned.val_macro_f1, -series_mse), model)
        found = {"val/macro_f1": tuned.val_macro_f1, "val/series_mse": series_mse}
        if epoch in drawn:
            figures.progress(model, val, encoded[1].tokens, epoch, attempt.folder / "figures")
        if health := metrics.code_health(model, encoded[1].code):
            found["val/perplexity"] = health["codes/perplexity"]
        return found

    def after_epoch(epoch: int, means: dict[str, float]) -> None:
        started = time.monotonic()
        attempt.log(epoch, means | (validate(epoch) if best.due(epoch) else {}))
        clock.evaluation(started)

    def save(state: dict[str, Any]) -> None:
        attempt.save({"lit": state, "best": best.state()})

    change = augment(config, loaded, training)
    batches = TrainingSet(config, training, text, change)
    module = Lit(config, model, batches, text.concepts, attempt, after_epoch, save)
    try:
        fit(module, job.device)
    except (Stopped, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if finite(model.to(job.device), training):
            raise
        message = f"diverged: the model's output is not finite in epoch {module.epoch}"
        raise FloatingPointError(message) from error
    model.to(job.device)  # Lightning leaves it on the CPU
    return Trained(model, best.restore(model))


def augment(config: RunConfig, loaded: data.Loaded, training: data.Side) -> Augment | None:
    """What happens to training windows as they are seen; None where nothing does."""
    if config.data.augment == AugmentConfig():
        return None
    moments = training.moments
    mean, std = (torch.from_numpy(part).to(training.device) for part in (moments.mean, moments.std))
    return Augment(config.data.augment, mean, std, list(triads(loaded.channels).values()))


def build(config: RunConfig, training: data.Side, classes: int, text: Text) -> GuidedVQShape:
    """The untrained model, on the CPU, standardised by its training windows."""
    sizes = Sizes(training.length, training.channels, classes, text.width, text.names)
    queries = None if config.text.tokens == "native" else config.text.tokens
    model = GuidedVQShape(config.model, config.losses, sizes, queries, config.seed)
    offset_M, scale_M = training.moments.mean, training.moments.scale
    model.standardize(torch.from_numpy(offset_M)[:, None], torch.from_numpy(scale_M)[:, None])
    model.weigh(torch.from_numpy(training.label))
    if text.concepts is not None:
        model.know(text.concepts)
    return model


@torch.no_grad()
def finite(model: GuidedVQShape, side: data.Side) -> bool:
    """Whether the model still gives numbers. NaN breaks what meets it first, an index or a probe, which then
    complains of something else."""
    h = model.eval().core.embed(model.to_series(next(side.split(metrics.BATCH))))
    return all(bool(value.isfinite().all()) for value in model.core.attr_decoder(h))
