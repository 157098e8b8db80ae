"""Sub-actions: which concept ("lift the leg") a token or a code means.

B series, K tokens, D width, C code width, N codes, E text width, Q concepts.
"""

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import Head
from model.concepts import ConceptTable


class SubActions(nn.Module):
    """head: reads the series-only token h (width D). decoder: reads its quantised z (width C), so that a code
    names its concepts without any series. Either predicts a vector in the text encoder's space."""

    def __init__(self, width_in: int, text_width: int, hidden: int) -> None:
        super().__init__()
        self.head = Head(width_in, text_width, hidden)

    def log_p(self, v: Tensor, table: ConceptTable) -> Tensor:
        """log p (..., Q) of each concept from tokens h or codes z (..., width_in)."""
        return L.concept_log_p(self.head(v), table.vectors)

    @torch.no_grad()
    def of_codes(self, codes_NC: Tensor, table: ConceptTable) -> Tensor:
        """With `decoder`: the distribution over concepts (N, Q) that each code names."""
        return self.log_p(codes_NC, table).exp()
