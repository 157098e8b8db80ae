"""The Lightning side of a trial: batches on their own random streams, optimiser, schedule, epoch metrics.

W windows, M channels, T steps, P patches.
"""

import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from experiments.attempt import Attempt, Stopped
from experiments.augment import Augment, shown
from experiments.config import RunConfig
from experiments.data.side import Side
from experiments.schedule import factor
from experiments.texts import Text
from model.batch import Batch
from model.concepts import ConceptTable
from model.guided import GuidedVQShape
from model.streams import generator, stream
from model.text import TextTable

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it greets, tips and says farewell
warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")

BLOCK = 256  # steps
PRECISION: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # Lightning's names


class Step(NamedTuple):
    """A batch, and a table that holds its texts."""

    batch: Batch
    table: TextTable | None


class TrainingSet:
    """An epoch's steps over training windows. Order, masks, wording, who sees text and how windows are
    changed hang on (seed, epoch) alone, each on a stream of its own."""

    def __init__(self, config: RunConfig, side: Side, text: Text, augment: Augment | None = None) -> None:
        self.config, self.side, self.text, self.augment = config, side, text, augment
        self.label = torch.from_numpy(side.label).to(side.device)
        group = side.label if text.assignment is None else text.assignment.group
        self.group = torch.from_numpy(group).to(side.device)
        self.steps = math.ceil(len(side) / config.train.batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Step]:
        """The steps from number `skip` on. Everything small is drawn and moved to the device once: no step
        waits for a copy of it."""
        seed, model, size = self.config.seed, self.config.model, self.config.train.batch_size
        device, windows = self.side.device, len(self.side)
        order, series = shown(self.config, self.side, epoch, self.augment)
        sees = torch.rand(windows, generator=generator(seed, epoch, "sees_text"))
        sees = (sees >= model.guidance.text_dropout).to(device)
        small = [part[order.to(device)].split(size) for part in (self.label, self.group, sees)]
        parts = (*small, series, self.masks(epoch), self.texts(epoch, order))
        whole = zip(*parts, strict=True)
        for label_W, group_W, sees_W, x_WMT, keep_BP, (table, text_W) in islice(whole, skip, None):
            yield Step(Batch(x_WMT, label_W, keep_BP, text_W, group_W, sees_W), table)

    def masks(self, epoch: int) -> Iterator[Tensor]:
        """The patches (B, kept) that each series of a step keeps, drawn and moved for BLOCK steps at once."""
        model, size = self.config.model, self.config.train.batch_size
        streams, hidden = model.streams(self.side.channels), int(model.mask_frac * model.patches)
        draw = generator(self.config.seed, epoch, "masks")
        for first in range(0, len(self.side), BLOCK * size):
            windows = min(BLOCK * size, len(self.side) - first)
            ranks = torch.rand(windows * streams, model.patches, generator=draw).argsort(-1)
            yield from ranks[:, hidden:].to(self.side.device).split(size * streams)

    def texts(self, epoch: int, order: Tensor) -> Iterator[tuple[TextTable | None, Tensor]]:
        """For each step, a table that holds its windows' texts, and each window's row in it."""
        rows, size = self.text.rows, self.config.train.batch_size
        drawn = np.zeros(len(order), dtype=np.int64)
        if self.text.assignment is not None:
            rng = np.random.default_rng(stream(self.config.seed, epoch, "text"))
            drawn = self.text.assignment.draw(rng)[order.numpy()]
        if rows is not None:
            yield from rows.parts(drawn, size)
        else:
            yield from ((None, part) for part in torch.from_numpy(drawn).to(self.side.device).split(size))


class EpochBatches:
    """What Lightning iterates over: each pass asks for the epoch's own batches."""

    def __init__(self, module: "Lit") -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.data.steps

    def __iter__(self) -> Iterator[Step]:
        return self.module.data.epoch(self.module.epoch, self.module.step)


