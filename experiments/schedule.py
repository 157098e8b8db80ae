"""The learning rate of every model that is trained here."""

import math

from experiments.config import TrainConfig


def factor(step: int, train: TrainConfig, total: int) -> float:
    """What `lr` is multiplied by at this step of `total`: linear warm-up, then cosine to `lr_min`."""
    warm = max(1, round(train.warmup_frac * total))
    floor = train.lr_min / train.lr
    if step < warm:
        return (step + 1) / warm
    part = min(1.0, (step - warm) / max(1, total - warm))
    return floor + (1 - floor) * (1 + math.cos(math.pi * part)) / 2
