"""What Lightning's loop costs over a bare loop of the same steps, at the size of a trial of quick.yaml.

    python benchmarks/loop.py [--epochs 40] [--repeats 5] [--threads 1] [--tiny] [--profile]

bare:      for each epoch and batch: losses, backward, clip, optimiser, schedule, sums of losses
lightning: experiments.lit.fit on the same module

They take turns, start from the same weights and must end with the same losses, bit for bit. `loop` is from
the first step to the last, `fit` the whole call. Seconds are the process's CPU time, which does not count
what else the machine does (with --wall: the clock's). Where a step's own time varies by more than the
loop's, --tiny shrinks the model: the milliseconds a step that Lightning adds stay the same.
"""

import argparse
import cProfile
import math
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import nn

from experiments.attempt import Attempt, Clock
from experiments.config import RunConfig
from experiments.data import Side
from experiments.lease import claim
from experiments.lit import Lit, TrainingSet, fit
from experiments.texts import Text
from experiments.train import build
from model.streams import stream

WINDOWS, CHANNELS, STEPS, CLASSES = 30, 6, 100, 4  # BasicMotions' training windows


class Timed(Lit):
    """Lit that remembers when the first and the last step ended its work."""

    clock: Callable[[], float]

    def on_train_start(self) -> None:
        super().on_train_start()
        self.began = self.clock()

    def on_train_end(self) -> None:
        super().on_train_end()
        self.ended = self.clock()


def bare(module: Timed) -> None:
    """What Lightning does for `module`, without Lightning."""
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    module.train()
    module.began = module.clock()
    for epoch in range(module.config.train.epochs):
        torch.manual_seed(stream(module.config.seed, epoch, "dropout"))
        sums: dict[str, torch.Tensor | float] = {}
        for batch, table in module.data.epoch(epoch):
            losses = module.model.losses(batch, table, module.concepts)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + len(batch.x) * value.detach()
            optimizer.zero_grad()
            losses["total"].backward()
            nn.utils.clip_grad_norm_(module.model.parameters(), module.config.train.clip)
            optimizer.step()
            schedule.step()
        means = {f"train/{name}": float(value) / len(module.data.side) for name, value in sums.items()}
        if not math.isfinite(means["train/total"]):
            raise FloatingPointError("diverged")
        module.after_epoch(epoch, means)
    module.ended = module.clock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="the clock's time")
    parser.add_argument("--tiny", action="store_true", help="a model of almost no work")
    parser.add_argument("--profile", action="store_true", help="where Lightning's fit spends its time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    Timed.clock = staticmethod(time.perf_counter if args.wall else time.process_time)  # type: ignore[assignment]
    train = {"epochs": args.epochs, "batch_size": 10, "lr": 1e-3}
    small = {
        "patches": 2,
        "tokens": 2,
        "width": 4,
        "heads": 1,
        "codes": 2,
        "code_width": 1,
        "shape_length": 16,
    }
    small |= {"encoder_layers": 1, "tokenizer_layers": 1}
    settings = {"train": train, "losses": {"ce_series": 0.1}, "text": {"source": "none"}}
    config = RunConfig.model_validate(settings | ({"model": small} if args.tiny else {}))
    x_WMT = np.random.default_rng(0).standard_normal((WINDOWS, CHANNELS, STEPS), dtype=np.float32).cumsum(-1)
    places, nobody = np.arange(WINDOWS), np.full(WINDOWS, -1)
    side = Side(torch.from_numpy(x_WMT), places, places % CLASSES, nobody, "cpu")

    def run(loop: Callable[[Timed], None]) -> tuple[float, float, list[dict[str, float]]]:
        curve: list[dict[str, float]] = []
        model = build(config, side, CLASSES, Text())
        data = TrainingSet(config, side, Text())
        attempt = Attempt(claim(Path(mkdtemp())), "benchmark", Clock(time.time()))
        module = Timed(
            config, model, data, None, attempt, lambda _, means: curve.append(means), lambda state: None
        )
        began = Timed.clock()
        loop(module)
        return module.ended - module.began, Timed.clock() - began, curve

    def lightning(module: Timed) -> None:
        fit(module, "cpu")

    ways = {"bare": bare, "lightning": lightning}
    for loop in ways.values():  # the first pass compiles and imports
        run(loop)
    if args.profile:
        with cProfile.Profile() as profile:
            run(lightning)
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(40)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    ends: dict[str, float] = {}
    for _ in range(args.repeats):
        for name, loop in ways.items():
            *took, curve = run(loop)
            times[name].append((took[0], took[1]))
            ends[name] = curve[-1]["train/series"]
    if ends["bare"] != ends["lightning"]:
        sys.exit(f"the two do not train the same: {ends}")
    for i, what in enumerate(("loop", "fit ")):
        slow, fast = (statistics.median(t[i] for t in times[name]) for name in ("lightning", "bare"))
        pairs = [a[i] / b[i] - 1 for a, b in zip(times["lightning"], times["bare"], strict=True)]
        each = " ".join(f"{100 * p:+.1f}" for p in pairs)
        added = 1e3 * (slow - fast) / (args.epochs * 3)
        print(
            f"{what} bare {fast:6.3f} s  lightning {slow:6.3f} s  {100 * (slow / fast - 1):+.1f} % ({each})"
        )
        print(f"      {added:+.2f} ms a step")


if __name__ == "__main__":
    main()
