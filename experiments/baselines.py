"""Rows that are not the core: the same windows, the same probe, no training.

W windows, M channels, T steps.
"""

import numpy as np


def statistics(x_WMT: np.ndarray) -> np.ndarray:
    """Mean and log standard deviation of each channel (W, 2M)."""
    log_std = np.log(x_WMT.std(axis=2) + 1e-6)
    return np.concatenate([x_WMT.mean(axis=2), log_std], axis=1)


BASELINES = {"statistics": statistics}
