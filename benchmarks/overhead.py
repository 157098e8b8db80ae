"""What a trial costs outside training and evaluation, against the naive way, in one run.

    python benchmarks/overhead.py [--trials 8] [--workers 2]

ours:  `shapelex run`'s way, a process a trial forked from a server that imported torch and Lightning once
naive: `python -c ...` a trial, which imports everything again

Both run the same micro configs on BasicMotions. A trial's overhead is the time from its submission to its
result on disk, less training and evaluation (figures count as evaluation).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.execute import Job, LocalExecutor
from experiments.launch import Launch, unfinished
from experiments.ledger import Store
from experiments.sweep import load

SWEEP = """# What does a trial cost?
seeds: {trials}
set:
  model: {{patches: 5, tokens: 5, width: 16, heads: 2, codes: 8, shape_length: 16}}
  train: {{epochs: 2, batch_size: 10}}
variants: {{guided: {{model.guidance.attention: one_way}}}}
"""
NAIVE = """
import json, sys
from experiments.execute import Job
from experiments import trial
trial.run([Job(*json.load(sys.stdin))])
"""


class Quiet:
    """A launch.Report that shows nothing."""

    def note(self, line: str) -> None: ...
    def progress(self, done: float, total: float, running: list[str]) -> None: ...
    def ended(self, name: str, result: dict[str, Any]) -> None: ...


def overheads(store: Store, signatures: list[str]) -> list[float]:
    results = [store.result(signature) for signature in signatures]
    return [r["cost"]["overhead_s"] for r in results if r and r["status"] == "done"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overhead.yaml"
        path.write_text(SWEEP.format(trials=args.trials))
        store = Store(Path(folder) / "ours")
        sweep = load(path, store)
        todo = unfinished(sweep, store, retry_failed=False)
        launch = Launch(sweep, store, LocalExecutor(args.workers, ["cpu"]), Quiet(), lambda: None)
        launch.run(todo)
        ours = overheads(store, todo)

        naive_store, walls = Store(Path(folder) / "naive"), []
        (naive_store.root).mkdir()
        (naive_store.root / "cache").symlink_to(store.cache.resolve())
        for signature in todo[: max(2, args.trials // 2)]:
            config = sweep.configs[signature].model_dump(mode="json")
            digests = sweep.digests[signature]
            began = time.time()
            job = Job(signature, config, digests, str(naive_store.root), "cpu", "benchmark", began)
            command = [sys.executable, "-c", NAIVE]
            subprocess.run(command, input=json.dumps(job), text=True, check=True, capture_output=True)
            result = naive_store.result(signature)
            assert result is not None and result["status"] == "done", result
            walls.append(result["cost"]["overhead_s"])
    fast, slow = statistics.median(ours), statistics.median(walls)
    print(
        f"ours   median {fast:6.2f} s  (worst {max(ours):.2f} s, {len(ours)} trials, {args.workers} at once)"
    )
    print(f"naive  median {slow:6.2f} s  (worst {max(walls):.2f} s, {len(walls)} trials, 1 at once)")
    print(f"ratio  {slow / fast:.1f}x")


if __name__ == "__main__":
    main()
