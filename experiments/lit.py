"""The Lightning side of a trial: batches on their own random streams, optimiser, schedule, epoch metrics.

W windows, M channels, T steps, P patches.
"""

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from experiments.captions import Assignment
from experiments.config import RunConfig
from model.batch import Batch
from model.concepts import ConceptTable
from model.guided import GuidedVQShape
from model.streams import generator, stream
from model.text import TextTable

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it greets, tips and says farewell
warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")

PRECISION: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # Lightning's names


class TrainingSet:
    """Training windows on the device, and an epoch's batches. Order, masks, wording and who sees text hang
    on (seed, epoch) alone, each on a stream of its own."""

    def __init__(self, config: RunConfig, x_WMT: Tensor, label_W: Tensor, text: Assignment | None) -> None:
        self.config, self.x, self.label, self.text = config, x_WMT, label_W, text
        self.group = label_W if text is None else torch.as_tensor(text.group).to(label_W.device)
        self.steps = math.ceil(len(x_WMT) / config.train.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Everything random is drawn and moved to the device once: no step waits for a copy."""
        seed, model = self.config.seed, self.config.model
        device, windows = self.x.device, len(self.x)
        streams = model.streams(self.x.shape[1])
        order = torch.randperm(windows, generator=generator(seed, epoch, "order"))
        sees = torch.rand(windows, generator=generator(seed, epoch, "sees_text"))
        sees = sees >= model.guidance.text_dropout
        text = torch.zeros(windows, dtype=torch.long)
        if self.text is not None:
            text = torch.from_numpy(self.text.draw(np.random.default_rng(stream(seed, epoch, "text"))))
        hidden = int(model.mask_frac * model.patches)
        masks = torch.rand(windows * streams, model.patches, generator=generator(seed, epoch, "masks"))
        keep = masks.argsort(-1)[:, hidden:].unflatten(0, (windows, streams)).to(device)
        order, sees, text = order.to(device), sees[order].to(device), text[order].to(device)
        size = self.config.train.batch_size
        parts = (part.split(size) for part in (order, keep, text, sees))
        for at, keep_WSP, text_W, sees_W in zip(*parts, strict=True):
            yield Batch(self.x[at], self.label[at], keep_WSP.flatten(0, 1), text_W, self.group[at], sees_W)


class EpochBatches:
    """What Lightning iterates over: each pass asks for the epoch's own batches."""

    def __init__(self, module: "Lit") -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.data.steps

    def __iter__(self) -> Iterator[Batch]:
        return self.module.data.epoch(self.module.current_epoch)


class Lit(pl.LightningModule):
    """Trains the model; after every epoch calls `after_epoch(epoch, mean losses)`."""

    def __init__(
        self,
        config: RunConfig,
        model: GuidedVQShape,
        data: TrainingSet,
        table: TextTable | None,
        concepts: ConceptTable | None,
        after_epoch: Callable[[int, dict[str, float]], None],
    ) -> None:
        super().__init__()
        self.config, self.model, self.data = config, model, data
        self.table, self.concepts = table, concepts
        self.after_epoch = after_epoch
        self.sums: dict[str, Tensor] = {}
        self.first_step_at = self.last_step_at = 0.0

    def train_dataloader(self) -> Any:
        return EpochBatches(self)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # TrainingSet's arrays are there already

    def on_train_start(self) -> None:
        self.first_step_at = time.time()

    def on_train_end(self) -> None:
        self.last_step_at = time.time()

    def on_train_epoch_start(self) -> None:
        self.sums = {}
        torch.manual_seed(stream(self.config.seed, self.current_epoch, "dropout"))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.model.losses(batch, self.table, self.concepts)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + len(batch.x) * value.detach()
        return losses["total"]

    def on_train_epoch_end(self) -> None:
        names = {"total": "loss"}
        means = {
            f"train/{names.get(name, name)}": float(value) / len(self.data.x)
            for name, value in self.sums.items()
        }
        if not math.isfinite(means["train/loss"]):
            raise FloatingPointError(f"diverged: the loss is not finite in epoch {self.current_epoch}")
        self.after_epoch(self.current_epoch, means)
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
        warm = max(1, round(train.warmup_frac * total))
        floor = train.lr_min / train.lr

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            part = min(1.0, (step - warm) / max(1, total - warm))
            return floor + (1 - floor) * (1 + math.cos(math.pi * part)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: Lit, device: str) -> None:
    """Run Lightning's loop on `device` ("cpu" or "cuda:0"), with nothing written by Lightning itself."""
    kind, _, number = device.partition(":")
    trainer = pl.Trainer(
        accelerator="cpu" if kind == "cpu" else "gpu",
        devices=1 if kind == "cpu" else [int(number or 0)],
        max_epochs=module.config.train.epochs,
        gradient_clip_val=module.config.train.clip,
        precision=PRECISION[module.config.train.precision],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    try:
        trainer.fit(module)
    except SIGTERMException:  # Lightning makes SIGTERM an exit with status 0; die of it, or stop the launch
        signal.raise_signal(signal.SIGTERM)
