"""Codes to shapes, and the shapes that the series really has there.

B series, A axes of one series, T steps, K tokens, C code width, N codes, S shape length.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.recompute import InBlocks

CODES_AT_ONCE = 16  # measured times hardly differ from 8 to 64; memory does
TOKENS_AT_ONCE = 1024


def parts(v: Tensor, size: int) -> tuple[Tensor, ...]:
    """Parts of the first axis that fit the CPU's cache; the whole on a GPU."""
    return (v,) if v.is_cuda else v.split(size)


class UpSample(nn.Module):
    """Nearest up-sampling x4, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding="same")

    def forward(self, v: Tensor) -> Tensor:
        return enlarge(v, self.conv.weight, self.conv.bias)


def enlarge(v: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Nearest up-sampling x4 and a convolution of width 3, in 3 matrix products a sample in place of 12.

    With a, b, c the weight's taps, the four outputs of sample i are a v[i-1] + (b + c) v[i], twice
    (a + b + c) v[i], and (a + b) v[i] + c v[i+1]: all of them (a + b + c) v[i] but for a or c times a step.
    """
    left, _, right = weight.unbind(-1)
    taps = torch.cat([weight.sum(-1), left, right]).unsqueeze(-1)
    if bias is not None:
        bias = F.pad(bias, (0, 2 * len(bias)))
    middle, left, right = F.conv1d(v, taps, bias).chunk(3, dim=1)
    first = middle - left + F.pad(left, (1, -1))
    last = middle - right + F.pad(right, (-1, 1))
    return torch.stack([first, middle, middle, last], dim=-1).flatten(-2)


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