class Lit(pl.LightningModule):
    """Trains the model; after every epoch calls `after_epoch(epoch, mean losses)`. Goes on from what `state`
    gave, whether at the end of an epoch or in its middle."""

    def __init__(
        self,
        config: RunConfig,
        model: GuidedVQShape,
        data: TrainingSet,
        concepts: ConceptTable | None,
        attempt: Attempt,
        after_epoch: Callable[[int, dict[str, float]], None],
        save: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self.config, self.model, self.data = config, model, data
        self.concepts = concepts
        self.attempt, self.after_epoch, self.save = attempt, after_epoch, save
        self.sums: dict[str, Tensor] = {}
        self.start: dict[str, Any] | None = None if attempt.saved is None else attempt.saved["lit"]
        self.first = 0 if self.start is None else self.start["epoch"]
        self.step = 0 if self.start is None else self.start["step"]  # of the epoch, done
        self.on_sigterm: Any = None

    @property
    def epoch(self) -> int:
        return self.first + self.current_epoch

    def state(self, epoch: int, step: int) -> dict[str, Any]:
        """What training goes on from, before that step of that epoch."""
        return {
            "epoch": epoch,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedule": self.trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "sums": self.sums,
            "random": random_state(self.data.side.device),
        }

    def train_dataloader(self) -> Any:
        return EpochBatches(self)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # a step is there already

    def on_train_start(self) -> None:
        self.attempt.clock.training()
        if self.on_sigterm is not None:  # Lightning's own would end the process before its checkpoint
            signal.signal(signal.SIGTERM, self.on_sigterm)
        if self.start is not None:
            self.trainer.optimizers[0].load_state_dict(self.start["optimizer"])
            self.trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.start["schedule"])

    def on_train_end(self) -> None:
        self.attempt.clock.trained()

    def on_train_epoch_start(self) -> None:
        if self.step and self.start is not None:
            self.sums = {name: value.to(self.data.side.device) for name, value in self.start["sums"].items()}
            set_random_state(self.start["random"], self.data.side.device)
        else:
            self.sums = {}
            torch.manual_seed(stream(self.config.seed, self.epoch, "dropout"))

    def training_step(self, step: Step, batch_idx: int) -> Tensor:
        losses = self.model.losses(step.batch, step.table, self.concepts)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + len(step.batch.x) * value.detach()
        return losses["total"]

    def on_train_batch_end(self, *args: Any) -> None:
        self.step += 1
        if self.step < self.data.steps:
            self.attempt.step(lambda: self.save(self.state(self.epoch, self.step)), epoch_ended=False)

    def on_train_epoch_end(self) -> None:
        names = {"total": "loss"}
        means = {
            f"train/{names.get(name, name)}": float(value) / len(self.data.side)
            for name, value in self.sums.items()
        }
        if not math.isfinite(means["train/loss"]):
            raise FloatingPointError(f"diverged: the loss is not finite in epoch {self.epoch}")
        self.after_epoch(self.epoch, means)
        self.step = 0
        self.attempt.step(lambda: self.save(self.state(self.epoch + 1, 0)), epoch_ended=True)
        self.model.train()

    def configure_optimizers(self) -> Any:
        train = self.config.train
        # Lightning refuses to clip gradients of a fused optimiser under mixed precision.
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=train.lr,
            weight_decay=train.weight_decay,
            fused=train.precision == "float32",
        )
        total = train.epochs * self.data.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(factor, train=train, total=total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def random_state(device: str) -> list[Tensor]:
    """Of torch's generators that dropout draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.startswith("cuda") else [])]


def set_random_state(state: list[Tensor], device: str) -> None:
    torch.set_rng_state(state[0])
    if device.startswith("cuda") and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)


def fit(module: Lit, device: str) -> None:
    """Run Lightning's loop on `device` ("cpu" or "cuda:0"), with nothing written by Lightning itself."""
    if module.first >= module.config.train.epochs:
        return
    kind, _, number = device.partition(":")
    trainer = pl.Trainer(
        accelerator="cpu" if kind == "cpu" else "gpu",
        devices=1 if kind == "cpu" else [int(number or 0)],
        max_epochs=module.config.train.epochs - module.first,
        gradient_clip_val=module.config.train.clip,
        precision=PRECISION[module.config.train.precision],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    if threading.current_thread() is threading.main_thread():
        module.on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        trainer.fit(module)
    except SystemExit:  # Lightning's answer to a SIGTERM that comes before ours is in its place
        raise Stopped("pre-empted") from None
