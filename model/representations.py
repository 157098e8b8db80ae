"""Series-only tokens of windows, and what probes read of them.

W windows, M channels, T steps, B series, K tokens, A axes, F numbers of a token, C code width, N codes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from model.attributes import Attributes
from model.config import ModelConfig
from model.quantizer import Quantized


def numbers(a: Attributes) -> Tensor:
    """What is known of each token, one row a token (B, K, F = C + 2 + 2A): z, t, l, mu, sigma."""
    return torch.cat([a.z, a.t, a.l, a.mu, a.sigma], dim=-1)


def features(a: Attributes, windows: int) -> Tensor:
    """A window's tokens in one row, series by series (W, B/W x K x F)."""
    return numbers(a).reshape(windows, -1)


class Tokens(NamedTuple):
    """attributes before quantisation, and z's codes."""

    attributes: Attributes
    quantized: Quantized

    def coded(self) -> Attributes:
        """The attributes with z's codes in the place of z."""
        return self.attributes._replace(z=self.quantized.z)

    def each(self, representation: str) -> Tensor:
        """What each token gives to a representation but the histogram (B, K, F): its numbers, with z before
        quantisation in tokens_ze; in pooled also their squares (B, K, 2F)."""
        if representation == "tokens_ze":
            return numbers(self.attributes)
        numbers_BKF = numbers(self.coded())
        if representation == "pooled":
            return torch.cat([numbers_BKF, numbers_BKF.square()], dim=-1)
        return numbers_BKF

    def tokens(self, windows: int) -> Tensor:
        """The tokens representation: z_q, t, l, mu, sigma of each token, in their order."""
        return features(self.coded(), windows)

    def pooled(self, windows: int) -> Tensor:
        """Mean and mean square of z_q, t, l, mu, sigma over the tokens of each series (W, B/W x 2F), in
        whatever order they come: a window that begins anywhere in a movement holds it at any place."""
        return self.each("pooled").mean(1).reshape(windows, -1)

    def histogram(self, windows: int, codes: int) -> Tensor:
        """How often each series used each code (W, B/W x N). Raises ValueError without a codebook."""
        code_BK = self.quantized.code
        if code_BK is None:
            raise ValueError("quantizer none has no codes to count")
        counts_BN = torch.zeros(len(code_BK), codes, device=code_BK.device)
        counts_BN.scatter_add_(1, code_BK, torch.ones_like(code_BK, dtype=counts_BN.dtype))
        return counts_BN.reshape(windows, -1)

    def features(self, x_WMT: Tensor, config: ModelConfig) -> dict[str, Tensor]:
        """tokens, tokens_ze (z before quantisation), pooled, histogram; with keep_scale also scale."""
        windows = len(x_WMT)
        found = {"tokens": self.tokens(windows), "tokens_ze": features(self.attributes, windows)}
        found["pooled"] = self.pooled(windows)
        if self.quantized.code is not None:
            found["histogram"] = self.histogram(windows, config.codes)
        if config.keep_scale:
            found["scale"] = scale(x_WMT)
        return found


def scale(x_WMT: Tensor) -> Tensor:
    """Mean and log standard deviation of each raw channel (W, 2M): what `normalize: instance` loses."""
    return torch.cat([x_WMT.mean(-1), (x_WMT.std(-1, correction=0) + 1e-6).log()], dim=-1)
