"""One side of a split: on the device where it is small, else read from disk as windows are asked for.

W windows, M channels, T steps.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.data.windows import Windows

if TYPE_CHECKING:
    import torch

RESIDENT_BYTES = 256 * 2**20
PART = 1024  # windows that are summed at a time


class Moments(NamedTuple):
    """Of each channel over all windows and steps, (M,) float32."""

    mean: np.ndarray
    std: np.ndarray
    moves: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """What to divide by. A channel that never moves is shifted alone: its deviation is rounding noise."""
        return np.where(self.moves, self.std + np.float32(1e-8), np.float32(1))


class Side:
    """Windows by their place on the side. label, subject (W,) are in memory; series are handed out as float32
    tensors (B, M, T) on `device`."""

    def __init__(
        self,
        series: "np.ndarray | torch.Tensor",
        rows: np.ndarray,
        label: np.ndarray,
        subject: np.ndarray,
        device: str,
    ) -> None:
        """series (V, M, T), of which `rows` (W,) are the side's; label and subject (W,)."""
        self._series, self._rows, self.device = series, rows, device
        self.label, self.subject = label, subject
        self.channels, self.length = int(series.shape[1]), int(series.shape[2])

    @classmethod
    def of(cls, windows: Windows, rows: np.ndarray, device: str) -> "Side":
        import torch

        label, subject = np.asarray(windows.label[rows]), np.asarray(windows.subject[rows])
        if len(rows) * windows.series[0].nbytes > RESIDENT_BYTES:
            return cls(windows.series, rows, label, subject, device)
        series = torch.from_numpy(np.array(windows.series[rows])).to(device)
        return cls(series, np.arange(len(rows)), label, subject, device)

    def __len__(self) -> int:
        return len(self._rows)

    def parts(self, places: np.ndarray, size: int) -> "Iterator[torch.Tensor]":
        """The windows at these places, in that order, `size` at a time."""
        import torch

        if isinstance(self._series, torch.Tensor):
            for at in torch.from_numpy(self._rows[places]).to(self.device).split(size):
                yield self._series[at]
        else:
            for first in range(0, len(places), size):
                rows = self._rows[places[first : first + size]]
                yield torch.from_numpy(np.array(self._series[rows])).to(self.device)

    def at(self, places: np.ndarray) -> "torch.Tensor":
        """The windows at these places in one."""
        return next(self.parts(places, len(places)))

    def split(self, size: int) -> "Iterator[torch.Tensor]":
        """All windows in order, `size` at a time."""
        return self.parts(np.arange(len(self)), size)

    @cached_property
    def moments(self) -> Moments:
        """In float64, a part at a time. A channel moves if it is not one value throughout."""
        total, squares = np.zeros(self.channels), np.zeros(self.channels)
        low, high = np.full(self.channels, np.inf), np.full(self.channels, -np.inf)
        steps = len(self) * self.length
        for x in self.split(PART):
            x_WMT = x.double().cpu().numpy()
            total += x_WMT.sum((0, 2))
            low, high = np.minimum(low, x_WMT.min((0, 2))), np.maximum(high, x_WMT.max((0, 2)))
        mean = total / steps
        for x in self.split(PART):
            squares += ((x.double().cpu().numpy() - mean[:, None]) ** 2).sum((0, 2))
        return Moments(mean.astype(np.float32), np.sqrt(squares / steps).astype(np.float32), high > low)
