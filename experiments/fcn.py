"""A row that is not the core: a fully convolutional network trained on labels, with the core's budget.

B windows, M channels, T steps, H maps, Y classes, W windows of a side.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from experiments.augment import Augment, shown
from experiments.best import Best
from experiments.config import RunConfig
from experiments.data.side import Moments, Side
from experiments.metrics import macro_f1
from experiments.schedule import factor
from model.streams import seeded

PART = 256  # windows a pass in evaluation


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
    config: RunConfig, train: Side, epoch: int, augment: Augment | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's windows and labels, in the order and as changed as the core would see them."""
    order, parts = shown(config, train, epoch, augment)
    label = torch.from_numpy(train.label)[order].to(train.device)
    return zip(parts, label.split(config.train.batch_size), strict=True)


def train_epoch(
    model: FCN, batches: Iterator[tuple[Tensor, Tensor]], step: Callable[[Tensor], None]
) -> float:
    """Mean loss of the windows, each as its batch met it."""
    model.train()
    total: Tensor | float = 0.0
    windows = 0
    for x_BMT, label_B in batches:
        loss = cross_entropy(model(x_BMT), label_B)
        step(loss)
        total, windows = total + len(x_BMT) * loss.detach(), windows + len(x_BMT)
    return float(total) / windows


class Validation(NamedTuple):
    macro_f1: float
    loss: float


def train_fcn(
    config: RunConfig,
    train: Side,
    val: Side,
    classes: int,
    after_epoch: Callable[[int, dict[str, float]], None],
    augment: Augment | None = None,
) -> tuple[FCN, int]:
    """The chosen epoch's model, in evaluation mode on the sides' device, and that epoch. With
    `train.select: validation` it is the one with the best macro-F1 of the model's own predictions. In float32
    whatever `train.precision` says."""
    asked = config.train
    model = FCN(train.channels, classes, config.seed)
    model.standardize(train.moments)
    model.to(train.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=asked.lr, weight_decay=asked.weight_decay, fused=True
    )
    total = asked.epochs * math.ceil(len(train) / asked.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(factor, train=asked, total=total))
    best = Best(asked)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), asked.clip)
        optimizer.step()
        schedule.step()

    for epoch in range(asked.epochs):
        line = {"train/loss": train_epoch(model, epoch_batches(config, train, epoch, augment), step)}
        if not math.isfinite(line["train/loss"]):
            raise FloatingPointError(f"diverged: the loss is not finite in epoch {epoch}")
        if best.due(epoch):
            found = validate(model, val)
            line["val/macro_f1"] = found.macro_f1
            best.offer(epoch, (found.macro_f1, -found.loss), model)
        after_epoch(epoch, line)
    return model, best.restore(model)


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
