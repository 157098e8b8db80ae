"""Training of one trial's model, and the choice of its epoch.

W windows, M channels, T steps, Y classes.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments import captions, data, metrics, probe
from experiments.config import RunConfig
from experiments.encoder import TextCache
from experiments.execute import Job
from experiments.ledger import Store
from experiments.lit import Lit, TrainingSet, fit
from experiments.words import planned_words
from model.batch import Sizes
from model.concepts import ConceptTable
from model.guided import GuidedVQShape
from model.streams import stream
from model.text import TextTable


class Clock:
    """Where a trial's seconds go. Evaluation inside training counts as evaluation."""

    def __init__(self, submitted_at: float) -> None:
        self.submitted_at, self.evaluate_s, self.train_s = submitted_at, 0.0, 0.0

    def evaluation(self, started: float) -> None:
        self.evaluate_s += time.time() - started

    def cost(self) -> dict[str, float]:
        total = time.time() - self.submitted_at
        return {
            "total_s": total,
            "train_s": self.train_s,
            "evaluate_s": self.evaluate_s,
            "overhead_s": total - self.train_s - self.evaluate_s,
        }


class Trained(NamedTuple):
    """The chosen epoch's model, on `device`."""

    model: GuidedVQShape
    best_epoch: int
    tensor: Callable[[np.ndarray], torch.Tensor]


def train(config: RunConfig, job: Job, loaded: data.Loaded, folder: Path, clock: Clock) -> Trained:
    """Fit on training windows; validation picks the epoch where `train.select` says so, by macro-F1 of the
    primary representation's probe, ties by lower reconstruction error."""

    def tensor(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x, device=job.device)

    (train_x, train_y), (val_x, val_y), _ = (loaded.side(rows) for rows in loaded.split)
    text, classes = read_text(config, job, train_y), len(loaded.entry.classes)
    model = build(config, train_x, train_y, classes, text).to(job.device)
    x_WMT, val_x_WMT = tensor(train_x), tensor(val_x)
    best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": config.train.epochs - 1, "state": None}
    metrics_file = (folder / "metrics.jsonl").open("w", buffering=1)

    def validate(epoch: int) -> dict[str, float]:
        encoded = [metrics.encode(model, x) for x in (x_WMT, val_x_WMT)]
        series_mse = metrics.series_mse(model, val_x_WMT, encoded[1].tokens)
        x = [probe.blocks(e.features)[config.probe.representation] for e in encoded]
        tuned = probe.tune(x[0], train_y, x[1], val_y, config.probe.penalties, classes)
        key = (tuned.val_macro_f1, -series_mse)
        if config.train.select == "validation" and key > best["key"]:
            state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            best.update(key=key, epoch=epoch, state=state)
        found = {"val/macro_f1": tuned.val_macro_f1, "val/series_mse": series_mse}
        if health := metrics.code_health(model, encoded[1].code):
            found["val/perplexity"] = health["codes/perplexity"]
        return found

    def after_epoch(epoch: int, means: dict[str, float]) -> None:
        started = time.time()
        line: dict[str, Any] = {"epoch": epoch, **means}
        last = epoch == config.train.epochs - 1
        if last or (epoch + 1) % config.train.validate_every == 0:
            line |= validate(epoch)
        line["time_s"] = time.time() - clock.submitted_at
        metrics_file.write(json.dumps(line) + "\n")
        clock.evaluation(started)

    training = TrainingSet(config, x_WMT, tensor(train_y), text.assignment)
    module = Lit(config, model, training, text.table, text.concepts, after_epoch)
    with metrics_file:
        try:
            fit(module, job.device)
        except Exception as error:
            if finite(model.to(job.device), x_WMT):
                raise
            message = f"diverged: the model's output is not finite in epoch {module.current_epoch}"
            raise FloatingPointError(message) from error
    model.to(job.device)  # Lightning leaves it on the CPU
    clock.train_s = module.last_step_at - module.first_step_at - clock.evaluate_s
    if best["state"] is not None:
        model.load_state_dict(best["state"])
    return Trained(model.eval(), best["epoch"], tensor)


def build(
    config: RunConfig, x_WMT: np.ndarray, label_W: np.ndarray, classes: int, text: "Text"
) -> GuidedVQShape:
    """The untrained model, on the CPU, standardised by its training windows."""
    sizes = Sizes(x_WMT.shape[2], x_WMT.shape[1], classes, text.width, text.names)
    queries = None if config.text.tokens == "native" else config.text.tokens
    model = GuidedVQShape(config.model, config.losses, sizes, queries, config.seed)
    # A channel that never moves in training is shifted alone: its deviation is rounding noise.
    moves_M = x_WMT.max((0, 2)) > x_WMT.min((0, 2))
    offset_M, scale_M = x_WMT.mean((0, 2)), np.where(moves_M, x_WMT.std((0, 2)) + 1e-8, 1)
    model.standardize(torch.tensor(offset_M)[:, None], torch.tensor(scale_M)[:, None])
    model.weigh(torch.tensor(label_W))
    if text.concepts is not None:
        model.know(text.concepts)
    return model


@torch.no_grad()
def finite(model: GuidedVQShape, x_WMT: torch.Tensor) -> bool:
    """Whether the model still gives numbers. NaN breaks what meets it first, an index or a probe, which then
    complains of something else."""
    h = model.eval().core.embed(model.to_series(x_WMT[: metrics.BATCH]))
    return all(bool(value.isfinite().all()) for value in model.core.attr_decoder(h))


class Text(NamedTuple):
    """A trial's encoded texts, its concepts and their names, and which training window sees which text; None
    where unread."""

    table: TextTable | None = None
    concepts: ConceptTable | None = None
    names: tuple[str, ...] = ()
    assignment: captions.Assignment | None = None

    @property
    def width(self) -> int:
        """Of the encoder; 0 without text."""
        if self.table is not None:
            return self.table.tokens.shape[-1]
        return 0 if self.concepts is None else self.concepts.vectors.shape[-1]


def read_text(config: RunConfig, job: Job, label: np.ndarray) -> Text:
    """Raises ValueError if the bank is no longer the one that was planned."""
    if not (config.reads_text or config.reads_concepts):
        return Text()
    words = planned_words(config, job.digests["text"])
    rng = np.random.default_rng(stream(config.seed, "text_control"))
    assignment = captions.assign(words.per_class, config.text, label, rng)
    cache = TextCache(Store(Path(job.store)).cache, config.text.encoder, str(job.digests["encoder"]))

    def embed(texts: list[str]) -> list[torch.Tensor]:
        return [torch.from_numpy(tokens) for tokens in cache.get(texts)]

    table, concepts = None, None
    if config.reads_text:
        tokens = embed(assignment.texts)
        padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        lengths = torch.tensor([len(t) for t in tokens])
        real = torch.arange(padded.shape[1])[None] < lengths[:, None]
        table = TextTable.from_tokens(padded, real).to(job.device)
    if words.concepts is not None:
        phrases = [phrase for group in words.concepts.phrases for phrase in group]
        concepts = ConceptTable.from_tokens(embed(phrases), words.concepts.concept).to(job.device)
    names = () if words.concepts is None else tuple(words.concepts.names)
    return Text(table, concepts, names, assignment)
