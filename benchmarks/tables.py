"""What tables and figures take as a sweep grows: 1,000 finished trials are to take 10 s, 10,000 a minute.

    python benchmarks/tables.py [--cells 1000 10000]

The sweep: 4 variants x a grid x 5 seeds x 5 subject folds; results and curves of 20 epochs are made up, in
the size of real ones. Timed in one fresh process, import of pandas, scipy and seaborn included: the tables of
variants, factors, classes and subjects (Markdown, CSV, LaTeX), and four figures (PDF, PNG) of its first rows,
as many as a column holds. The naive way beside it only reads files, a frame a file: pd.json_normalize of each
result and pd.read_json of each curve, then one concat, of the first 100 trials and scaled to all. A busy
machine changes wall seconds alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NAME = "grown"
SWEEP = """# Does it grow?
seeds: 5
folds: 5
reference: none vq={first} codes=32
set:
  data: {{name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}}
  losses.ce_series: 0.1
grid: {{losses.vq: {points}, model.codes: [32, 64]}}
variants:
  none: {{model.guidance.attention: none}}
  one_way: {{model.guidance.attention: one_way}}
  two_way: {{model.guidance: {{attention: two_way, merge: mean}}}}
  dataset: {{model.guidance.attention: none, model.dropout: 0}}
