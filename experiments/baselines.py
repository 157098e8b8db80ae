"""Rows that are not the core: the same windows, the same probe, no training by gradient.

W windows, M channels, T steps, F features.
"""

import numpy as np

from experiments.data.side import Side

PART = 1024  # windows at a time; each is by itself, so the size changes nothing


def statistics(side: Side) -> np.ndarray:
    """Mean and log standard deviation of each channel (W, 2M)."""
    parts = [x.cpu().numpy() for x in side.split(PART)]
    mean, std = (np.concatenate(part) for part in zip(*((x.mean(2), x.std(2)) for x in parts), strict=True))
    return np.concatenate([mean, np.log(std + 1e-6)], axis=1)


def minirocket(train: Side, others: list[Side], seed: int) -> list[np.ndarray]:
    """Features (W, F) float32 of `train` and of each other side: 9,996 shares of positive values of
    convolutions by fixed kernels (Dempster et al. 2021, arXiv 2012.08791). Channels and biases are drawn from
    training windows alone.

    Runs on one thread of the CPU. Its layer of threads is not inherited: a process forked after a call is
    killed at its own first call, so a server that forks trials must not call this. Raises ValueError below
    nine steps.
    """
    from aeon.transformations.collection.convolution_based import MiniRocket

    rocket = MiniRocket(n_jobs=1, random_state=seed)
    outer = np.random.get_state()  # aeon seeds numpy's global generator
    try:
        rocket.fit(np.concatenate([x_WMT.cpu().numpy() for x_WMT in train.split(PART)]))
    finally:
        np.random.set_state(outer)

    def transform(side: Side) -> np.ndarray:
        return np.concatenate([rocket.transform(x_WMT.cpu().numpy()) for x_WMT in side.split(PART)])

    return [transform(side) for side in (train, *others)]
