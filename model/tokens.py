"""K learned queries attend to the patches: the shape tokens h.

B series, P patches, K tokens, D width.
"""

import torch
from torch import Tensor, nn


class Tokenizer(nn.Module):
    """A stack of post-norm transformer decoder layers over K learned queries (the reference's tokenizer)."""

    def __init__(self, tokens: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1, tokens, width) / width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, layers)

    def forward(self, p_BPD: Tensor) -> Tensor:
        return self.transformer(self.tokens.expand(len(p_BPD), -1, -1), p_BPD)