def push(layer: nn.Module, v: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Forward mode: a layer's output at v (I, ...), and what it makes of C tangents a sample, d (I, C, ...).

    GELU changes d in place: no layer before one hands on its input.
    """
    match layer:
        case nn.Sequential():
            for part in layer:
                v, d = push(part, v, d)
            return v, d
        case ResidualBlock():
            straight, d_straight = push(layer.channel_up, v, d)
            v, d = push(layer.block, v, d)
            return straight + v, d_straight + d
        case nn.GELU():
            slope = torch.ops.aten.gelu_backward(torch.ones_like(v), v)
            return layer(v), d.mul_(slope.unsqueeze(1))
        case nn.GroupNorm():
            groups, d_groups = v.unflatten(1, (layer.num_groups, -1)), d.unflatten(2, (layer.num_groups, -1))
            deviation = (groups.var((2, 3), correction=0, keepdim=True) + layer.eps).sqrt()
            standard = ((groups - groups.mean((2, 3), keepdim=True)) / deviation).unsqueeze(1)
            part = (d_groups * standard).mean((3, 4), keepdim=True)
            d_groups = d_groups - d_groups.mean((3, 4), keepdim=True)
            d_groups.addcmul_(standard, part, value=-1)
            gain = layer.weight.view(groups.shape[1:3]).unsqueeze(-1) / deviation
            return layer(v), d_groups.mul_(gain.unsqueeze(1)).flatten(2, 3)
        case nn.Linear():
            return layer(v), F.linear(d, layer.weight)
        case nn.Unflatten():
            return layer(v), d.unflatten(-1, layer.unflattened_size)
        case nn.Conv1d():
            return layer(v), F.conv1d(d.flatten(0, 1), layer.weight, padding="same").unflatten(0, d.shape[:2])
        case UpSample():
            return layer(v), enlarge(d.flatten(0, 1), layer.conv.weight, None).unflatten(0, d.shape[:2])
        case nn.Identity():
            return v, d
    raise TypeError(f"no forward mode for {layer}")


class ThroughJacobian(torch.autograd.Function):
    """Shapes (B, K, A, S) as they are; their gradient also goes to z (B, K, C), through each code's Jacobian.

    Going by a part of the tokens at a time keeps the gathered Jacobians in cache.
    """

    @staticmethod
    def forward(ctx: Any, s_BKAS: Tensor, z_BKC: Tensor, code_BK: Tensor, jacobian_NASC: Tensor) -> Tensor:
        ctx.save_for_backward(code_BK, jacobian_NASC)
        return s_BKAS.view_as(s_BKAS)

    @staticmethod
    def backward(ctx: Any, g_BKAS: Tensor) -> tuple[Tensor | None, ...]:
        code_BK, jacobian_NASC = ctx.saved_tensors
        jacobian_NSC = jacobian_NASC.flatten(1, 2)
        g_I1S = g_BKAS.flatten(0, 1).flatten(1).unsqueeze(1)
        pairs = zip(parts(g_I1S, TOKENS_AT_ONCE), parts(code_BK.flatten(), TOKENS_AT_ONCE), strict=True)
        z_I1C = torch.cat([torch.bmm(g, jacobian_NSC.index_select(0, code)) for g, code in pairs])
        return g_BKAS, z_I1C.view(*code_BK.shape, -1), None, None


class ShapeDecoder(InBlocks):
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
        # Cut before each up-sampling, where a code is smallest.
        v = z_IC
        for stage in (self.layers[:4], self.layers[4:7], self.layers[7:]):
            v = self.run(stage, v)
        s_IAS = v
        s_IAS = s_IAS - s_IAS.mean(-1, keepdim=True)
        return s_IAS / (s_IAS.std(-1, keepdim=True) + 1e-8)

    @torch.no_grad()
    def jacobian(self, z_IC: Tensor) -> Tensor:
        """d shape / d z (I, A, S, C) without a graph, by forward mode: one tangent a code dimension."""
        eye_ICC = torch.eye(z_IC.shape[1], dtype=z_IC.dtype, device=z_IC.device).expand(len(z_IC), -1, -1)
        found = [
            self._jacobian(*part)
            for part in zip(parts(z_IC, CODES_AT_ONCE), parts(eye_ICC, CODES_AT_ONCE), strict=True)
        ]
        return torch.cat(found)

    def _jacobian(self, z_IC: Tensor, d_ICC: Tensor) -> Tensor:
        s_IAS, d_ICAS = push(self.layers, z_IC, d_ICC)
        s_IAS = s_IAS - s_IAS.mean(-1, keepdim=True)
        # A shape that is flat has no derivative; autograd calls it 0 there.
        deviation = s_IAS.std(-1, keepdim=True).clamp(min=torch.finfo(s_IAS.dtype).tiny)
        s_I1AS = s_IAS.unsqueeze(1)
        d_deviation = (d_ICAS * s_I1AS).sum(-1, keepdim=True) / (
            deviation.unsqueeze(1) * (s_IAS.shape[-1] - 1)
        )
        scale = deviation + 1e-8
        d_ICAS = d_ICAS - d_ICAS.mean(-1, keepdim=True) - s_I1AS * d_deviation / scale.unsqueeze(1)
        return (d_ICAS / scale.unsqueeze(1)).movedim(1, -1).contiguous()

    def by_code(self, z_BKC: Tensor, code_BK: Tensor, codes_NC: Tensor) -> Tensor:
        """Shapes (B, K, A, S) of quantised z, each of the codes decoded once; gradients are exact.

        z's value is the code's, so its shape is too. z's gradient goes through the code's Jacobian, that of
        the decoder's weights through the code's shape.
        """
        shapes_NAS = self(codes_NC.detach())
        s_BKAS = F.embedding(code_BK, shapes_NAS.flatten(1)).unflatten(-1, shapes_NAS.shape[1:])
        if not (z_BKC.requires_grad and torch.is_grad_enabled()):
            return s_BKAS
        # CUDA's autocast sums in float32, so that the Jacobian is float32 where shapes are bfloat16.
        jacobian_NASC = self.jacobian(codes_NC.detach()).to(s_BKAS.dtype)
        return ThroughJacobian.apply(s_BKAS, z_BKC, code_BK, jacobian_NASC)

    def decode(self, z_BKC: Tensor, code_BK: Tensor | None, codes_NC: Tensor | None) -> Tensor:
        """Shapes (B, K, A, S) the cheaper way: token by token, or each code that occurs once.

        A code costs a token and C tangents; on CPU a tangent took 0.4 of a token, forward and backward.
        """
        if code_BK is not None and codes_NC is not None:
            # Elsewhere the number of codes in use would have to be waited for.
            if code_BK.device.type == "cpu":
                used, code_BK = code_BK.unique(return_inverse=True)
                codes_NC = codes_NC[used]
            tangents = z_BKC.shape[-1] * (z_BKC.requires_grad and torch.is_grad_enabled())
            if code_BK.numel() >= len(codes_NC) * (1 + tangents / 2):
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
