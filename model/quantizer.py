"""z to the nearest of N codes (VQ-VAE, van den Oord et al. 2017, with LFQ's entropy term).

B series, K tokens, C code width, N codes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

ENTROPY_TEMPERATURE = 0.01


class Quantized(NamedTuple):
    """z (B, K, C): the code's value with the straight-through gradient; code (B, K): its number; vq: the
    scalar loss."""

    z: Tensor
    code: Tensor
    vq: Tensor


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis."""
    return -(p * p.clamp(min=1e-5).log()).sum(-1)


class Codebook(nn.Module):
    """vq = mean((sg(z_q) - z)^2) + w mean((z_q - sg(z))^2) + e (mean_i H(p_i) - gamma H(mean_i p_i)),
    p = softmin(d / 0.01); w is `codebook_weight`, e `entropy_weight`. Distances are float32 always."""

    def __init__(
        self, codes: int, code_width: int, codebook_weight: float, entropy_weight: float, entropy_gamma: float
    ) -> None:
        super().__init__()
        self.weights = (codebook_weight, entropy_weight, entropy_gamma)
        self.embedding = nn.Embedding(codes, code_width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    def codes(self) -> Tensor:
        """The code vectors (N, C)."""
        return self.embedding.weight

    def distances(self, z_BKC: Tensor, codes_NC: Tensor) -> Tensor:
        """Squared Euclidean distances (B, K, N)."""
        z, codes = z_BKC.float(), codes_NC.float()
        return (z**2).sum(-1, keepdim=True) + (codes**2).sum(-1) - 2 * z @ codes.T

    def lookup(self, z_BKC: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest code with the straight-through gradient, and its index; no loss."""
        code_BK = self.distances(z_BKC, self.embedding.weight).argmin(-1)
        return z_BKC + (self.embedding(code_BK) - z_BKC).detach(), code_BK

    def forward(self, z_BKC: Tensor, update: bool = True) -> Quantized:
        codebook_weight, entropy_weight, entropy_gamma = self.weights
        d_BKN = self.distances(z_BKC, self.embedding.weight)
        code_BK = d_BKN.argmin(-1)
        z_q = self.embedding(code_BK)
        vq = ((z_q.detach() - z_BKC) ** 2).mean() + codebook_weight * ((z_q - z_BKC.detach()) ** 2).mean()
        if entropy_weight:
            p_IN = torch.softmax(-d_BKN.flatten(0, 1) / ENTROPY_TEMPERATURE, dim=-1)
            vq = vq + entropy_weight * (entropy(p_IN).mean() - entropy_gamma * entropy(p_IN.mean(0)))
        return Quantized(z_BKC + (z_q - z_BKC).detach(), code_BK, vq)

    def distribution(self, z_BKC: Tensor, temperature: float) -> Tensor:
        """log p (B, K, N) of each code, softmin(d / temperature); the codes get no gradient."""
        return torch.log_softmax(-self.distances(z_BKC, self.embedding.weight.detach()) / temperature, dim=-1)


QUANTIZERS = {"standard": Codebook}
