"""Post-norm transformer stacks (Vaswani et al. 2017, arXiv 1706.03762): torch's layers, faster on a CPU.

Parameters, their names and initial values are those of nn.TransformerEncoder and nn.TransformerDecoder, and
dropout sits where theirs does. On a GPU torch's own kernels are used.

B series, L and M positions, D width, H heads, E = D / H, p dropout probability.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.recompute import InBlocks

CHUNK = 2**20  # floats in a chunk's widest activation: larger ones leave the cache, smaller ones cost calls
# oneDNN's product beats MKL's by a quarter on AMD; torch itself calls it in compiled models alone.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    """then(x weight^T + bias) by oneDNN, without a graph; `then` is none or gelu."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none" if then == "gelu" else "")


class Linear(torch.autograd.Function):
    """F.linear by oneDNN but for the weights' gradient, which MKL does as fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias, "none")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_ID, grad = grad.flatten(0, -2), grad.contiguous()
        return product(grad, weight.t(), None, "none"), grad_ID.t() @ x.flatten(0, -2), grad_ID.sum(0)


def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none") -> Tensor:
    """F.linear, followed by nothing or by (exact) gelu."""
    plain = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if ONEDNN and plain and x.dtype == weight.dtype == torch.float32:
        if not torch.is_grad_enabled():
            return product(x, weight, bias, then)
        x = Linear.apply(x, weight, bias)
    else:
        x = F.linear(x, weight, bias)
    return F.gelu(x) if then == "gelu" else x


class Dropout(torch.autograd.Function):
    """Dropout for CPUs: an element costs 16 bits of torch's generator, and a byte until the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits.to(x.dtype if x.dtype == torch.float64 else torch.float32).ge_(round(p * 2**16) - 2**15)
        ctx.save_for_backward(kept.to(torch.uint8))
        ctx.scale = 1 / (1 - p)
        return kept.mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return kept.to(grad.dtype).mul_(grad).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability p (to 1e-5), scale the others by 1 / (1 - p)."""
    if p == 0:
        return x
    return F.dropout(x, p) if x.is_cuda else Dropout.apply(x, p)


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


def attention(q_BLD: Tensor, k_BMD: Tensor, v_BMD: Tensor, heads: int, series: int, p: float) -> Tensor:
    """softmax(q k / sqrt(E)) v for each head, with dropout p on the weights; (B, L, D).

    Queries, keys and values that all series share may have B = 1: `series` then says for how many masks
    are drawn.
    """
    q, k, v = (u.unflatten(-1, (heads, -1)).transpose(1, 2) for u in (q_BLD, k_BMD, v_BMD))
    rows = max(len(q), len(k))
    if p == 0 or q.is_cuda:
        rows = rows if p == 0 else series
        q, k, v = (u.expand(rows, -1, -1, -1) for u in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
    else:
        q, k = ((u.expand(rows, -1, -1, -1)).flatten(0, 1) for u in (q * q.shape[-1] ** -0.5, k))
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1).unflatten(0, (rows, heads))
        weights = dropout(weights.expand(series, -1, -1, -1), p).flatten(0, 1)
        out = torch.bmm(weights, v.expand(series, -1, -1, -1).flatten(0, 1)).unflatten(0, (series, heads))
    return out.transpose(1, 2).flatten(2)


Layer = nn.TransformerEncoderLayer | nn.TransformerDecoderLayer


def attend_itself(layer: Layer, x: Tensor, series: int) -> Tensor:
    """A layer's first block, norm included. x (B, L, D), or (1, L, D) for all `series`."""
    on, a = float(layer.training), layer.self_attn
    q, k, v = linear(x, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
    found = attention(q, k, v, a.num_heads, series, a.dropout * on)
    found = linear(found, a.out_proj.weight, a.out_proj.bias)
    return layer.norm1(x + dropout(found, layer.dropout1.p * on))


def feed_forward(layer: Layer, x: Tensor, p: float) -> Tensor:
    """A layer's last block before its norm: x and, with dropout p, what the two linear layers make of it."""
    on = float(layer.training)
    found = linear(x, layer.linear1.weight, layer.linear1.bias, "gelu")
    found = linear(dropout(found, layer.dropout.p * on), layer.linear2.weight, layer.linear2.bias)
    return x + dropout(found, p * on)


class EncoderLayer(nn.TransformerEncoderLayer):
    """x (B, L, D) -> (B, L, D): self-attention, feed-forward."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = attend_itself(self, x, len(x))
        return self.norm2(feed_forward(self, x, self.dropout2.p))


class DecoderLayer(nn.TransformerDecoderLayer):
    """x (B, L, D), or (1, L, D) for all series, and memory (B, M, D) -> (B, L, D)."""

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:  # type: ignore[override]
        x = attend_itself(self, x, len(memory))
        on, a, width = float(self.training), self.multihead_attn, x.shape[-1]
        q = linear(x, a.in_proj_weight[:width], a.in_proj_bias[:width])
        k, v = linear(memory, a.in_proj_weight[width:], a.in_proj_bias[width:]).chunk(2, -1)
        found = attention(q, k, v, a.num_heads, len(memory), a.dropout * on)
        found = linear(found, a.out_proj.weight, a.out_proj.bias)
        x = self.norm2(x + dropout(found, self.dropout2.p * on))
        return self.norm3(feed_forward(self, x, self.dropout3.p))


def chunks(x_BLD: Tensor, length: int) -> tuple[Tensor, ...]:
    """Parts of the batch that fit the CPU's cache; the whole on a GPU. Series do not see each other."""
    rows = CHUNK // (length * 4 * x_BLD.shape[-1])
    return (x_BLD,) if x_BLD.is_cuda else x_BLD.split(max(1, rows))


class EncoderStack(InBlocks, nn.TransformerEncoder):
    """x (B, L, D) -> (B, L, D), gelu, feed-forward 4D."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        layer = EncoderLayer(width, heads, 4 * width, dropout, activation="gelu", batch_first=True)
        super().__init__(layer, layers, enable_nested_tensor=False)

    def forward(self, x_BLD: Tensor) -> Tensor:  # type: ignore[override]
        parts = []
        for x in chunks(x_BLD, x_BLD.shape[1]):
            for layer in self.layers:
                x = self.run(layer, x)
            parts.append(x)
        return torch.cat(parts)


class DecoderStack(InBlocks, nn.TransformerDecoder):
    """Queries (1, L, D), the same for every series, and memory (B, M, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        layer = DecoderLayer(width, heads, 4 * width, dropout, activation="gelu", batch_first=True)
        super().__init__(layer, layers)

    def forward(self, query_1LD: Tensor, memory_BMD: Tensor) -> Tensor:  # type: ignore[override]
        parts = []
        for memory in chunks(memory_BMD, query_1LD.shape[1]):
            x = query_1LD
            for layer in self.layers:
                x = self.run(layer, x, memory)
            parts.append(x)
        return torch.cat(parts)
