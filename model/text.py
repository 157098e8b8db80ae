"""Frozen text embeddings to text tokens g.

U distinct texts, L text tokens, E width of the frozen encoder, D width, K shape tokens, C code width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.attributes import Head


class TextTable(NamedTuple):
    """Every distinct text of a trial, encoded once: tokens (U, L, E), real (U, L) true where a token is
    no padding, and target (U, E), the mean token centred over the table."""

    tokens: Tensor
    real: Tensor
    target: Tensor

    @classmethod
    def from_tokens(cls, tokens_ULE: Tensor, real_UL: Tensor) -> "TextTable":
        mean_UE = masked_mean(tokens_ULE, real_UL)
        return cls(tokens_ULE, real_UL, mean_UE - mean_UE.mean(0))

    def to(self, device: str) -> "TextTable":
        return TextTable(*(part.to(device) for part in self))


def masked_mean(v_ULE: Tensor, real_UL: Tensor) -> Tensor:
    """Mean over the real tokens (U, E)."""
    weight = real_UL.unsqueeze(-1).to(v_ULE.dtype)
    return (v_ULE * weight).sum(1) / weight.sum(1)


class TextTokens(nn.Module):
    """Projection E -> D; with `queries`, that many learned queries attend to the projected tokens."""

    def __init__(self, text_width: int, width: int, heads: int, queries: int | None) -> None:
        super().__init__()
        self.project = nn.Linear(text_width, width)
        self.queries = None if queries is None else nn.Parameter(torch.randn(1, queries, width) / width**0.5)
        self.attend = None if queries is None else nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, table: TextTable) -> tuple[Tensor, Tensor]:
        """g (U, L, D) and which of its tokens are real (U, L); L is `queries` where there are any."""
        g_ULD = self.project(table.tokens)
        if self.queries is None or self.attend is None:
            return g_ULD, table.real
        query = self.queries.expand(len(g_ULD), -1, -1)
        g_ULD = query + self.attend(query, g_ULD, g_ULD, key_padding_mask=~table.real, need_weights=False)[0]
        return g_ULD, torch.ones(g_ULD.shape[:2], dtype=torch.bool, device=g_ULD.device)


class TextCodes(nn.Module):
    """K learned queries attend to a text's tokens; each gives a z for the series' codebook."""

    def __init__(self, tokens: int, width: int, heads: int, code_width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.z_head = Head(width, code_width, width)

    def forward(self, g_ULD: Tensor, real_UL: Tensor) -> Tensor:
        """z (U, K, C)."""
        query = self.queries.expand(len(g_ULD), -1, -1)
        found = self.attend(query, g_ULD, g_ULD, key_padding_mask=~real_UL, need_weights=False)[0]
        return self.z_head(query + found)  # the query, lest all K be alike
