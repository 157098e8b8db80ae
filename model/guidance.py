"""Where series and text meet: cross-attention between shape tokens h and text tokens g.

B series, K tokens, L text tokens, D width.

one_way:  s = h + CA(query h; key, value g)
two_way:  s as above and u = g + CA(query g; key, value h)
    merge contrast: heads read s; u meets s in the contrastive loss alone
    merge mean:     u, brought to K tokens by learned queries, is averaged with s; heads read the mean
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Fused(NamedTuple):
    """read (B, K, D): what the heads in `into` read. s (B, K, D); u (B, L, D), None if one_way."""

    read: Tensor
    s: Tensor
    u: Tensor | None


def attention(width: int, heads: int) -> nn.MultiheadAttention:
    # No dropout: the core's dropout masks must not depend on whether guidance is there.
    return nn.MultiheadAttention(width, heads, batch_first=True)


class OneWay(nn.Module):
    """Series tokens query the text."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.text_to_series = attention(width, heads)

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor) -> Fused:
        s = h_BKD + self.text_to_series(h_BKD, g_BLD, g_BLD, key_padding_mask=~real_BL, need_weights=False)[0]
        return Fused(s, s, None)


class TwoWayContrast(OneWay):
    """Text tokens query the series too; the two results meet in info_nce."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.series_to_text = attention(width, heads)

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor) -> Fused:
        s = super().forward(h_BKD, g_BLD, real_BL).s
        u = g_BLD + self.series_to_text(g_BLD, h_BKD, h_BKD, need_weights=False)[0]
        return Fused(s, s, u)


class TwoWayMean(TwoWayContrast):
    """The heads read the mean of both results."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__(width, heads)
        self.queries = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.gather = attention(width, heads)

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor) -> Fused:
        _, s, u = super().forward(h_BKD, g_BLD, real_BL)
        assert u is not None
        query = self.queries.expand(len(u), -1, -1)
        u_BKD = self.gather(query, u, u, key_padding_mask=~real_BL, need_weights=False)[0]
        return Fused((s + u_BKD) / 2, s, u)


GUIDANCE = {
    ("one_way", "contrast"): lambda width, heads, tokens: OneWay(width, heads),
    ("one_way", "mean"): lambda width, heads, tokens: OneWay(width, heads),
    ("two_way", "contrast"): lambda width, heads, tokens: TwoWayContrast(width, heads),
    ("two_way", "mean"): TwoWayMean,
}
