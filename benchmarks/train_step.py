"""Our training step and `tokenize` against a plain, direct implementation of the same maths, in one run.

    PYTHONPATH=. python benchmarks/train_step.py [--codes 64] [--small] [--device cuda] [--precision bf16]

plain: each of the B x K tokens decoded on its own, torch's transformer layers, attention and dropout,
       AdamW as it comes; evaluation is its whole forward pass, decoders included
ours:  model.vqshape and a fused AdamW

Both start from the same weights, take the same batches in turn, and are checked first to give the same
losses and gradients without dropout. A step: forward, four losses, backward, clip, optimiser. Ours decodes
each code that occurs once, so the codebook is z of the batch itself and the learning rate 0: many
occur throughout, and as many as the timed step uses are printed. Needs torch and pydantic.

B series, T steps, P patches, K tokens, D width, C code width, N codes, S shape length.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.vqshape import VQShape

PAPER = ModelConfig(
    patches=64,
    tokens=64,
    width=256,
    heads=8,
    encoder_layers=4,
    tokenizer_layers=4,
    decoder_layers=2,
    codes=64,
    code_width=8,
    shape_length=128,
    smoothing=11,
    mask_frac=0.25,
    dropout=0.1,
    normalize="instance",
)
SPAR = PAPER.model_copy(
    update={
        "patches": 25,
        "tokens": 25,
        "width": 64,
        "heads": 4,
        "encoder_layers": 2,
        "tokenizer_layers": 2,
        "decoder_layers": 1,
        "shape_length": 32,
        "smoothing": 1,
        "normalize": "dataset",
    }
)
SPREAD = 0.8  # the weight of the spread loss; the others have 1


def head(width_in: int, width_out: int, hidden: int) -> nn.Module:
    layers = nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(), nn.Linear(hidden, width_out))
    return nn.ModuleDict({"layers": layers})


class PlainBlock(nn.Module):
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


class PlainUp(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding="same")

    def forward(self, v: Tensor) -> Tensor:
        return self.conv(F.interpolate(v, scale_factor=4, mode="nearest"))


class Plain(nn.Module):
    """The core on series (B, 1, T), written down directly; parameter names are VQShape's."""

    def __init__(self, c: ModelConfig, length: int) -> None:
        super().__init__()
        self.c, width = c, c.width

        def stack(kind: str, layers: int) -> nn.Module:
            options = {"activation": "gelu", "batch_first": True}
            if kind == "decoder":
                layer = nn.TransformerDecoderLayer(width, c.heads, 4 * width, c.dropout, **options)
                return nn.TransformerDecoder(layer, layers)
            layer = nn.TransformerEncoderLayer(width, c.heads, 4 * width, c.dropout, **options)
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        positions = nn.Embedding(c.patches, width)
        self.encoder = nn.ModuleDict(
            {
                "pos_embed": nn.ModuleDict({"positional_embeddings": positions}),
                "input_project": nn.Linear(length // c.patches, width),
                "transformer": stack("encoder", c.encoder_layers),
            }
        )
        self.tokenizer = nn.ModuleDict({"transformer": stack("decoder", c.tokenizer_layers)})
        self.tokenizer.tokens = nn.Parameter(torch.randn(1, c.tokens, width))
        heads = {"z_head": c.code_width, "tl_mean_head": 2, "mu_head": 1, "sigma_head": 1}
        self.attr_decoder = nn.ModuleDict({name: head(width, out, width) for name, out in heads.items()})
        self.codebook = nn.ModuleDict({"embedding": nn.Embedding(c.codes, c.code_width)})
        self.attr_encoder = nn.ModuleDict({"project": nn.Linear(c.code_width + 4, width)})
        out_layer = nn.Linear(width, length // c.tokens)
        self.decoder = nn.ModuleDict(
            {"transformer": stack("encoder", c.decoder_layers), "out_layer": out_layer}
        )
        self.decoder.cls_token = nn.Parameter(torch.randn(1, 1, width))
        layers = nn.Sequential(
            nn.Linear(c.code_width, 8 * c.shape_length),
            nn.Unflatten(-1, (128, c.shape_length // 16)),
            PlainBlock(128, 128),
            nn.GELU(),
            PlainUp(128),
            PlainBlock(128, 64),
            nn.GELU(),
            PlainUp(64),
            nn.GELU(),
            nn.Conv1d(64, 1, c.smoothing, padding="same"),
        )
        self.shape_decoder = nn.ModuleDict({"layers": layers})

    def forward(self, x_B1T: Tensor, keep_BP: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """The four losses, and x^."""
        c, x_BT = self.c, x_B1T.squeeze(1)
        if c.normalize == "instance":
            mean, std = x_BT.mean(-1, keepdim=True), (x_BT.var(-1, keepdim=True) + 1e-5).sqrt()
        else:
            mean, std = torch.zeros_like(x_BT[:, :1]), torch.ones_like(x_BT[:, :1])
        p_BPD = self.encoder["input_project"](((x_BT - mean) / std).unflatten(1, (c.patches, -1)))
        p_BPD = p_BPD + self.encoder["pos_embed"]["positional_embeddings"].weight
        if keep_BP is not None:
            p_BPD = p_BPD[torch.arange(len(x_BT), device=x_BT.device).unsqueeze(1), keep_BP]
        p_BPD = self.encoder["transformer"](p_BPD)
        queries = self.tokenizer.tokens.repeat(len(x_BT), 1, 1)
        h_BKD = self.tokenizer["transformer"](queries, p_BPD)

        z, tl, mu, sigma = (v["layers"](h_BKD) for v in self.attr_decoder.values())
        t = tl[..., :1].sigmoid() * (1 - 1 / 64)
        length = tl[..., 1:].sigmoid() * (1 - t) + 1 / 64
        sigma = F.softplus(sigma)

        codes = self.codebook["embedding"].weight
        d = (z.float() ** 2).sum(-1, keepdim=True) + (codes**2).sum(-1) - 2 * z.float() @ codes.T
        z_q = codes[d.argmin(-1)]
        p = torch.softmax(-d / 0.01, dim=-1).flatten(0, 1)

        def entropy(p: Tensor) -> Tensor:
            return -(p * p.clamp(min=1e-5).log()).sum(-1)

        vq = F.mse_loss(z, z_q.detach()) + c.codebook_weight * F.mse_loss(z_q, z.detach())
        spread_of_codes = entropy(p).mean() - c.entropy_gamma * entropy(p.mean(0))
        vq = vq + c.entropy_weight * spread_of_codes
        z_q = z + (z_q - z).detach()

        e_BKD = self.attr_encoder["project"](torch.cat([z_q, mu, sigma, t, length], -1))
        cls = self.decoder.cls_token.repeat(len(x_BT), 1, 1)
        out = self.decoder["transformer"](torch.cat([cls, e_BKD], 1))[:, 1:]
        x_hat = self.decoder["out_layer"](out).flatten(1) * std + mean

        s = self.shape_decoder["layers"](z_q.flatten(0, 1)).squeeze(1)
        s = (s - s.mean(-1, keepdim=True)) / (s.std(-1, keepdim=True) + 1e-8)
        s = s.unflatten(0, z.shape[:2]) * sigma + mu
        s = s * std.unsqueeze(-1) + mean.unsqueeze(-1)

        losses = {"series": F.mse_loss(x_hat, x_BT), "vq": vq, "spread": self.spread(t, length)}
        losses["shape"] = F.mse_loss(s, self.target(x_BT, t.detach(), length.detach()))
        return losses, x_hat

    def spread(self, t: Tensor, length: Tensor) -> Tensor:
        k = torch.cat([torch.cos(torch.pi * t), torch.sin(torch.pi * t)], -1)
        k = k * length.log() / math.log(1 / 64)
        d = torch.linalg.vector_norm(k.unsqueeze(1) - k.unsqueeze(2), dim=-1)
        return (F.relu(0.2 - d) * (1 - torch.eye(d.shape[-1], device=d.device))).mean()

    def target(self, x_BT: Tensor, t: Tensor, length: Tensor) -> Tensor:
        last, c = x_BT.shape[-1] - 1, self.c
        steps = torch.linspace(0, 1, c.shape_length, device=x_BT.device)
        at = (t + ((t + length).clamp(max=1) - t) * steps) * last
        low = at.floor().clamp(0, last - 1).long()
        x = x_BT.unsqueeze(1).expand(-1, t.shape[1], -1)
        left, right = x.gather(-1, low), x.gather(-1, low + 1)
        s = left + (right - left) * (at - low)
        half = c.smoothing // 2
        return F.avg_pool1d(F.pad(s, (half, half), mode="replicate"), c.smoothing, stride=1)


class Side:
    """One implementation with its optimiser; every call is one step or one evaluation pass."""

    def __init__(self, name: str, c: ModelConfig, x_B1T: Tensor, precision: str) -> None:
        self.name, self.device, self.precision = name, x_B1T.device.type, precision
        core = VQShape(c, x_B1T.shape[-1], axes=1, seed=0)
        with torch.no_grad():
            z = core.eval().tokenize(x_B1T.cpu())[0].z.flatten(0, 1)
            core.codebook.embedding.weight.copy_(z[:: len(z) // c.codes][: c.codes])
        self.model: nn.Module = Plain(c, x_B1T.shape[-1]) if name == "plain" else core
        self.model.load_state_dict(core.state_dict())
        self.model.to(self.device)
        fused = {"fused": True} if name == "ours" else {}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.01, **fused)

    def autocast(self) -> AbstractContextManager[None]:
        on = self.precision == "bf16"
        return torch.autocast(self.device, torch.bfloat16) if on else nullcontext()

    def losses(self, x_B1T: Tensor, keep_BP: Tensor | None) -> dict[str, Tensor]:
        with self.autocast():
            if isinstance(self.model, VQShape):
                found = self.model.losses(x_B1T, self.model(x_B1T, keep_BP))
            else:
                found, _ = self.model(x_B1T, keep_BP)
        found["total"] = found["series"] + found["shape"] + found["vq"] + SPREAD * found["spread"]
        return found

    def step(self, x_B1T: Tensor, keep_BP: Tensor | None) -> None:
        self.model.train()
        self.losses(x_B1T, keep_BP)["total"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def tokenize(self, x_B1T: Tensor, keep_BP: Tensor | None) -> None:
        self.model.eval()
        with torch.no_grad(), self.autocast():
            _ = self.model.tokenize(x_B1T) if isinstance(self.model, VQShape) else self.model(x_B1T)


def seconds(side: Side, work: str, batch: tuple[Tensor, Tensor]) -> float:
    wait = torch.cuda.synchronize if side.device == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    getattr(side, work)(*batch)
    wait()
    return time.perf_counter() - began


def codes_in_use(ours: Side, x_B1T: Tensor, keep_BP: Tensor) -> int:
    """Of a pass as it is timed, with mask and dropout."""
    assert isinstance(ours.model, VQShape)
    with torch.no_grad(), ours.autocast():
        code = ours.model.train()(x_B1T, keep_BP).code
    assert code is not None
    return len(code.unique())


def difference(sides: list[Side], batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Largest relative difference of the losses, and of the gradients (by norm), without dropout."""
    losses, grads = [], []
    for side in sides:
        side.model.train()
        dropouts = {m: m.dropout for m in side.model.modules() if isinstance(m, nn.MultiheadAttention)}
        dropouts |= {m: m.p for m in side.model.modules() if isinstance(m, nn.Dropout)}
        for m in dropouts:
            setattr(m, "p" if isinstance(m, nn.Dropout) else "dropout", 0.0)
        found = side.losses(*batch)
        found["total"].backward()
        losses.append({name: float(v.detach()) for name, v in found.items()})
        grads.append({name: p.grad for name, p in side.model.named_parameters()})
        side.optimizer.zero_grad()
        for m, p in dropouts.items():
            setattr(m, "p" if isinstance(m, nn.Dropout) else "dropout", p)
    plain, ours = losses
    # No gradient reaches the shape decoder's last bias (its output is standardised): only rounding is left.
    whole = torch.cat([g.flatten() for g in grads[0].values()]).norm()
    gap = torch.cat([(grads[0][n] - grads[1][n]).flatten() for n in grads[0]]).norm()
    return {
        "losses": max(abs(ours[n] - v) / max(abs(v), 1e-12) for n, v in plain.items()),
        "gradient": float(gap / whole),
    }


def peak_mb(argv: list[str], name: str) -> float:
    """Peak memory of two steps of one implementation alone: of the process, or of the GPU's allocator."""
    command = [sys.executable, __file__, *argv, "--alone", name]
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="SPAR's size: width 64, 200 samples, batch 192")
    parser.add_argument("--codes", type=int, default=64)
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each; one more warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--alone", choices=["plain", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base, length = (SPAR, 200) if args.small else (PAPER, 512)
    c = base.model_copy(update={"codes": args.codes, "width": args.width or base.width})
    size = args.batch or (192 if args.small else 128)
    g = torch.Generator().manual_seed(0)
    x_B1T = torch.randn(size, 1, length, generator=g).cumsum(-1) / 8
    hidden = int(c.mask_frac * c.patches)
    keep_BP = torch.rand(size, c.patches, generator=g).argsort(-1)[:, hidden:]
    batch = (x_B1T.to(args.device), keep_BP.to(args.device))

    if args.alone:
        side = Side(args.alone, c, batch[0], args.precision)
        for _ in range(2):
            side.step(*batch)
        gpu = args.device == "cuda"
        peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else 0.0
        print(json.dumps(peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10))
        return

    # First: a child's ru_maxrss starts from its parent's.
    peaks = {name: peak_mb(sys.argv[1:], name) for name in ("plain", "ours")}
    sides = [Side(name, c, batch[0], args.precision) for name in ("plain", "ours")]
    off = difference(sides, batch)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU threads"
    print(f"{torch.__version__}, {where}, {args.precision}; batch {size}, width {c.width}, {c.codes} codes")
    print(f"without dropout: losses differ by {off['losses']:.1e}, the gradient by {off['gradient']:.1e}")
    if args.precision == "float32" and off["losses"] > 1e-5:
        sys.exit("the two do not compute the same")
    for work in ("step", "tokenize"):
        times: dict[str, list[float]] = {side.name: [] for side in sides}
        for i in range(args.steps + 1):
            for side in sides:
                took = seconds(side, work, batch)
                if i:
                    times[side.name].append(took)
        for name, found in times.items():
            middle = statistics.median(found)
            peak = f"   peak {peaks[name]:6.0f} MB" if work == "step" else ""
            print(f"{work:9}{name:6}{middle:8.3f} s   {size / middle:8.1f} series/s{peak}")
        if work == "step":
            print(f"step     codes in use {codes_in_use(sides[1], *batch)}")
        ratio = statistics.median(times["plain"]) / statistics.median(times["ours"])
        print(f"{work:9}ratio {ratio:8.2f}x")


if __name__ == "__main__":
    main()
