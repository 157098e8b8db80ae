"""Sub-actions: which concept ("lift the leg") a token or a code means.

D width, C code width, E text width, Q concepts.
"""

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import Head


class SubActions(nn.Module):
    """head: reads the series-only token h (width D). decoder: reads its quantised z (width C), so that a code
    names its concepts without any series. Either predicts a vector in the text encoder's space."""

    vectors: Tensor

    def __init__(self, width_in: int, text_width: int, hidden: int, concepts: int) -> None:
        super().__init__()
        self.head = Head(width_in, text_width, hidden)
        # The concepts' (Q, E), kept with the weights; GuidedVQShape.know sets them.
        self.register_buffer("vectors", torch.zeros(concepts, text_width))

    def log_p(self, v: Tensor) -> Tensor:
        """log p (..., Q) of each concept from tokens h or codes z (..., width_in)."""
        return L.concept_log_p(self.head(v), self.vectors)
