"""What one training step sees.

W windows, M channels, T steps, B series (W x M if channels are independent, else W), K tokens, L text tokens,
D width.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Sizes(NamedTuple):
    """What the data decides: steps and channels of a window, classes, text_width (0: there is no text), and
    the names of the concepts that sub-actions speak of."""

    length: int
    channels: int
    classes: int
    text_width: int
    concepts: tuple[str, ...] = ()


class Batch(NamedTuple):
    """One training step. x (W, M, T) raw; label (W,); keep (B, kept) patch indices.

    Where there is text: text (W,) rows of the table, group (W,) the class that the window's text was made for
    (all 0 if text says nothing), sees_text (W,) bool, the windows that take the guided path.
    """

    x: Tensor
    label: Tensor
    keep: Tensor
    text: Tensor
    group: Tensor
    sees_text: Tensor


def rows(v_UID: Tensor, row_B: Tensor) -> Tensor:
    """v[row] (B, I, D). Indexing would sum its gradient in whatever order two CPU threads come by."""
    return F.embedding(row_B, v_UID.flatten(1)).unflatten(-1, v_UID.shape[1:])


class BatchText(NamedTuple):
    """Each series' text: tokens g (B, L, D) and which of them are real (B, L)."""

    g: Tensor
    real: Tensor

    @classmethod
    def of(cls, g_ULD: Tensor, real_UL: Tensor, text_W: Tensor, streams: int) -> "BatchText":
        text_B = text_W.repeat_interleave(streams)
        return cls(rows(g_ULD, text_B), real_UL[text_B])
