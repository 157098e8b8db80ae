"""The choice of an epoch: the weights that did best on validation, or the last ones."""

from typing import Any

import torch
from torch import Tensor

from experiments.config import TrainConfig


class Best:
    """The epoch that `train.select` picks: the last, or the one with the highest key, the earlier among
    equals. key: macro-F1, then what breaks its ties."""

    def __init__(self, train: TrainConfig) -> None:
        self.train = train
        self.key, self.epoch = (-1.0, 0.0), train.epochs - 1
        self.weights: dict[str, Tensor] = {}

    def due(self, epoch: int) -> bool:
        """Whether the epoch is validated: one in `validate_every`, and the last."""
        return epoch == self.train.epochs - 1 or (epoch + 1) % self.train.validate_every == 0

    def offer(self, epoch: int, key: tuple[float, float], model: torch.nn.Module) -> None:
        if self.train.select == "validation" and key > self.key:
            self.key, self.epoch = key, epoch
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def restore(self, model: torch.nn.Module) -> int:
        """Give the trained model the chosen epoch's weights, in evaluation mode; the epoch."""
        if self.train.select == "validation":
            model.load_state_dict(self.weights)
        model.eval()
        return self.epoch

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"key": list(self.key), "epoch": self.epoch, "weights": self.weights}

    def set_state(self, state: dict[str, Any]) -> None:
        self.key, self.epoch, self.weights = tuple(state["key"]), state["epoch"], state["weights"]