"""
CLASSES, EPOCHS, EACH = 7, 20, 4 * 2 * 25  # EACH: cells a point of the grid
DRAWN, NAIVE = 10, 100  # rows in a figure, trials that the naive way reads
BEGAN = time.perf_counter()
LIMITS_S = {1000: 10, 10_000: 60}


def fill(root: Path, cells: int) -> int:
    """A planned sweep of about that many cells, all of them done; how many they are."""
    from experiments.ledger import Store
    from experiments.sweep import load

    points = [(i + 1) / 1000 for i in range(max(2, cells // EACH))]
    file, store = root / f"{NAME}.yaml", Store(root)
    file.write_text(SWEEP.format(first=points[0], points=json.dumps(points)))
    sweep = load(file, store)
    sweep.save(store, file)
    draws = np.random.default_rng(0)
    for cell in sweep.cells:
        config, folder = sweep.configs[cell.signature], store.trial(cell.signature)
        folder.mkdir(parents=True)
        whole = {
            "schema": 1,
            "signature": cell.signature,
            "config": config.model_dump(mode="json"),
            "digests": sweep.digests[cell.signature],
            "best_epoch": EPOCHS - 1,
            **result(cell.fold, draws),
        }
        (folder / "result.json").write_text(json.dumps(whole, indent=1))
        lines = [json.dumps(epoch(i, draws)) + "\n" for i in range(EPOCHS)]
        (folder / "metrics.jsonl").write_text("".join(lines))
    return len(sweep.cells)


def result(fold: int, draws: np.random.Generator) -> dict[str, Any]:
    """What a made-up trial comes to."""
    names = [f"class_{i}" for i in range(CLASSES)]
    f1 = dict(zip(names, draws.uniform(0.5, 0.9, CLASSES).tolist(), strict=True))
    score = float(np.mean(list(f1.values())))
    probes = {
        f"{side}/{representation}/{metric}": score
        for side in ("val", "test")
        for representation in ("tokens", "tokens_ze", "pooled", "histogram")
        for metric in ("macro_f1", "accuracy", "balanced_accuracy")
    }
    return {
        "status": "done",
        "error": None,
        "data": {"name": "spar", "classes": names, "validation": "subjects", "n_test": 400},
        "cost": {"parameters": 228177, "total_s": 98.3, "train_s": 80.1, "overhead_s": 0.2},
        "metrics": {
            "val/macro_f1": score,
            "test/macro_f1": score,
            "test/accuracy": score,
            **probes,
            **dict.fromkeys(("test/series_mse", "test/shape_mse", "codes/perplexity"), score),
        },
        "per_class_f1": f1,
        "per_subject_macro_f1": {str(2 * fold + i): score for i in range(2)},
        "confusion": draws.integers(0, 60, (CLASSES, CLASSES)).tolist(),
        "environment": {f"version of {i}": "2.13.0+cpu" for i in range(12)}
        | {"code": "c0ffee", "device": "cpu"},
        "finished_at": "2026-11-26T20:43:54Z",
        "attempt": 1,
    }


def epoch(i: int, draws: np.random.Generator) -> dict[str, float]:
    names = ("train/loss", "train/series", "train/shape", "train/vq", "train/spread", "train/ce_series")
    values = dict(zip(names, draws.uniform(0.1, 1, len(names)).tolist(), strict=True))
    return {
        "epoch": i,
        **values,
        "val/macro_f1": 1 - 0.9 ** (i + 1),
        "val/series_mse": 0.9**i,
        "time_s": 4.0 * i,
    }


def ours(root: Path) -> None:
    """Every table and four figures, each step timed, in a process of its own; the last line is the sum."""
    last = 0.0, 0.0

    def told(what: str) -> None:
        nonlocal last
        now = time.perf_counter() - BEGAN, time.process_time()
        print(f"  {what:20} {now[0] - last[0]:7.2f} {now[1] - last[1]:7.2f}", flush=True)
        last = now

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from analysis import ablation_tables, breakdown, factors, figures, load
    from analysis.table import save

    told("imports")
    plan, frame = load.plan(root, NAME), load.frame(root, NAME)
    told("read results")
    curves = load.curves(root, NAME)
    told("read curves")
    out = root / "out"
    save(ablation_tables.build(frame, plan), out, "variants")
    told("table of variants")
    save(factors.build(frame, plan), out, "factors")
    told("table of factors")
    for by in load.PARTS:
        save(breakdown.build(load.per(root, NAME, by), frame, plan, by), out, by)
        told(f"table by {by}")
    plan |= {"rows": plan["rows"][:DRAWN]}
    drawn = [
        figures.strip_and_interval(frame, plan),
        figures.strip_and_interval(frame, plan, metric="test/accuracy"),
        figures.learning_curves(curves, plan),
        figures.learning_curves(curves, plan, metric="train/loss"),
    ]
    for i, ax in enumerate(drawn):
        for end in ("pdf", "png"):
            ax.figure.savefig(out / f"{i}.{end}", dpi=300)
        plt.close(ax.figure)
    told("four figures")
    assert not {"torch", "mlflow", "optuna"} & set(sys.modules)
    print(time.perf_counter() - BEGAN, time.process_time())


def naive(root: Path) -> float:
    """Processor seconds to read the same files, a frame a file, by those of the first trials."""
    began = time.process_time()
    every = sorted((root / "trials").iterdir())
    trials = every[:NAIVE]
    pd.concat([pd.json_normalize(json.loads((t / "result.json").read_text())) for t in trials])
    pd.concat([pd.read_json(t / "metrics.jsonl", lines=True) for t in trials])
    return (time.process_time() - began) * len(every) / len(trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        return ours(args.read)
    for asked in args.cells:
        with tempfile.TemporaryDirectory() as folder:
            cells = fill(Path(folder), asked)
            print(f"{cells} trials{'':12} wall s   cpu s", flush=True)
            command = [sys.executable, __file__, "--read", folder]
            *steps, whole = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.splitlines()
            (wall, cpu), slow = map(float, whole.split()), naive(Path(folder))
            print("\n".join(steps))
            limit = LIMITS_S.get(asked)
            bar = f"  ({limit} s are asked for)" if limit else ""
            print(f"  {'all':20} {wall:7.2f} {cpu:7.2f}{bar}")
            print(f"  {'naive, reading only':28} {slow:7.2f}: ratio {slow / cpu:.1f}", flush=True)


if __name__ == "__main__":
    main()
