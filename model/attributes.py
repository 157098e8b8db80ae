"""Shape tokens to attributes (z, mu, sigma, t, l) and back to embeddings.

B series, A axes of one series, K tokens, D width, C code width.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

MIN_LENGTH = 1 / 64  # shortest shape, as a part of the window (the reference's min_shape_len)


class Attributes(NamedTuple):
    """z (B, K, C) which shape; mu offset, sigma > 0 scale, both (B, K, A); t start and l length in parts of
    the window, both (B, K, 1), with t + l <= 1 + MIN_LENGTH."""

    z: Tensor
    mu: Tensor
    sigma: Tensor
    t: Tensor
    l: Tensor  # noqa: E741 - the paper's name


class Head(nn.Module):
    """Two-layer MLP with ReLU."""

    def __init__(self, width_in: int, width_out: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(), nn.Linear(hidden, width_out))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)


class AttributeDecoder(nn.Module):
    """The heads. Each reads the series' tokens h, or the fused ones if its name is in `into`."""

    def __init__(self, code_width: int, width: int, axes: int) -> None:
        super().__init__()
        self.z_head = Head(width, code_width, width)
        self.tl_mean_head = Head(width, 2, width)
        self.mu_head = Head(width, axes, width)
        self.sigma_head = Head(width, axes, width)

    def forward(
        self, h_BKD: Tensor, fused_BKD: Tensor | None = None, into: Collection[str] = ()
    ) -> Attributes:
        def read(name: str) -> Tensor:
            return fused_BKD if fused_BKD is not None and name in into else h_BKD

        tl_BK2 = self.tl_mean_head(read("t"))
        l_BK2 = tl_BK2 if read("l") is read("t") else self.tl_mean_head(read("l"))
        t_BK1 = tl_BK2[..., :1].sigmoid() * (1 - MIN_LENGTH)
        return Attributes(
            z=self.z_head(read("z")),
            mu=self.mu_head(read("mu")),
            sigma=nn.functional.softplus(self.sigma_head(read("sigma"))),
            t=t_BK1,
            l=l_BK2[..., 1:].sigmoid() * (1 - t_BK1) + MIN_LENGTH,
        )


class AttributeEncoder(nn.Module):
    """Attributes (z quantised) -> embeddings (B, K, D) for the series decoder."""

    def __init__(self, code_width: int, width: int, axes: int) -> None:
        super().__init__()
        self.project = nn.Linear(code_width + 2 + 2 * axes, width)

    def forward(self, a: Attributes) -> Tensor:
        return self.project(torch.cat([a.z, a.mu, a.sigma, a.t, a.l], dim=-1))
