"""Post-norm transformer stacks (Vaswani et al. 2017, arXiv 1706.03762): torch's layers, computed faster on a CPU.

Parameters, their names and initial values are those of nn.TransformerEncoder and nn.TransformerDecoder.
On a CPU torch spends a fifth of a step on Bernoulli masks and the library's layers copy and check a lot;
on a GPU its own kernels are used.

B series, L and M positions, D width, H heads, E = D / H, p dropout probability.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 2**21  # floats in a chunk's widest activation: larger ones leave the cache, smaller ones cost calls


class Dropout(torch.autograd.Function):
    """Dropout for CPUs: a 16-bit number an element from torch's generator, a byte kept for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits.to(x.dtype if x.dtype == torch.float64 else torch.float32).ge_(round(p * 2**16) - 2**15)
        ctx.save_for_backward(kept.to(torch.uint8))
        ctx.scale = 1 / (1 - p)
        return kept.mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return kept.to(grad.dtype).mul_(grad).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability p (to 1e-5), scale the others by 1 / (1 - p)."""
    if p == 0:
        return x
    return F.dropout(x, p) if x.is_cuda else Dropout.apply(x, p)


def attention(q_BLD: Tensor, k_BMD: Tensor, v_BMD: Tensor, heads: int, series: int, p: float) -> Tensor:
    """softmax(q k / sqrt(E)) v for each head, with dropout p on the weights; (B, L, D).

    Queries, keys and values that all series share may have B = 1: `series` then says for how many masks
    are drawn.
    """
    q, k, v = (u.unflatten(-1, (heads, -1)).transpose(1, 2) for u in (q_BLD, k_BMD, v_BMD))
    if p == 0 or q.is_cuda:
        rows = max(len(q), len(k)) if p == 0 else series
        q, k, v = (u.expand(rows, -1, -1, -1) for u in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
    else:
        rows = max(len(q), len(k))
        q, k = ((u.expand(rows, -1, -1, -1)).flatten(0, 1) for u in (q * q.shape[-1] ** -0.5, k))
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1).unflatten(0, (rows, heads))
        weights = dropout(weights.expand(series, -1, -1, -1), p).flatten(0, 1)
        out = torch.bmm(weights, v.expand(series, -1, -1, -1).flatten(0, 1)).unflatten(0, (series, heads))
    return out.transpose(1, 2).flatten(2)


class EncoderLayer(nn.TransformerEncoderLayer):
    """x (B, L, D) -> (B, L, D): self-attention, feed-forward."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        on = float(self.training)
        a = self.self_attn
        q, k, v = F.linear(x, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
        found = a.out_proj(attention(q, k, v, a.num_heads, len(x), a.dropout * on))
        x = self.norm1(x + dropout(found, self.dropout1.p * on))
        found = self.linear2(dropout(F.gelu(self.linear1(x)), self.dropout.p * on))
        return self.norm2(x + dropout(found, self.dropout2.p * on))


class DecoderLayer(nn.TransformerDecoderLayer):
    """x (B, L, D), or (1, L, D) for all series, and memory (B, M, D) -> (B, L, D)."""

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:  # type: ignore[override]
        on = float(self.training)
        a = self.self_attn
        q, k, v = F.linear(x, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
        found = a.out_proj(attention(q, k, v, a.num_heads, len(memory), a.dropout * on))
        x = self.norm1(x + dropout(found, self.dropout1.p * on))
        a = self.multihead_attn
        width = x.shape[-1]
        q = F.linear(x, a.in_proj_weight[:width], a.in_proj_bias[:width])
        k, v = F.linear(memory, a.in_proj_weight[width:], a.in_proj_bias[width:]).chunk(2, -1)
        found = a.out_proj(attention(q, k, v, a.num_heads, len(memory), a.dropout * on))
        x = self.norm2(x + dropout(found, self.dropout2.p * on))
        found = self.linear2(dropout(F.gelu(self.linear1(x)), self.dropout.p * on))
        return self.norm3(x + dropout(found, self.dropout3.p * on))


def chunks(x_BLD: Tensor, length: int) -> tuple[Tensor, ...]:
    """Parts of the batch that fit the CPU's cache; the whole on a GPU. Series do not see each other."""
    rows = CHUNK // (length * 4 * x_BLD.shape[-1])
    return (x_BLD,) if x_BLD.is_cuda else x_BLD.split(max(1, rows))


class EncoderStack(nn.TransformerEncoder):
    """x (B, L, D) -> (B, L, D), gelu, feed-forward 4D."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        layer = EncoderLayer(width, heads, 4 * width, dropout, activation="gelu", batch_first=True)
        super().__init__(layer, layers, enable_nested_tensor=False)

    def forward(self, x_BLD: Tensor) -> Tensor:  # type: ignore[override]
        parts = []
        for x in chunks(x_BLD, x_BLD.shape[1]):
            for layer in self.layers:
                x = layer(x)
            parts.append(x)
        return torch.cat(parts)


class DecoderStack(nn.TransformerDecoder):
    """Queries (1, L, D), the same for every series, and memory (B, M, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        layer = DecoderLayer(width, heads, 4 * width, dropout, activation="gelu", batch_first=True)
        super().__init__(layer, layers)

    def forward(self, query_1LD: Tensor, memory_BMD: Tensor) -> Tensor:  # type: ignore[override]
        parts = []
        for memory in chunks(memory_BMD, query_1LD.shape[1]):
            x = query_1LD
            for layer in self.layers:
                x = layer(x, memory)
            parts.append(x)
        return torch.cat(parts)
