"""A training step that makes its activations again in the backward pass against one that keeps them, in one
run.

    PYTHONPATH=. python benchmarks/recompute.py [--batch 32] [--codes 64] [--small] [--device cuda]

kept:  the model as it comes
again: the same after model.recompute.recompute

Both are guided by text both ways and start from the same weights. First, three steps of each have to end in
the same losses, gradients and weights, bit for bit. Memory is that of a process of its own: what a step adds
to one that holds the model, its optimiser's state and what PyTorch loads for a step of three windows (on a
GPU, of its allocator). Needs torch and pydantic.

W windows of one channel, T steps, P patches.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from model.batch import Batch, Sizes
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.recompute import recompute
from model.text import TextTable

LOSSES = LossConfig(info_nce=0.1, consistency=1.0, text_recon=1.0)
PAPER = {
    "patches": 64,
    "tokens": 64,
    "width": 256,
    "heads": 8,
    "encoder_layers": 4,
    "tokenizer_layers": 4,
    "decoder_layers": 2,
    "code_width": 8,
    "shape_length": 128,
    "smoothing": 11,
    "mask_frac": 0.25,
}
SMALL = PAPER | {"patches": 16, "tokens": 16, "width": 64, "tokenizer_layers": 2, "encoder_layers": 2}
TEXTS, WORDS, TEXT_WIDTH = 3, 16, 384


class Side:
    """One way with its optimiser."""

    def __init__(self, name: str, c: ModelConfig, device: str, precision: str) -> None:
        self.device, self.precision, length = device, precision, 8 * c.patches
        sizes = Sizes(length=length, channels=1, classes=TEXTS, text_width=TEXT_WIDTH)
        self.model = GuidedVQShape(c, LOSSES, sizes, None, seed=0).to(device).train()
        if name == "again":
            recompute(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def autocast(self) -> AbstractContextManager[None]:
        on = self.precision == "bf16"
        return torch.autocast(self.device, torch.bfloat16) if on else nullcontext()

    def step(self, batch: Batch, table: TextTable) -> dict[str, Tensor]:
        """Its losses and gradients."""
        self.optimizer.zero_grad()
        with self.autocast():
            found = self.model.losses(batch, table)
        found["total"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        grads = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        return {name: value.detach() for name, value in found.items()} | grads


def inputs(c: ModelConfig, size: int, device: str) -> tuple[Batch, TextTable]:
    g = torch.Generator().manual_seed(0)
    x_WMT = torch.randn(size, 1, 8 * c.patches, generator=g).cumsum(-1) / 8
    hidden = int(c.mask_frac * c.patches)
    keep_WP = torch.rand(size, c.patches, generator=g).argsort(-1)[:, hidden:]
    label, sees = torch.arange(size) % TEXTS, torch.arange(size) % 2 == 0
    tokens = torch.randn(TEXTS, WORDS, TEXT_WIDTH, generator=g)
    table = TextTable.from_tokens(tokens, torch.ones(TEXTS, WORDS, dtype=torch.bool)).to(device)
    return Batch(*(v.to(device) for v in (x_WMT, label, keep_WP, label, label, sees))), table


def difference(sides: list[Side], given: tuple[Batch, TextTable]) -> float:
    """The largest between losses, gradients and weights of three steps on the same random numbers."""
    ends = []
    for side in sides:
        torch.manual_seed(1)
        found = [{k: v.clone() for k, v in side.step(*given).items()} for _ in range(3)]
        ends.append([*(v for step in found for v in step.values()), *side.model.state_dict().values()])
    return max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True))


def seconds(side: Side, given: tuple[Batch, TextTable]) -> float:
    wait = torch.cuda.synchronize if side.device == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    side.step(*given)
    wait()
    return time.perf_counter() - began


def memory_mb(side: Side) -> float:
    """The highest so far."""
    if side.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def added_mb(argv: list[str], name: str) -> float:
    """What a step of one way adds to a process of its own."""
    command = [sys.executable, __file__, *argv, "--alone", name]
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="width 64, 128 samples")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--codes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--alone", choices=["kept", "again"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    guidance = {"attention": "two_way", "merge": "mean"}
    sized = (SMALL if args.small else PAPER) | {"codes": args.codes, "guidance": guidance}
    c = ModelConfig.model_validate(sized)
    given = inputs(c, args.batch, args.device)

    if args.alone:
        side = Side(args.alone, c, args.device, args.precision)
        side.step(*inputs(c, TEXTS, args.device))
        before = memory_mb(side)
        side.step(*given)
        print(json.dumps(memory_mb(side) - before))
        return

    # First: a child's ru_maxrss starts from its parent's.
    added = {name: added_mb(sys.argv[1:], name) for name in ("kept", "again")}
    sides = {name: Side(name, c, args.device, args.precision) for name in ("kept", "again")}
    off = difference(list(sides.values()), given)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU threads"
    size = f"batch {args.batch}, width {c.width}, {c.codes} codes"
    print(f"{torch.__version__}, {where}, {args.precision}; {size}")
    print(f"after three steps losses, gradients and weights differ by {off:.1e} at most")
    if off and args.device == "cpu":
        sys.exit("the two do not compute the same")
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.steps):
        for name, side in sides.items():
            times[name].append(seconds(side, given))
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name, took in middle.items():
        print(f"step  {name:6}{took:8.3f} s   {args.batch / took:7.1f} series/s   adds {added[name]:6.0f} MB")
    saved, slower = added["kept"] / max(added["again"], 1e-9), middle["again"] / middle["kept"]
    print(f"ratio: {saved:.1f} times less memory, {slower:.2f} times the time")


if __name__ == "__main__":
    main()
