"""What `shapelex plan` and `shapelex status` take, process start included, as a sweep grows.

    python benchmarks/planning.py [--cells 1000 10000] [--repeats 3]

Two shapes of sweep: `grid` (8 variants x grid points x 10 seeds on one split), `folds` (20 variants x seeds
x 5 subject folds). Three states of the ledger: no result, all done, half of them failed; results are made up,
in the size of real ones (5 kB). Wall and processor seconds are the best of the repeats, and a busy machine
changes the wall's alone; data and encoder were hashed before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.sweep import load

GRID = """# Does it grow?
seeds: 10
set: {{model.guidance.attention: one_way}}
grid: {{losses.vq: {points}}}
variants: {{{variants}}}
"""
FOLDS = """# Does it grow?
seeds: {seeds}
folds: 5
set:
  data: {{name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}}
  model.guidance.attention: one_way
variants: {{{variants}}}
"""
LEDGERS = ("empty", "done", "half failed")


def text(shape: str, cells: int) -> str:
    """A sweep file of about that many cells."""

    def variants(n: int) -> str:
        return ", ".join(f"v{i}: {{losses.ce_series: {i + 1}}}" for i in range(n))

    if shape == "grid":
        points = [(i + 1) / 1000 for i in range(max(1, cells // 80))]
        return GRID.format(points=json.dumps(points), variants=variants(8))
    return FOLDS.format(seeds=max(1, cells // 100), variants=variants(20))


def made_up(signature: str, config: Any, digests: Any, number: int, broken: bool = False) -> dict[str, Any]:
    """A result of the size of a real one, 5 kB. number: in the place of whatever chance gives."""
    result: dict[str, Any] = {
        "schema": 1,
        "signature": signature,
        "config": config,
        "digests": digests,
        "status": "failed" if broken else "done",
        "error": "RuntimeError: epoch 3: the loss is not finite (nan)" if broken else None,
        "failure": "diverged" if broken else None,
        "metrics": {},
        "cost": {"parameters": 228177, "total_s": 98.3, "train_s": 80.1, "overhead_s": 0.2},
        "environment": {f"version of {n}": "2.13.0+cpu" for n in range(12)},
        "finished_at": "2026-11-26T20:43:54.123456+00:00",
        "attempt": 1,
        "files": ["config.json", "metrics.jsonl", "predictions.npz", "figures", "model", "log.txt"],
    }
    if not broken:
        scores = {"val/macro_f1": 0.6 + number % 97 / 300, "test/macro_f1": 0.6 + number % 89 / 300}
        result |= {
            "data": {"name": config["data"]["name"], "classes": ["a_class"] * 7, "test_subjects": [1, 2]},
            "metrics": scores | {f"test/histogram/number_{n}": 0.7053412274000509 + n for n in range(26)},
            "per_class_f1": {f"a_class_{n}": 0.46153846153846156 for n in range(7)},
            "confusion": [[n * 7] * 7 for n in range(7)],
        }
    return result


def fill(store: Store, sweep: Sweep, failed: int) -> None:
    """A made-up result for every cell; each `failed`-th one is a failure (0: none)."""
    for i, (signature, config) in enumerate(sweep.configs.items()):
        trial = store.trial(signature)
        trial.mkdir(parents=True, exist_ok=True)
        broken, said = bool(failed) and i % failed == 0, config.model_dump(mode="json")
        result = made_up(signature, said, sweep.digests[signature], i, broken)
        (trial / "result.json").write_text(json.dumps(result, indent=1))


def seconds(verb: str, file: Path, store: Store, repeats: int) -> tuple[float, float]:
    """The best wall and processor time of the whole command."""
    command = [sys.executable, "-m", "experiments.cli", verb, str(file), "--store", str(store.root)]
    walls, processor = [], []
    for _ in range(repeats):
        before, began = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after, ended = os.times(), time.perf_counter()
        walls.append(ended - began)
        processor.append(sum(after[2:4]) - sum(before[2:4]))
    return min(walls), min(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(
        f"{'sweep':6} {'ledger':12} {'cells':>6} {'verb':7} {'wall s':>7} {'cpu s':>6} {'cpu ms a cell':>14}"
    )
    for shape in ("grid", "folds"):
        for asked in args.cells:
            with tempfile.TemporaryDirectory() as folder:
                file, store = Path(folder) / f"{shape}.yaml", Store(Path(folder) / "store")
                file.write_text(text(shape, asked))
                sweep = load(file, store)
                sweep.save(store, file)
                for failed, ledger in enumerate(LEDGERS):
                    if ledger != "empty":
                        fill(store, sweep, failed if failed == 2 else 0)
                    for verb in ("plan", "status"):
                        (wall, cpu), n = seconds(verb, file, store, args.repeats), len(sweep.cells)
                        each = f"{1000 * cpu / n:14.3f}"
                        print(
                            f"{shape:6} {ledger:12} {n:6} {verb:7} {wall:7.2f} {cpu:6.2f} {each}", flush=True
                        )


if __name__ == "__main__":
    main()
