"""Codes to shapes, and the shapes that the series really has there.

B series, A axes of one series, T steps, K tokens, C code width, N codes, S shape length.
"""

import torch
from torch import Tensor, nn

from model.codebooks import full_precision


class UpSample(nn.Module):
    """Nearest up-sampling x4, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding="same")

    def forward(self, v: Tensor) -> Tensor:
        return self.conv(v.repeat_interleave(4, dim=-1))


class ResidualBlock(nn.Module):
    """GroupNorm(16), GELU, conv 3, twice, with a 1x1 shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(16, channels_in),
            nn.GELU(),
            nn.Conv1d(channels_in, channels_out, 3, padding="same"),
            nn.GroupNorm(16, channels_out),
            nn.GELU(),
            nn.Conv1d(channels_out, channels_out, 3, padding="same"),
        )
        same = channels_in == channels_out
        self.channel_up = nn.Identity() if same else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, v: Tensor) -> Tensor:
        return self.channel_up(v) + self.block(v)


class ShapeDecoder(nn.Module):
    """Codes (I, C) -> shapes (I, A, S), each with mean 0 and standard deviation 1."""

    def __init__(self, code_width: int, shape_length: int, smoothing: int, axes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_width, 8 * shape_length),
            nn.Unflatten(-1, (128, shape_length // 16)),
            ResidualBlock(128, 128),
            nn.GELU(),
            UpSample(128),
            ResidualBlock(128, 64),
            nn.GELU(),
            UpSample(64),
            nn.GELU(),
            nn.Conv1d(64, axes, smoothing, padding="same"),
        )

    def forward(self, z_IC: Tensor) -> Tensor:
        s_IAS = self.layers(z_IC)
        return (s_IAS - s_IAS.mean(-1, keepdim=True)) / (s_IAS.std(-1, keepdim=True) + 1e-8)

    def jacobian(self, z_IC: Tensor) -> Tensor:
        """d shape / d z (I, A, S, C) without a graph, by forward mode: one tangent a code dimension. Forward
        mode can't cast, so it keeps to the weights' precision under autocast."""
        width = z_IC.shape[-1]
        with torch.no_grad(), full_precision(z_IC):
            points = z_IC.to(self.layers[0].weight.dtype).repeat_interleave(width, dim=0)
            tangents = torch.eye(width, device=points.device, dtype=points.dtype).repeat(len(z_IC), 1)
            columns = torch.func.jvp(self, (points,), (tangents,))[1]
        return columns.unflatten(0, (-1, width)).movedim(1, -1)

    def by_code(self, z_BKC: Tensor, code_BK: Tensor, codes_NC: Tensor) -> Tensor:
        """Shapes (B, K, A, S) of quantised z, each distinct code decoded once; gradients are exact.

        z reaches its shape through the code's Jacobian: shape(z) = shape(code) + J (z - sg(z)), since z's
        value is the code's. The decoder's weights get their gradient through shape(code).
        """
        shapes_NAS = self(codes_NC.detach())
        s_BKAS = shapes_NAS[code_BK]
        if not z_BKC.requires_grad:
            return s_BKAS
        jacobian_NASC = self.jacobian(codes_NC.detach())
        step_BKC = z_BKC - z_BKC.detach()
        return s_BKAS + torch.einsum("bkasc,bkc->bkas", jacobian_NASC[code_BK], step_BKC)

    def decode(self, z_BKC: Tensor, code_BK: Tensor | None, codes_NC: Tensor | None) -> Tensor:
        """Shapes (B, K, A, S) the cheaper way: token by token, or code by code with C tangents each."""
        if code_BK is not None and codes_NC is not None:
            decodes = len(codes_NC) * (1 + 2 * z_BKC.shape[-1] * z_BKC.requires_grad)
            if code_BK.numel() > decodes:
                return self.by_code(z_BKC, code_BK, codes_NC)
        return self(z_BKC.flatten(0, 1)).unflatten(0, z_BKC.shape[:2])


@torch.no_grad()
def cut(x_BAT: Tensor, t_BK1: Tensor, l_BK1: Tensor, length: int, smoothing: int) -> Tensor:
    """The series between t and t + l, resampled to `length` by linear interpolation, moving average.

    (B, K, A, S); t and l get no gradient from it, as in the reference.
    """
    axes, last = x_BAT.shape[1], x_BAT.shape[2] - 1
    end_BK1 = (t_BK1 + l_BK1).clamp(max=1)
    steps_S = torch.linspace(0, 1, length, device=x_BAT.device, dtype=x_BAT.dtype)
    at_BKS = (t_BK1 + (end_BK1 - t_BK1) * steps_S) * last
    low_BKS = at_BKS.floor().clamp(0, max(last - 1, 0))
    part_B1KS = (at_BKS - low_BKS).unsqueeze(1)
    low_BKS = low_BKS.nan_to_num().long()  # a diverged model is told by its loss, not by an index
    low_BAI = low_BKS.flatten(1).unsqueeze(1).expand(-1, axes, -1)
    sides = (
        x_BAT.gather(2, i).unflatten(2, low_BKS.shape[1:]) for i in (low_BAI, (low_BAI + 1).clamp(max=last))
    )
    left, right = sides
    s_BKAS = (left + (right - left) * part_B1KS).transpose(1, 2)
    if smoothing == 1:
        return s_BKAS
    rows = nn.functional.pad(s_BKAS.flatten(1, 2), (smoothing // 2, smoothing // 2), mode="replicate")
    return nn.functional.avg_pool1d(rows, smoothing, stride=1).view_as(s_BKAS)
