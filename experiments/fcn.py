"""A row that is not the core: a fully convolutional network trained on labels, with the core's budget.

B windows, M channels, T steps, H maps, Y classes, W windows of a side.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from experiments.attempt import Attempt
from experiments.augment import Augment, shown
from experiments.best import Best
from experiments.config import RunConfig
from experiments.data.side import Moments, Side
from experiments.metrics import macro_f1
from experiments.schedule import factor
from model.checkpoint import compare
from model.streams import seeded

PART = 256  # windows a pass in evaluation
WEIGHTS = "fcn.safetensors"


class Block(nn.Module):
    """x (B, M, T) -> (B, H, T): convolution, batch norm, ReLU. Zeros at the ends, as Keras pads "same"."""

    def __init__(self, channels: int, maps: int, kernel: int) -> None:
        super().__init__()
        self.ends = ((kernel - 1) // 2, kernel // 2)
        self.conv = nn.Conv1d(channels, maps, kernel, bias=False)  # batch norm takes off any bias
        self.norm = nn.BatchNorm1d(maps)

    def forward(self, x_BMT: Tensor) -> Tensor:
        return relu(self.norm(self.conv(pad(x_BMT, self.ends))))


class FCN(nn.Module):
    """Raw windows x (B, M, T) -> logits (B, Y): standardised by channel, 128 maps of 8 steps, 256 of 5, 128
    of 3, mean over time, linear (Wang, Yan and Oates 2017, arXiv 1611.06455)."""

    offset: Tensor
    scale: Tensor

    def __init__(self, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(channels, 1))
        self.register_buffer("scale", torch.ones(channels, 1))
        with seeded(seed, "fcn"):
            self.blocks = nn.Sequential(Block(channels, 128, 8), Block(128, 256, 5), Block(256, 128, 3))
            self.head = nn.Linear(128, classes)

    def standardize(self, moments: Moments) -> None:
        self.offset.copy_(torch.from_numpy(moments.mean)[:, None])
        self.scale.copy_(torch.from_numpy(moments.scale)[:, None])

    def forward(self, x_BMT: Tensor) -> Tensor:
        h_BHT = self.blocks((x_BMT - self.offset) / self.scale)
        return self.head(h_BHT.mean(-1))


def epoch_batches(
    config: RunConfig, train: Side, epoch: int, augment: Augment | None = None, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's windows and labels from step `skip` on, in the order and as changed as the core would see
    them."""
    order, parts = shown(config, train, epoch, augment)
    label = torch.from_numpy(train.label)[order].to(train.device)
    return islice(zip(parts, label.split(config.train.batch_size), strict=True), skip, None)


class Validation(NamedTuple):
    macro_f1: float
    loss: float


class Training:
    """Of the network, epoch after epoch, with the core's budget. With `train.select: validation` the epoch is
    chosen by the macro-F1 of the model's own predictions. In float32 whatever `train.precision` says."""

    def __init__(
        self, config: RunConfig, train: Side, classes: int, attempt: Attempt, augment: Augment | None = None
    ) -> None:
        self.config, self.train, self.attempt, self.augment = config, train, attempt, augment
        asked = config.train
        self.model = FCN(train.channels, classes, config.seed)
        self.model.standardize(train.moments)
        self.model.to(train.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=asked.lr, weight_decay=asked.weight_decay, fused=True
        )
        self.steps = math.ceil(len(train) / asked.batch_size)
        rate = partial(factor, train=asked, total=asked.epochs * self.steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.best = Best(asked)
        self.epoch = self.step = 0  # done
        self.total: Tensor | float = 0.0  # of the epoch's losses, one a window
        if attempt.saved is not None:
            self.go_on(attempt.saved)

    def go_on(self, saved: dict[str, Any]) -> None:
        for part in ("model", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(saved[part])
        self.best.set_state(saved["best"])
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.total = saved["total"]

    def save(self) -> None:
        state = {part: getattr(self, part).state_dict() for part in ("model", "optimizer", "schedule")}
        self.attempt.save(
            state
            | {"best": self.best.state(), "epoch": self.epoch, "step": self.step, "total": float(self.total)}
        )

    def fit(self, val: Side) -> tuple[FCN, int]:
        """The chosen epoch's model, in evaluation mode on the sides' device, and that epoch."""
        while self.epoch < self.config.train.epochs:
            line = {"train/loss": self.train_epoch()}
            if not math.isfinite(line["train/loss"]):
                raise FloatingPointError(f"diverged: the loss is not finite in epoch {self.epoch}")
            if self.best.due(self.epoch):
                found = validate(self.model, val)
                line["val/macro_f1"] = found.macro_f1
                self.best.offer(self.epoch, (found.macro_f1, -found.loss), self.model)
            self.attempt.log(self.epoch, line)
            self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0
            self.attempt.step(self.save, epoch_ended=True)
        return self.model, self.best.restore(self.model)

    def train_epoch(self) -> float:
        """Mean loss of the windows, each as its batch met it."""
        self.model.train()
        for x_BMT, label_B in epoch_batches(self.config, self.train, self.epoch, self.augment, self.step):
            loss = cross_entropy(self.model(x_BMT), label_B)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
            self.optimizer.step()
            self.schedule.step()
            self.total = self.total + len(x_BMT) * loss.detach()
            self.step += 1
            if self.step < self.steps:
                self.attempt.step(self.save, epoch_ended=False)
        return float(self.total) / len(self.train)


@torch.no_grad()
def logits(model: FCN, side: Side) -> Tensor:
    """Of all windows in order (W, Y), on the CPU, in evaluation mode."""
    model.eval()
    return torch.cat([model(x_BMT).cpu() for x_BMT in side.split(PART)])


def validate(model: FCN, val: Side) -> Validation:
    logit_WY = logits(model, val)
    loss = float(cross_entropy(logit_WY, torch.from_numpy(val.label)))
    return Validation(macro_f1(val.label, logit_WY.argmax(1).numpy()), loss)


def predict(model: FCN, side: Side) -> np.ndarray:
    """Classes (W,)."""
    return logits(model, side).argmax(1).numpy()


def keep_fcn(model: FCN, folder: Path) -> None:
    """As `folder`/fcn.safetensors; the tensors' shapes say how many channels and classes there are."""
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)


def load_fcn(folder: Path) -> FCN:
    """What `keep_fcn` left, on the CPU and in evaluation mode. Raises FileNotFoundError, and ValueError for a
    file that is broken or of another network."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: an older ShapeLex wrote this trial")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is broken: {error}") from None
    sizes = [tensors[name].shape[0] if name in tensors else 1 for name in ("offset", "head.bias")]
    model = FCN(sizes[0], sizes[1], seed=0)
    if not (report := compare(tensors, model.state_dict())).whole:
        raise ValueError(f"{path} is no network of this kind: {report}")
    model.load_state_dict(tensors)
    return model.eval()
