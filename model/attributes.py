"""Shape tokens to attributes (z, mu, sigma, t, l) and back to embeddings.

B series, A axes of one series, K tokens, D width, C code width.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.codebooks import full_precision
from model.recompute import InBlocks

MIN_LENGTH = 1 / 64  # shortest shape, as a part of the window (the reference's min_shape_len)


class Attributes(NamedTuple):
    """z (B, K, C) which shape; mu offset, sigma > 0 scale, both (B, K, A); t start and l length in parts of
    the window, both (B, K, 1), with t + l <= 1 + MIN_LENGTH."""

    z: Tensor
    mu: Tensor
    sigma: Tensor
    t: Tensor
    l: Tensor  # noqa: E741 - the paper's name


class Head(InBlocks):
    """Two-layer MLP with ReLU, in its weights' precision: bfloat16 would round a start near 1 to 1/256."""

    def __init__(self, width_in: int, width_out: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(), nn.Linear(hidden, width_out))

    def forward(self, h: Tensor) -> Tensor:
        with full_precision(h):
            return self.run(self.layers, h.to(next(self.parameters()).dtype))

    def mean(self, h_WID: Tensor) -> Tensor:
        """The mean over I of what it makes of each (W, width_out), taken before the last, linear, layer."""
        with full_precision(h_WID):
            h_WID = h_WID.to(next(self.parameters()).dtype)
            return self.layers[2](self.layers[:2](h_WID).mean(1))


class AttributeDecoder(nn.Module):
    """The heads: tokens to attributes."""

    def __init__(self, code_width: int, width: int, axes: int) -> None:
        super().__init__()
        self.z_head = Head(width, code_width, width)
        self.tl_mean_head = Head(width, 2, width)
        self.mu_head = Head(width, axes, width)
        self.sigma_head = Head(width, axes, width)

    def forward(self, h_BKD: Tensor) -> Attributes:
        """Every head reads the series' tokens."""
        t_BK1, l_BK1 = self.span(self.tl_mean_head(h_BKD))
        sigma = nn.functional.softplus(self.sigma_head(h_BKD))
        return Attributes(self.z_head(h_BKD), self.mu_head(h_BKD), sigma, t_BK1, l_BK1)

    def guided(
        self, alone: Attributes, h_BKD: Tensor, fused_BKD: Tensor, into: Collection[str]
    ) -> Attributes:
        """`alone`, what the heads make of h, but the attributes in `into` read from the fused tokens.
        l is measured from t on, so it moves with t even where it reads h."""
        changed: dict[str, Tensor] = {}
        if "z" in into:
            changed["z"] = self.z_head(fused_BKD)
        if "mu" in into:
            changed["mu"] = self.mu_head(fused_BKD)
        if "sigma" in into:
            changed["sigma"] = nn.functional.softplus(self.sigma_head(fused_BKD))
        if "t" in into or "l" in into:
            fused_BK2 = self.tl_mean_head(fused_BKD)
            alone_BK2 = fused_BK2 if "t" in into and "l" in into else self.tl_mean_head(h_BKD)
            t_BK2, l_BK2 = (fused_BK2 if name in into else alone_BK2 for name in ("t", "l"))
            changed["t"], changed["l"] = self.span(torch.cat([t_BK2[..., :1], l_BK2[..., 1:]], dim=-1))
        return alone._replace(**changed)

    @staticmethod
    def span(tl_BK2: Tensor) -> tuple[Tensor, Tensor]:
        """Start and length, each (B, K, 1), from the head's two numbers."""
        t_BK1 = tl_BK2[..., :1].sigmoid() * (1 - MIN_LENGTH)
        return t_BK1, tl_BK2[..., 1:].sigmoid() * (1 - t_BK1) + MIN_LENGTH


class AttributeEncoder(nn.Module):
    """Attributes (z quantised) -> embeddings (B, K, D) for the series decoder."""

    def __init__(self, code_width: int, width: int, axes: int) -> None:
        super().__init__()
        self.project = nn.Linear(code_width + 2 + 2 * axes, width)

    def forward(self, a: Attributes) -> Tensor:
        return self.project(torch.cat([a.z, a.mu, a.sigma, a.t, a.l], dim=-1))
