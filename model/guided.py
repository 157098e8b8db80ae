"""VQShape guided by text, on windows of several channels.

W windows, M channels, B = W x M series, T steps, P patches, K tokens, D width, C code width, N codes,
U distinct texts, L text tokens, E text width, Y classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import Attributes, Head
from model.config import LossConfig, ModelConfig
from model.guidance import GUIDANCE, Fused
from model.streams import seeded
from model.text import TextTable, TextTokens, masked_mean
from model.vqshape import Output, VQShape


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


class BatchText(NamedTuple):
    """Each series' text: tokens g (B, L, D) and which of them are real (B, L)."""

    g_BLD: Tensor
    real_BL: Tensor

    @classmethod
    def of(cls, g_ULD: Tensor, real_UL: Tensor, text_W: Tensor, channels: int) -> "BatchText":
        text_B = text_W.repeat_interleave(channels)
        return cls(g_ULD[text_B], real_UL[text_B])


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
        self.config, self.weights, self.channels = config, weights, sizes.channels
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

    def fuse(self, h_BKD: Tensor, text: BatchText) -> Fused:
        """Each channel's tokens meet their window's text."""
        assert self.guidance is not None
        return self.guidance(h_BKD, text.g_BLD, text.real_BL)

    def losses(self, batch: Batch, table: TextTable | None) -> dict[str, Tensor]:
        """Every loss that has a weight, unweighted; `total` is their weighted sum.

        series, shape, vq and spread are computed on the path that each window took.
        """
        windows, x_BT = len(batch.x), self.to_series(batch.x)
        h_BKD = self.core.embed(x_BT, batch.keep)
        alone = taken = self.core.attr_decoder(h_BKD)
        text, fused = None, None
        if self.text is not None and table is not None:
            g_ULD, real_UL = self.text(table)
            text = BatchText.of(g_ULD, real_UL, batch.text, self.channels)
        if self.guidance is not None and text is not None:
            fused = self.fuse(h_BKD, text)
            sees_B11 = batch.sees_text.repeat_interleave(self.channels).view(-1, 1, 1)
            read_BKD = torch.where(sees_B11, fused.read, h_BKD)
            taken = self.core.attr_decoder(h_BKD, read_BKD, self.config.guidance.into)
        out = self.core.decode(x_BT, taken)
        found = self.core.losses(x_BT, out)
        if text is not None and self.log_scale is not None:
            found["info_nce"] = self.info_nce(h_BKD, fused, text, batch.group, self.log_scale)
        if text is not None and self.weights.consistency:
            found["consistency"] = self.consistency(x_BT, alone, text)
        if self.text_head is not None or self.classifier is not None:
            # The codes that users get: where a window took the guided path, its series-only z, quantised.
            z = out.attributes.z if fused is None else self.core.codebook.lookup(alone.z)[0]
            if self.text_head is not None and table is not None:
                predicted_WE = self.text_head(z).unflatten(0, (windows, -1)).mean((1, 2))
                found["text_recon"] = L.text_recon(predicted_WE, table.target[batch.text])
            if self.classifier is not None:
                logits_WY = self.classifier(self.tokens(alone._replace(z=z), windows))
                found["ce_series"] = L.ce_series(logits_WY, batch.label)
        found["total"] = torch.stack([getattr(self.weights, k) * v for k, v in found.items()]).sum()
        return found

    def info_nce(
        self, h_BKD: Tensor, fused: Fused | None, text: BatchText, group_W: Tensor, log_scale: Tensor
    ) -> Tensor:
        """Pooled h against pooled g, and with merge contrast pooled s against pooled u, per window."""

        def per_window(v_BD: Tensor) -> Tensor:
            return v_BD.unflatten(0, (-1, self.channels)).mean(1)

        g_WD = per_window(masked_mean(text.g_BLD, text.real_BL))
        loss = L.info_nce(per_window(h_BKD.mean(1)), g_WD, group_W, log_scale)
        if fused is not None and fused.u is not None and self.config.guidance.merge == "contrast":
            u_WD = per_window(masked_mean(fused.u, text.real_BL))
            loss = loss + L.info_nce(per_window(fused.s.mean(1)), u_WD, group_W, log_scale)
        return loss

    def consistency(self, x_BT: Tensor, alone: Attributes, text: BatchText) -> Tensor:
        """The guided side sees every patch, has no dropout and no gradient."""
        into = self.config.guidance.into
        with without_dropout(self):
            h_BKD = self.core.embed(x_BT)
            guided = self.core.attr_decoder(h_BKD, self.fuse(h_BKD, text).read, into)
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
