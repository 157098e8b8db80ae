"""VQShape (Wen et al., NeurIPS 2024, arXiv 2411.01006): series in, series and shapes out.

B series, A axes of one series, T steps, P patches, K tokens, D width, C code width, S shape length.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import AttributeDecoder, AttributeEncoder, Attributes
from model.config import ModelConfig
from model.patches import PatchDecoder, PatchEncoder
from model.quantizer import QUANTIZERS, Quantized
from model.shapes import ShapeDecoder, cut
from model.streams import seeded
from model.tokens import Tokenizer


class Output(NamedTuple):
    """One pass: x_hat (B, A, T), s_hat (B, K, A, S), attributes with z quantised, code numbers (B, K) or None
    without a codebook, vq."""

    x_hat: Tensor
    s_hat: Tensor
    attributes: Attributes
    code: Tensor | None
    vq: Tensor


class VQShape(nn.Module):
    """The core: series in, series and shapes out. Parameter names are the reference's.

    A series has one axis (`channels: independent | flatten`), or a window's channels (`joint`): then a token
    has one code, t and l, but mu, sigma and a shape for each axis.

    Raises ValueError when `length` can't be cut into the config's patches and tokens.
    """

    def __init__(self, config: ModelConfig, length: int, axes: int, seed: int) -> None:
        super().__init__()
        config.check_length(length)
        self.config, self.axes = config, axes
        width, heads, dropout = config.width, config.heads, config.dropout
        with seeded(seed, "encoder"):
            self.encoder = PatchEncoder(
                axes, config.patches, length // config.patches, width, heads, config.encoder_layers, dropout
            )
        with seeded(seed, "tokenizer"):
            self.tokenizer = Tokenizer(config.tokens, width, heads, config.tokenizer_layers, dropout)
        with seeded(seed, "attr_decoder"):
            self.attr_decoder = AttributeDecoder(config.code_width, width, axes)
        with seeded(seed, "codebook"):
            self.codebook = QUANTIZERS[config.quantizer](
                config.codes,
                config.code_width,
                config.codebook_weight,
                config.entropy_weight,
                config.entropy_gamma,
            )
        with seeded(seed, "attr_encoder"):
            self.attr_encoder = AttributeEncoder(config.code_width, width, axes)
        with seeded(seed, "decoder"):
            samples = length // config.tokens
            self.decoder = PatchDecoder(axes, samples, width, heads, config.decoder_layers, dropout)
        with seeded(seed, "shape_decoder"):
            self.shape_decoder = ShapeDecoder(config.code_width, config.shape_length, config.smoothing, axes)

    def scale(self, x_BAT: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and scale (B, A, 1) that each axis is normalised by."""
        if self.config.normalize == "dataset":
            return torch.zeros_like(x_BAT[..., :1]), torch.ones_like(x_BAT[..., :1])
        return x_BAT.mean(-1, keepdim=True), (x_BAT.var(-1, keepdim=True) + 1e-5).sqrt()

    def patches(self, x_BAT: Tensor, keep_BP: Tensor | None = None) -> Tensor:
        """Patch embeddings (B, P, D), or only those that `keep_BP` (B, kept) names."""
        offset, scale = self.scale(x_BAT)
        return self.encoder((x_BAT - offset) / scale, keep_BP)

    def embed(self, x_BAT: Tensor, keep_BP: Tensor | None = None) -> Tensor:
        """Shape tokens h (B, K, D) from all patches, or from those that `keep_BP` names."""
        return self.tokenizer(self.patches(x_BAT, keep_BP))

    def tokenize(self, x_BAT: Tensor) -> tuple[Attributes, Quantized]:
        """The series-only attributes before quantisation, and their codes; no decoder runs."""
        a = self.attr_decoder(self.embed(x_BAT))
        return a, self.codebook(a.z, update=False)

    def decode_series(self, x_BAT: Tensor, a: Attributes) -> Tensor:
        """The series (B, A, T) that quantised attributes describe, in the scale of `x_BAT`."""
        offset, scale = self.scale(x_BAT)
        return self.decoder(self.attr_encoder(a)) * scale + offset

    def rebuild(self, x_BAT: Tensor, a: Attributes, q: Quantized) -> Output:
        """The series and each token's shape from attributes and their codes, in the scale of `x_BAT`."""
        offset, scale = self.scale(x_BAT)
        a = a._replace(z=q.z)
        x_hat_BAT = self.decode_series(x_BAT, a)
        s_BKAS = self.shape_decoder.decode(q.z, q.code, self.codebook.codes())
        s_BKAS = s_BKAS * a.sigma.unsqueeze(-1) + a.mu.unsqueeze(-1)
        return Output(x_hat_BAT, s_BKAS * scale.unsqueeze(1) + offset.unsqueeze(1), a, q.code, q.vq)

    def decode(self, x_BAT: Tensor, a: Attributes) -> Output:
        """Quantise z, then rebuild."""
        return self.rebuild(x_BAT, a, self.codebook(a.z))

    def forward(self, x_BAT: Tensor, keep_BP: Tensor | None = None) -> Output:
        """The series-only path."""
        return self.decode(x_BAT, self.attr_decoder(self.embed(x_BAT, keep_BP)))

    def true_shapes(self, x_BAT: Tensor, a: Attributes) -> Tensor:
        """The target of s_hat (B, K, A, S)."""
        return cut(x_BAT, a.t, a.l, self.config.shape_length, self.config.smoothing)

    def losses(self, x_BAT: Tensor, out: Output) -> dict[str, Tensor]:
        """The reference's four losses, unweighted."""
        return {
            "series": L.series(out.x_hat, x_BAT),
            "shape": L.shape(out.s_hat, self.true_shapes(x_BAT, out.attributes)),
            "vq": out.vq,
            "spread": L.spread(out.attributes.t, out.attributes.l),
        }
