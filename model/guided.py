"""VQShape guided by text, on windows of several channels.

W windows, M channels, B series, A axes of one series, T steps, P patches, K tokens, D width, C code width,
N codes, L text tokens, Y classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import losses as L
from model.attributes import Attributes, Head
from model.batch import Batch, BatchText, Sizes, rows
from model.concepts import ConceptTable
from model.config import LossConfig, ModelConfig
from model.guidance import GUIDANCE, Fused, OneWay
from model.layers import without_dropout
from model.representations import Tokens, features
from model.streams import aside, seeded
from model.sub_actions import SubActions
from model.text import TextCodes, TextTable, TextTokens, masked_mean
from model.vqshape import Output, VQShape


class Guided(NamedTuple):
    """The guided path of a batch: what the heads in `into` read (B, K, D), and s and u behind it."""

    read: Tensor
    fused: Fused


class GuidedVQShape(nn.Module):
    """The core on windows of M channels, with whatever text modules the config asks for.

    Validation, test, probes and users get `tokenize`, `features` and `reconstruct`, which take no text.
    Raises ValueError for losses and modules that can't go together, and for text modules without text.
    """

    offset: Tensor
    scale: Tensor
    class_weight: Tensor

    def __init__(
        self, config: ModelConfig, weights: LossConfig, sizes: Sizes, text_queries: int | None, seed: int
    ) -> None:
        super().__init__()
        weights.check(config)
        self.config, self.weights, self.sizes = config, weights, sizes
        self.streams, axes = config.streams(sizes.channels), config.axes(sizes.channels)
        self.core = VQShape(config, config.steps(sizes.channels, sizes.length), axes, seed)
        # Per-channel training statistics, (M, 1), and class weights (Y,); `standardize` and `weigh` set them.
        self.register_buffer("offset", torch.zeros(sizes.channels, 1))
        self.register_buffer("scale", torch.ones(sizes.channels, 1))
        self.register_buffer("class_weight", torch.ones(sizes.classes))
        if (weights.reads_text(config) or weights.sub_action) and not sizes.text_width:
            raise ValueError("guidance or a text loss is on, but there is no text (sizes.text_width is 0)")
        self._add_text(text_queries, seed)
        self._add_heads(axes, seed)

    def _add_text(self, queries: int | None, seed: int) -> None:
        config, guidance, width = self.config, self.config.guidance, self.config.width
        heads = guidance.heads or config.heads
        self.text: TextTokens | None = None
        self.guidance: OneWay | None = None
        self.text_codes: TextCodes | None = None
        self.log_scale: nn.Parameter | None = None
        guided = guidance.attention != "none"
        if guided or self.weights.contrasts or config.text_codes:
            with seeded(seed, "text"):
                self.text = TextTokens(self.sizes.text_width, width, config.heads, queries)
        if guided:
            with seeded(seed, "guidance"):
                positions = config.patches if guidance.at == "patches" else config.tokens
                build = GUIDANCE[guidance.attention, guidance.merge]
                self.guidance = build(width, heads, guidance.layers, positions)
        if config.text_codes:
            with seeded(seed, "text_codes"):
                self.text_codes = TextCodes(config.tokens, width, config.heads, config.code_width)
        if self.weights.info_nce:
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def _add_heads(self, axes: int, seed: int) -> None:
        config, weights, sizes = self.config, self.weights, self.sizes
        self.text_head: Head | None = None
        self.classifier: nn.Linear | None = None
        self.guided_classifier: nn.Linear | None = None
        self.text_classifier: nn.Linear | None = None
        self.sub_actions: SubActions | None = None
        if weights.text_recon:
            with seeded(seed, "text_head"):
                width_in = config.width if weights.text_recon_level == "guided" else config.code_width
                self.text_head = Head(width_in, sizes.text_width, config.width)
        if weights.ce_series:
            with seeded(seed, "classifier"):
                per_token = config.code_width + 2 + 2 * axes
                self.classifier = nn.Linear(self.streams * config.tokens * per_token, sizes.classes)
        if weights.ce_guided_series:
            with seeded(seed, "guided_classifier"):
                self.guided_classifier = nn.Linear(config.width, sizes.classes)
        if weights.ce_guided_text:
            with seeded(seed, "text_classifier"):
                self.text_classifier = nn.Linear(config.width, sizes.classes)
        if weights.sub_action:
            with seeded(seed, "sub_actions"):
                width_in = config.width if config.sub_actions == "head" else config.code_width
                self.sub_actions = SubActions(width_in, sizes.text_width, config.width, len(sizes.concepts))

    def standardize(self, offset_M1: Tensor, scale_M1: Tensor) -> None:
        """Fix the per-channel statistics (training subjects only) that every window is standardised by."""
        self.offset.copy_(offset_M1)
        self.scale.copy_(scale_M1)

    def weigh(self, label: Tensor) -> None:
        """Fix the guided classifiers' class weights: inverse frequencies of training labels, scaled so that
        equally frequent classes weigh 1; a class that never occurs weighs 0."""
        counts = torch.bincount(label, minlength=len(self.class_weight)).to(self.class_weight)
        weight = len(label) / (counts.clamp(min=1) * len(counts))
        self.class_weight.copy_(weight * (counts > 0))

    def know(self, concepts: ConceptTable) -> None:
        """Fix the vectors of the concepts. Raises ValueError in a model without sub-actions."""
        if self.sub_actions is None:
            raise ValueError("this model has no sub-actions: losses.sub_action is 0")
        self.sub_actions.vectors.copy_(concepts.vectors)

    @torch.no_grad()
    def name_codes(self) -> Tensor:
        """The distribution over `sizes.concepts` (N, Q) that each code names, without any series; raises
        ValueError unless the model was built with sub_actions decoder."""
        codes_NC = self.core.codebook.codes()
        if self.sub_actions is None or self.config.sub_actions != "decoder" or codes_NC is None:
            raise ValueError("only a model with sub_actions: decoder names its codes")
        return self.sub_actions.log_p(codes_NC).exp()

    def to_series(self, x_WMT: Tensor) -> Tensor:
        """Standardised windows as series (B, A, T'): channel by channel, end to end, or together."""
        if x_WMT.ndim != 3 or x_WMT.shape[1:] != (len(self.offset), self.sizes.length):
            raise ValueError(
                f"expected windows (W, {len(self.offset)} channels, {self.sizes.length} steps), "
                f"found shape {tuple(x_WMT.shape)}"
            )
        x_WMT = (x_WMT - self.offset) / self.scale
        if self.config.channels == "joint":
            return x_WMT
        return x_WMT.reshape(len(x_WMT) * self.streams, 1, -1)

    def losses(
        self, batch: Batch, table: TextTable | None, concepts: ConceptTable | None = None
    ) -> dict[str, Tensor]:
        """Every loss that has a weight, unweighted; `total` is their weighted sum.

        series, shape, vq and spread are computed on the path that each window took. Raises ValueError without
        the texts or concepts that a loss reads.
        """
        core, weights, x_BAT = self.core, self.weights, self.to_series(batch.x)
        for name, given, needed in (
            ("texts", table, weights.reads_text(self.config)),
            ("concepts", concepts, weights.sub_action),
        ):
            if needed and given is None:
                raise ValueError(f"expected {name}, which the losses read, found None")
        p_BPD = core.patches(x_BAT, batch.keep)
        h_BKD = core.tokenizer(p_BPD)
        alone = taken = core.attr_decoder(h_BKD)
        text, guided = None, None
        if self.text is not None and table is not None:
            g_ULD, real_UL = self.text(table)
            text = BatchText.of(g_ULD, real_UL, batch.text, self.streams)
        if self.guidance is not None and text is not None:
            guided = self.guide(p_BPD, h_BKD, text, batch.keep)
            sees_B11 = batch.sees_text.repeat_interleave(self.streams).view(-1, 1, 1)
            read_BKD = torch.where(sees_B11, guided.read, h_BKD)
            taken = core.attr_decoder.guided(alone, h_BKD, read_BKD, self.config.guidance.into)
        out = core.decode(x_BAT, taken)
        found = core.losses(x_BAT, out)
        if text is not None and weights.contrasts:
            found |= self.contrastive(h_BKD, guided, text, batch.group)
        if text is not None and weights.consistency:
            found["consistency"] = self.consistency(x_BAT, alone, text)
        if guided is not None:
            found |= self.guided_ce(guided, text, batch.group)
        if self.text_codes is not None and text is not None:
            z_WKC = rows(self.text_codes(g_ULD, real_UL), batch.text)
            found |= self.from_text(x_BAT, alone, z_WKC)
        # The codes that users get: where a window took the guided path, its series-only z, quantised.
        z = out.attributes.z if guided is None else core.codebook.lookup(alone.z)[0]
        if self.text_head is not None and table is not None:
            read = guided.read if guided is not None and weights.text_recon_level == "guided" else z
            predicted_WE = self.text_head.mean(read.reshape(len(batch.x), -1, read.shape[-1]))
            found["text_recon"] = L.text_recon(predicted_WE, table.target[batch.text])
        if self.classifier is not None:
            logits_WY = self.classifier(features(alone._replace(z=z), len(batch.x)))
            found["ce_series"] = L.ce_series(logits_WY, batch.label)
        if self.sub_actions is not None and concepts is not None:
            found["sub_action"] = self.sub_action(self.sub_actions, h_BKD, z, concepts, batch.group)
        found["total"] = torch.stack([getattr(weights, k) * v for k, v in found.items()]).sum()
        return found

    def guide(self, p_BPD: Tensor, h_BKD: Tensor, text: BatchText, keep_BP: Tensor | None) -> Guided:
        """Tokens, or patches before them, meet their window's text."""
        assert self.guidance is not None
        if self.config.guidance.at == "tokens":
            fused = self.guidance(h_BKD, text.g, text.real)
            return Guided(fused.read, fused)
        fused = self.guidance(p_BPD, text.g, text.real, keep_BP)
        with aside(p_BPD.device):
            return Guided(self.core.tokenizer(fused.read), fused)

    def contrastive(
        self, h_BKD: Tensor, guided: Guided | None, text: BatchText, group_W: Tensor
    ) -> dict[str, Tensor]:
        """Pooled h against pooled g, and with merge contrast pooled s against pooled u, per window."""
        pairs = [(self.pooled(h_BKD.mean(1)), self.pooled(masked_mean(text.g, text.real)))]
        if guided is not None and guided.fused.u is not None and self.config.guidance.merge == "contrast":
            u_WD = self.pooled(masked_mean(guided.fused.u, text.real))
            pairs.append((self.pooled(guided.fused.s.mean(1)), u_WD))
        found = {}
        if self.log_scale is not None:
            losses = [L.info_nce(a_WD, b_WD, group_W, self.log_scale) for a_WD, b_WD in pairs]
            found["info_nce"] = torch.stack(losses).sum()
        if self.weights.supcon:
            found["supcon"] = torch.stack([L.supcon(a_WD, b_WD, group_W) for a_WD, b_WD in pairs]).sum()
        return found

    def pooled(self, v_BD: Tensor) -> Tensor:
        """Mean over the series of each window (W, D)."""
        return v_BD.unflatten(0, (-1, self.streams)).mean(1)

    def consistency(self, x_BAT: Tensor, alone: Attributes, text: BatchText) -> Tensor:
        """The guided side sees every patch, has no dropout and no gradient."""
        into, core = self.config.guidance.into, self.core
        with without_dropout(self):
            p_BPD = core.patches(x_BAT)
            h_BKD = core.tokenizer(p_BPD)
            read_BKD = self.guide(p_BPD, h_BKD, text, None).read
            guided = core.attr_decoder.guided(core.attr_decoder(h_BKD), h_BKD, read_BKD, into)
        log_p = {}
        if "z" in into:
            temperature = self.weights.consistency_temperature
            log_p = {
                "log_p_alone_BKN": core.codebook.distribution(alone.z, temperature),
                "log_p_guided_BKN": core.codebook.distribution(guided.z, temperature),
            }
        return L.consistency(alone, guided, into, **log_p)

    def guided_ce(self, guided: Guided, text: BatchText | None, group_W: Tensor) -> dict[str, Tensor]:
        """The two cross-entropies on fused tokens. Their target is the class that the text was made for: with
        shuffled text no label comes in."""
        found = {}
        if self.guided_classifier is not None:
            logits_WY = self.guided_classifier(self.pooled(guided.read.mean(1)))
            found["ce_guided_series"] = L.ce_guided(logits_WY, group_W, self.class_weight)
        if self.text_classifier is not None and text is not None and guided.fused.u is not None:
            logits_WY = self.text_classifier(self.pooled(masked_mean(guided.fused.u, text.real)))
            found["ce_guided_text"] = L.ce_guided(logits_WY, group_W, self.class_weight)
        return found

    def from_text(self, x_BAT: Tensor, alone: Attributes, z_WKC: Tensor) -> dict[str, Tensor]:
        """The text's own codes: their vq, and the series that they draw with the series' own attributes."""
        q = self.core.codebook(z_WKC, update=False)
        found = {"text_vq": q.vq} if self.weights.text_vq else {}
        if self.weights.series_from_text:
            given = Attributes(*(value.detach() for value in alone))
            with aside(x_BAT.device):
                drawn = given._replace(z=q.z.repeat_interleave(self.streams, dim=0))
                found["series_from_text"] = L.series_from_text(self.core.decode_series(x_BAT, drawn), x_BAT)
        return found

    def sub_action(
        self, sub_actions: SubActions, h_BKD: Tensor, z_BKC: Tensor, concepts: ConceptTable, group_W: Tensor
    ) -> Tensor:
        """The concepts that series-only tokens or codes name, against those of the window's text."""
        log_p_BKQ = sub_actions.log_p(h_BKD if self.config.sub_actions == "head" else z_BKC)
        label_B = group_W.repeat_interleave(self.streams)
        if self.weights.sub_action_target == "nearest":
            return L.sub_action_nearest(log_p_BKQ, concepts.of_class[label_B])
        assert self.guidance is not None and self.text is not None
        with torch.no_grad():
            phrase_BRD = self.text.project(concepts.phrases)[label_B]
            weights_BKR = self.guidance.weights(h_BKD, phrase_BRD, concepts.real[label_B])
            target_BKQ = concepts.spread(weights_BKR, label_B)
        return L.sub_action_attention(log_p_BKQ, target_BKQ)

    def tokenize(self, x_WMT: Tensor) -> Tokens:
        """Raw windows to series-only tokens; no decoder runs. Call in evaluation mode."""
        return Tokens(*self.core.tokenize(self.to_series(x_WMT)))

    def features(self, x_WMT: Tensor, tokens: Tokens) -> dict[str, Tensor]:
        """Every series-only representation of the windows, by name; `scale` is none of its own but the block
        that joins each where the config says keep_scale."""
        return tokens.features(x_WMT, self.config)

    def reconstruct(self, x_WMT: Tensor, tokens: Tokens) -> Output:
        """The series that the tokens describe, and each token's shape."""
        return self.core.rebuild(self.to_series(x_WMT), tokens.attributes, tokens.quantized)
