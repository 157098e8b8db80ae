"""Where series and text meet: cross-attention between series tokens h (or patches) and text tokens g.

B series, K series tokens (or P patches), L text tokens, R phrases, D width.

one_way:  s = h + CA(query h; key, value g)
two_way:  s as above and u = g + CA(query g; key, value h)
    merge contrast: heads read s; u meets s in the contrastive losses alone
    merge mean:     u, brought to K tokens by learned queries, is averaged with s; heads read the mean
With several layers, each reads what the one before it made of both sides.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.recompute import InBlocks


class Fused(NamedTuple):
    """read (B, K, D): what the heads in `into` read. s (B, K, D); u (B, L, D), None if one_way."""

    read: Tensor
    s: Tensor
    u: Tensor | None


def attention(width: int, heads: int) -> nn.MultiheadAttention:
    # No dropout: the core's dropout masks must not depend on whether guidance is there.
    return nn.MultiheadAttention(width, heads, batch_first=True)


def meet(
    attend: nn.MultiheadAttention, query_BKD: Tensor, read_BLD: Tensor, real_BL: Tensor | None
) -> Tensor:
    """What queries take from `read` (B, K, D). real_BL: true where that is no padding; None: everywhere."""
    padding = None if real_BL is None else ~real_BL
    return attend(query_BKD, read_BLD, read_BLD, key_padding_mask=padding, need_weights=False)[0]


class OneWay(InBlocks):
    """Series tokens query the text."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.text_to_series = nn.ModuleList(attention(width, heads) for _ in range(layers))

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor, keep_BK: Tensor | None = None) -> Fused:
        """real_BL: true where g is no padding. keep_BK: which of all positions h holds (None: all)."""
        s = h_BKD
        for attend in self.text_to_series:
            s = s + self.run(meet, attend, s, g_BLD, real_BL)
        return Fused(s, s, None)

    def weights(self, h_BKD: Tensor, phrase_BRD: Tensor, real_BR: Tensor) -> Tensor:
        """How the first layer, mean over its heads, spreads each token's attention over phrases (B, K, R)."""
        attend = self.text_to_series[0]
        return attend(h_BKD, phrase_BRD, phrase_BRD, key_padding_mask=~real_BR, need_weights=True)[1]


class TwoWayContrast(OneWay):
    """Text tokens query the series too; the two results meet in the contrastive losses."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__(width, heads, layers)
        self.series_to_text = nn.ModuleList(attention(width, heads) for _ in range(layers))

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor, keep_BK: Tensor | None = None) -> Fused:
        s, u = h_BKD, g_BLD
        for to_series, to_text in zip(self.text_to_series, self.series_to_text, strict=True):
            s, u = (
                s + self.run(meet, to_series, s, u, real_BL),
                u + self.run(meet, to_text, u, s, None),
            )
        return Fused(s, s, u)


class TwoWayMean(TwoWayContrast):
    """The heads read the mean of both results."""

    def __init__(self, width: int, heads: int, layers: int, positions: int) -> None:
        super().__init__(width, heads, layers)
        self.queries = nn.Parameter(torch.randn(1, positions, width) / width**0.5)
        self.gather = attention(width, heads)

    def forward(self, h_BKD: Tensor, g_BLD: Tensor, real_BL: Tensor, keep_BK: Tensor | None = None) -> Fused:
        _, s, u = super().forward(h_BKD, g_BLD, real_BL)
        assert u is not None
        query = self.queries.expand(len(u), -1, -1)
        if keep_BK is not None:
            query = query.gather(1, keep_BK.unsqueeze(-1).expand(-1, -1, query.shape[-1]))
        u_BKD = self.run(meet, self.gather, query, u, real_BL)
        return Fused((s + u_BKD) / 2, s, u)


# Builders take (width, heads, layers, positions); positions: how many series tokens or patches there are.
GUIDANCE: dict[tuple[str, str], Callable[[int, int, int, int], OneWay]] = {
    ("one_way", "contrast"): lambda width, heads, layers, positions: OneWay(width, heads, layers),
    ("one_way", "mean"): lambda width, heads, layers, positions: OneWay(width, heads, layers),
    ("two_way", "contrast"): lambda width, heads, layers, positions: TwoWayContrast(width, heads, layers),
    ("two_way", "mean"): TwoWayMean,
}
