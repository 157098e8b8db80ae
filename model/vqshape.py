"""VQShape (Wen et al., NeurIPS 2024, arXiv 2411.01006): series in, series and shapes out.

B series, T steps, P patches, K tokens, D width, C code width, S shape length.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import AttributeDecoder, AttributeEncoder, Attributes
from model.config import ModelConfig
from model.patches import PatchDecoder, PatchEncoder
from model.quantizer import Codebook
from model.shapes import ShapeDecoder, cut
from model.streams import seeded
from model.tokens import Tokenizer


class Output(NamedTuple):
    """One pass: x_hat (B, T), s_hat (B, K, S), attributes with z quantised, code numbers (B, K), vq."""

    x_hat: Tensor
    s_hat: Tensor
    attributes: Attributes
    code: Tensor
    vq: Tensor


class VQShape(nn.Module):
    """The core: series in, series and shapes out. Parameter names are the reference's.

    Raises ValueError when `length` can't be cut into the config's patches and tokens.
    """

    def __init__(self, config: ModelConfig, length: int, seed: int) -> None:
        super().__init__()
        config.check_length(length)
        self.config = config
        width, heads, dropout = config.width, config.heads, config.dropout
        with seeded(seed, "encoder"):
            self.encoder = PatchEncoder(
                config.patches, length // config.patches, width, heads, config.encoder_layers, dropout
            )
        with seeded(seed, "tokenizer"):
            self.tokenizer = Tokenizer(config.tokens, width, heads, config.tokenizer_layers, dropout)
        with seeded(seed, "attr_decoder"):
            self.attr_decoder = AttributeDecoder(config.code_width, width)
        with seeded(seed, "codebook"):
            self.codebook = Codebook(
                config.codes,
                config.code_width,
                config.codebook_weight,
                config.entropy_weight,
                config.entropy_gamma,
            )
        with seeded(seed, "attr_encoder"):
            self.attr_encoder = AttributeEncoder(config.code_width, width)
        with seeded(seed, "decoder"):
            self.decoder = PatchDecoder(length // config.tokens, width, heads, config.decoder_layers, dropout)
        with seeded(seed, "shape_decoder"):
            self.shape_decoder = ShapeDecoder(config.code_width, config.shape_length, config.smoothing)

    def scale(self, x_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and scale (B, 1) that each series is normalised by."""
        if self.config.normalize == "dataset":
            return torch.zeros_like(x_BT[:, :1]), torch.ones_like(x_BT[:, :1])
        return x_BT.mean(-1, keepdim=True), (x_BT.var(-1, keepdim=True) + 1e-5).sqrt()

    def embed(self, x_BT: Tensor, keep_BP: Tensor | None = None) -> Tensor:
        """Shape tokens h (B, K, D) from all patches, or from those that `keep_BP` names."""
        offset, scale = self.scale(x_BT)
        return self.tokenizer(self.encoder((x_BT - offset) / scale, keep_BP))

    def decode_series(self, x_BT: Tensor, a: Attributes) -> Tensor:
        """The series (B, T) that quantised attributes describe, in the scale of `x_BT`."""
        offset, scale = self.scale(x_BT)
        return self.decoder(self.attr_encoder(a)) * scale + offset

    def decode(self, x_BT: Tensor, a: Attributes) -> Output:
        """Quantise z, then rebuild the series and each token's shape, in the scale of `x_BT`."""
        offset, scale = self.scale(x_BT)
        q = self.codebook(a.z)
        a = a._replace(z=q.z)
        x_hat_BT = self.decode_series(x_BT, a)
        s_BKS = self.shape_decoder.decode(q.z, q.code, self.codebook.embedding.weight)
        s_hat_BKS = (s_BKS * a.sigma + a.mu) * scale.unsqueeze(1) + offset.unsqueeze(1)
        return Output(x_hat_BT, s_hat_BKS, a, q.code, q.vq)

    def forward(self, x_BT: Tensor, keep_BP: Tensor | None = None) -> Output:
        """The series-only path."""
        return self.decode(x_BT, self.attr_decoder(self.embed(x_BT, keep_BP)))

    def true_shapes(self, x_BT: Tensor, a: Attributes) -> Tensor:
        """The target of s_hat (B, K, S)."""
        return cut(x_BT, a.t, a.l, self.config.shape_length, self.config.smoothing)

    def losses(self, x_BT: Tensor, out: Output) -> dict[str, Tensor]:
        """The reference's four losses, unweighted."""
        return {
            "series": L.series(out.x_hat, x_BT),
            "shape": L.shape(out.s_hat, self.true_shapes(x_BT, out.attributes)),
            "vq": out.vq,
            "spread": L.spread(out.attributes.t, out.attributes.l),
        }
