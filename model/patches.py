"""Series to patch embeddings and back (VQShape, arXiv 2411.01006, section 3; layout of PatchTST).

B series, A axes of one series, T steps, P patches, K tokens, D width.
"""

import torch
from torch import Tensor, nn

from model.layers import EncoderStack


class Positions(nn.Module):
    """Learned positions, one vector a patch."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.positional_embeddings = nn.Embedding(patches, width)

    def forward(self, p_BPD: Tensor) -> Tensor:
        return p_BPD + self.positional_embeddings.weight


class PatchEncoder(nn.Module):
    """x (B, A, T) -> patches (B, P, D); T = P x patch_size. A patch holds every axis."""

    def __init__(
        self, axes: int, patches: int, patch_size: int, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.patches, self.patch_size = patches, patch_size
        self.pos_embed = Positions(patches, width)
        self.input_project = nn.Linear(axes * patch_size, width)
        self.transformer = EncoderStack(width, heads, layers, dropout)

    def forward(self, x_BAT: Tensor, keep_BP: Tensor | None) -> Tensor:
        """Encode every patch, or only those whose indices `keep_BP` (B, kept) names."""
        cut_BPI = x_BAT.unflatten(2, (self.patches, self.patch_size)).transpose(1, 2).flatten(2)
        p_BPD = self.pos_embed(self.input_project(cut_BPI))
        if keep_BP is not None:
            p_BPD = p_BPD.gather(1, keep_BP.unsqueeze(-1).expand(-1, -1, p_BPD.shape[-1]))
        return self.transformer(p_BPD)


class PatchDecoder(nn.Module):
    """Shape-token embeddings (B, K, D) -> series (B, A, T): token k writes T / K samples; no positions."""

    def __init__(self, axes: int, samples: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.transformer = EncoderStack(width, heads, layers, dropout)
        self.axes = axes
        self.out_layer = nn.Linear(width, axes * samples)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) / width)

    def forward(self, e_BKD: Tensor) -> Tensor:
        cls_B1D = self.cls_token.expand(len(e_BKD), -1, -1)
        out_BKD = self.transformer(torch.cat([cls_B1D, e_BKD], dim=1))[:, 1:]
        return self.out_layer(out_BKD).unflatten(2, (self.axes, -1)).transpose(1, 2).flatten(2)
