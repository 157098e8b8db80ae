"""VQShape (Wen et al., NeurIPS 2024, arXiv 2411.01006) and VQShape guided by text.

W windows, M channels, B = W x M series, T steps, P patches, K tokens, D width, C code width, N codes,
S shape length, U distinct texts, L text tokens, E text width, Y classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import AttributeDecoder, AttributeEncoder, Attributes, Head
from model.config import LossConfig, ModelConfig
from model.guidance import GUIDANCE, Fused
from model.patches import PatchDecoder, PatchEncoder
from model.quantizer import Codebook
from model.shapes import ShapeDecoder, cut
from model.streams import seeded
from model.text import TextTable, TextTokens, masked_mean
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


class Batch(NamedTuple):
    """One training step. x (W, M, T) raw; label (W,); keep (B, kept) patch indices.

    Where there is text: text (W,) rows of the table, group (W,) equal for texts that mean the same,
    sees_text (W,) bool, the windows that take the guided path.
    """

    x: Tensor
    label: Tensor
    keep: Tensor
    text: Tensor
    group: Tensor
    sees_text: Tensor


class Sizes(NamedTuple):
    """What the data decides: steps and channels of a window, classes, text_width (0: there is no text)."""

    length: int
    channels: int
    classes: int
    text_width: int


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no graph inside; the mode comes back afterwards. Draws no random number."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


class GuidedVQShape(nn.Module):
    """The core on windows of M independent channels, with whatever text modules the config asks for.

    Validation, test, probes and users get `represent`, which takes no text.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self, config: ModelConfig, weights: LossConfig, sizes: Sizes, text_queries: int | None, seed: int
    ) -> None:
        super().__init__()
        self.config, self.weights = config, weights
        self.core = VQShape(config, sizes.length, seed)
        # Per-channel training statistics, (M, 1); `standardize` sets them.
        self.register_buffer("offset", torch.zeros(sizes.channels, 1))
        self.register_buffer("scale", torch.ones(sizes.channels, 1))
        guided = config.guidance.attention != "none"
        if (guided or weights.reads_text) and not sizes.text_width:
            raise ValueError("guidance or a text loss is on, but there is no text (sizes.text_width is 0)")
        self.text: TextTokens | None = None
        self.guidance: nn.Module | None = None
        self.log_scale: nn.Parameter | None = None
        self.text_head: Head | None = None
        self.classifier: nn.Linear | None = None
        if guided or weights.info_nce:
            with seeded(seed, "text"):
                self.text = TextTokens(sizes.text_width, config.width, config.heads, text_queries)
        if guided:
            with seeded(seed, "guidance"):
                build = GUIDANCE[config.guidance.attention, config.guidance.merge]
                self.guidance = build(config.width, config.heads, config.tokens)
        if weights.info_nce:
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        if weights.text_recon:
            with seeded(seed, "text_head"):
                self.text_head = Head(config.code_width, sizes.text_width, config.width)
        if weights.ce_series:
            with seeded(seed, "classifier"):
                features = sizes.channels * config.tokens * (config.code_width + 4)
                self.classifier = nn.Linear(features, sizes.classes)

    def standardize(self, offset_M1: Tensor, scale_M1: Tensor) -> None:
        """Fix the per-channel statistics (training subjects only) that every window is standardised by."""
        self.offset.copy_(offset_M1)
        self.scale.copy_(scale_M1)

    def to_series(self, x_WMT: Tensor) -> Tensor:
        """Standardised windows as B = W x M series."""
        if x_WMT.ndim != 3 or x_WMT.shape[1] != len(self.offset):
            raise ValueError(
                f"expected windows (W, {len(self.offset)} channels, T), found shape {tuple(x_WMT.shape)}"
            )
        return ((x_WMT - self.offset) / self.scale).flatten(0, 1)

    def fuse(self, h_BKD: Tensor, g_ULD: Tensor, real_UL: Tensor, text_W: Tensor) -> Fused:
        """Each channel's tokens meet their window's text."""
        assert self.guidance is not None
        text_B = text_W.repeat_interleave(len(h_BKD) // len(text_W))
        return self.guidance(h_BKD, g_ULD[text_B], real_UL[text_B])

    def losses(self, batch: Batch, table: TextTable | None) -> dict[str, Tensor]:
        """Every loss that has a weight, unweighted; `total` is their weighted sum.

        series, shape, vq and spread are computed on the path that each window took.
        """
        x_BT = self.to_series(batch.x)
        h_BKD = self.core.embed(x_BT, batch.keep)
        into = self.config.guidance.into
        fused, g_ULD, real_UL = None, h_BKD, h_BKD
        if self.text is not None:
            assert table is not None
            g_ULD, real_UL = self.text(table)
        if self.guidance is None:
            taken = alone = self.core.attr_decoder(h_BKD)
        else:
            fused = self.fuse(h_BKD, g_ULD, real_UL, batch.text)
            sees_B = batch.sees_text.repeat_interleave(len(h_BKD) // len(batch.x)).view(-1, 1, 1)
            taken = self.core.attr_decoder(h_BKD, torch.where(sees_B, fused.read, h_BKD), into)
            alone = self.core.attr_decoder(h_BKD)
        out = self.core.decode(x_BT, taken)
        found = self.core.losses(x_BT, out)
        if self.guidance is None:
            z_q = out.attributes.z
        elif self.text_head is not None or self.classifier is not None:
            z_q, _ = self.core.codebook.lookup(alone.z)
        if self.log_scale is not None:
            h_WD = h_BKD.unflatten(0, (len(batch.x), -1)).mean((1, 2))
            g_WD = masked_mean(g_ULD, real_UL)[batch.text]
            found["info_nce"] = L.info_nce(h_WD, g_WD, batch.group, self.log_scale)
            if fused is not None and fused.u is not None and self.config.guidance.merge == "contrast":
                s_WD = fused.s.unflatten(0, (len(batch.x), -1)).mean((1, 2))
                real_BL = real_UL[batch.text.repeat_interleave(len(h_BKD) // len(batch.x))]
                u_WD = masked_mean(fused.u, real_BL).unflatten(0, (len(batch.x), -1)).mean(1)
                found["info_nce"] = found["info_nce"] + L.info_nce(s_WD, u_WD, batch.group, self.log_scale)
        if self.weights.consistency:
            found["consistency"] = self.consistency(x_BT, alone, g_ULD, real_UL, batch.text)
        if self.text_head is not None:
            assert table is not None
            predicted_WE = self.text_head(z_q).unflatten(0, (len(batch.x), -1)).mean((1, 2))
            found["text_recon"] = L.text_recon(predicted_WE, table.target[batch.text])
        if self.classifier is not None:
            logits_WY = self.classifier(self.tokens(alone._replace(z=z_q), len(batch.x)))
            found["ce_series"] = L.ce_series(logits_WY, batch.label)
        found["total"] = torch.stack([getattr(self.weights, k) * v for k, v in found.items()]).sum()
        return found

    def consistency(
        self, x_BT: Tensor, alone: Attributes, g_ULD: Tensor, real_UL: Tensor, text_W: Tensor
    ) -> Tensor:
        """The guided side sees every patch, has no dropout and no gradient."""
        with without_dropout(self):
            h_BKD = self.core.embed(x_BT)
            fused = self.fuse(h_BKD, g_ULD, real_UL, text_W)
            into = self.config.guidance.into
            guided = self.core.attr_decoder(h_BKD, fused.read, into)
        temperature = self.weights.consistency_temperature
        log_p_alone = self.core.codebook.distribution(alone.z, temperature)
        log_p_guided = self.core.codebook.distribution(guided.z, temperature)
        return L.consistency(alone, guided, log_p_alone, log_p_guided, into)

    def tokens(self, a: Attributes, windows: int) -> Tensor:
        """The tokens representation (W, M x K x (C + 4)) = z_q, t, l, mu, sigma."""
        return torch.cat([a.z, a.t, a.l, a.mu, a.sigma], dim=-1).reshape(windows, -1)

    def histogram(self, code_BK: Tensor, windows: int) -> Tensor:
        """The histogram representation (W, M x N): how often each channel used each code."""
        counts = torch.zeros(len(code_BK), self.config.codes, device=code_BK.device)
        counts.scatter_add_(1, code_BK, torch.ones_like(code_BK, dtype=counts.dtype))
        return counts.reshape(windows, -1)

    def represent(self, x_WMT: Tensor) -> tuple[dict[str, Tensor], Output]:
        """Series-only representations of raw windows, and the pass behind them. Call in evaluation mode."""
        out = self.core(self.to_series(x_WMT))
        windows = len(x_WMT)
        return {
            "tokens": self.tokens(out.attributes, windows),
            "histogram": self.histogram(out.code, windows),
        }, out
