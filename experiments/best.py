"""The choice of an epoch: the weights that did best on validation so far."""

import torch
from torch import Tensor


class Best:
    """The epoch with the highest key, the earlier among equals. key: macro-F1, then what breaks its ties."""

    def __init__(self) -> None:
        self.key, self.epoch = (-1.0, 0.0), -1
        self.state: dict[str, Tensor] = {}

    def offer(self, epoch: int, key: tuple[float, float], model: torch.nn.Module) -> None:
        if key > self.key:
            self.key, self.epoch = key, epoch
            self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
