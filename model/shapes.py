"""Codes to shapes, and the shapes that the series really has there.

B series, T steps, K tokens, C code width, N codes, S shape length.
"""

import torch
from torch import Tensor, nn


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
    """Codes (I, C) -> shapes (I, S), each with mean 0 and standard deviation 1."""

    def __init__(self, code_width: int, shape_length: int, smoothing: int) -> None:
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
            nn.Conv1d(64, 1, smoothing, padding="same"),
        )

    def forward(self, z_IC: Tensor) -> Tensor:
        s_IS = self.layers(z_IC).squeeze(1)
        return (s_IS - s_IS.mean(-1, keepdim=True)) / (s_IS.std(-1, keepdim=True) + 1e-8)

    def jacobian(self, z_IC: Tensor) -> Tensor:
        """d shape / d z (I, S, C) without a graph, by forward mode: one tangent a code dimension."""
        width = z_IC.shape[-1]
        with torch.no_grad():
            points = z_IC.repeat_interleave(width, dim=0)
            tangents = torch.eye(width, device=z_IC.device, dtype=z_IC.dtype).repeat(len(z_IC), 1)
            columns = torch.func.jvp(self, (points,), (tangents,))[1]
        return columns.unflatten(0, (-1, width)).transpose(1, 2)

    def by_code(self, z_BKC: Tensor, code_BK: Tensor, codes_NC: Tensor) -> Tensor:
        """Shapes (B, K, S) of quantised z, each distinct code decoded once; gradients are exact.

        z reaches its shape through the code's Jacobian: shape(z) = shape(code) + J (z - sg(z)), since z's
        value is the code's. The decoder's weights get their gradient through shape(code).
        """
        shapes_NS = self(codes_NC.detach())
        s_BKS = shapes_NS[code_BK]
        if not z_BKC.requires_grad:
            return s_BKS
        jacobian_NSC = self.jacobian(codes_NC.detach())
        step_BKC = z_BKC - z_BKC.detach()
        return s_BKS + torch.einsum("bksc,bkc->bks", jacobian_NSC[code_BK], step_BKC)

    def decode(self, z_BKC: Tensor, code_BK: Tensor, codes_NC: Tensor) -> Tensor:
        """Shapes (B, K, S) the cheaper way: token by token, or code by code with C tangents each."""
        decodes = len(codes_NC) * (1 + 2 * z_BKC.shape[-1] * z_BKC.requires_grad)
        if code_BK.numel() <= decodes:
            return self(z_BKC.flatten(0, 1)).unflatten(0, code_BK.shape)
        return self.by_code(z_BKC, code_BK, codes_NC)


@torch.no_grad()
def cut(x_BT: Tensor, t_BK1: Tensor, l_BK1: Tensor, length: int, smoothing: int) -> Tensor:
    """The series between t and t + l, resampled to `length` by linear interpolation, moving average.

    (B, K, S); t and l get no gradient from it, as in the reference.
    """
    last = x_BT.shape[1] - 1
    end_BK1 = (t_BK1 + l_BK1).clamp(max=1)
    steps_S = torch.linspace(0, 1, length, device=x_BT.device, dtype=x_BT.dtype)
    at_BKS = (t_BK1 + (end_BK1 - t_BK1) * steps_S) * last
    low_BKS = at_BKS.floor().clamp(0, max(last - 1, 0))
    part_BKS = at_BKS - low_BKS
    low_BI = low_BKS.nan_to_num().long().flatten(1)  # a diverged model is told by its loss, not by an index
    left = x_BT.gather(1, low_BI).view_as(at_BKS)
    right = x_BT.gather(1, (low_BI + 1).clamp(max=last)).view_as(at_BKS)
    s_BKS = left + (right - left) * part_BKS
    if smoothing == 1:
        return s_BKS
    padded = nn.functional.pad(s_BKS, (smoothing // 2, smoothing // 2), mode="replicate")
    return nn.functional.avg_pool1d(padded, smoothing, stride=1)
