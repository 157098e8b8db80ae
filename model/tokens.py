"""K learned queries attend to the patches: the shape tokens h.

B series, P patches, K tokens, D width.
"""

import torch
from torch import Tensor, nn

from model.layers import DecoderStack


class Tokenizer(nn.Module):
    """A stack of post-norm transformer decoder layers over K learned queries (the reference's tokenizer)."""

    def __init__(self, tokens: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1, tokens, width) / width)
        self.transformer = DecoderStack(width, heads, layers, dropout)

    def forward(self, p_BPD: Tensor) -> Tensor:
        return self.transformer(self.tokens, p_BPD)
