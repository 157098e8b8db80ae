"""What one coordinator takes for sweeps whose trials cost nothing, and so how many GPUs it can feed.

    python benchmarks/scale.py [--cells 100 1000 10000] [--running 10 100 1000] [--trial-min 5]

Real plan, launch, leases, ledger, MLflow and Optuna's view; the executor alone is a stand-in that writes a
result of a real one's size at once, as if by machines elsewhere. First what grows with the cells: seconds of
each step, milliseconds a cell, memory. Then what grows with trials that run at the same time: a look at them
all (time-outs, every 2 s) and a line of progress (every .5 s). The last line is how many GPUs trials of that
many minutes could keep busy before the launch itself, or MLflow behind it, falls back.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from planning import made_up, text

from experiments import lease
from experiments.code import identity
from experiments.execute import Task
from experiments.launch import Launch
from experiments.ledger import Store
from experiments.limits import Limits
from experiments.optuna_view import Record
from experiments.plan import Sweep
from experiments.supply import Supply
from experiments.sweep import load
from experiments.todo import unfinished
from experiments.track import Mirror

SLOTS = 64


class Elsewhere:
    """An executor whose trials are done as they start. hold: none ends, each has a lease and two epochs."""

    def __init__(self, slots: int, hold: bool = False) -> None:
        self.slots, self.hold = slots, hold
        self.done: list[tuple[Task, str | None]] = []
        self.held: list[lease.Lease] = []

    @property
    def free(self) -> list[str]:
        return [f"slot {n}" for n in range(self.slots - len(self.done) - len(self.held))]

    def start(self, task: Task) -> None:
        job = task.jobs[0]
        if task.call == "run":
            mine = lease.claim(Store(Path(job.store)).trial(job.signature))
            (mine.folder / "metrics.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n')
            if self.hold:
                self.held.append(mine)
                return
            mine.accept(made_up(job.signature, job.config, job.digests, int(job.signature, 16)))
        self.done.append((task, None))

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        done, self.done = self.done, []
        return done

    def queued(self, task: Task) -> bool:
        return False

    def interrupt(self) -> None: ...
    def kill(self, task: Task) -> None: ...
    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None: ...
    def close(self) -> None: ...


class Quiet:
    """A launch.Report that shows nothing."""

    def note(self, line: str) -> None: ...
    def progress(self, done: float, total: float, running: list[str]) -> None: ...
    def ended(self, name: str, result: dict[str, Any]) -> None: ...


def planned(folder: Path, cells: int) -> tuple[Sweep, Store, Path]:
    file, store = folder / "folds.yaml", Store(folder / "store")
    file.write_text(text("folds", cells))
    return load(file, store), store, file


def launch(sweep: Sweep, store: Store, executor: Elsewhere) -> Launch:
    supply = Supply(sweep, store, unfinished(sweep, store), None, lambda _: None)
    return Launch(supply, executor, Quiet(), lambda: None, identity(), Limits())


def timed(step: Any) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def verb(name: str, file: Path, store: Store) -> float:
    command = [sys.executable, "-m", "experiments.cli", name, str(file), "--store", str(store.root)]
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def grown(cells: int) -> tuple[float, float]:
    """Print what a sweep of so many cells takes; milliseconds a cell of the launch, and of MLflow."""
    with tempfile.TemporaryDirectory() as name:
        plan_s = timed(lambda: planned(Path(name), cells))
        sweep, store, file = planned(Path(name), cells)
        sweep.save(store, file)
        n = len(sweep.configs)
        launch_s = timed(lambda: launch(sweep, store, Elsewhere(SLOTS)).run())
        optuna_s = timed(lambda: Record(sweep, store).sync())
        mirror = Mirror(store.root, sweep.plan())
        with mirror.alone():
            mlflow_s = timed(mirror.sync)
        steps = {"plan": plan_s, "launch": launch_s, "Optuna": optuna_s, "MLflow": mlflow_s}
        steps |= {name: verb(name, file, store) for name in ("status", "table")}
        told = "  ".join(f"{step} {s:6.1f} s {1000 * s / n:6.2f} ms" for step, s in steps.items())
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        files = sum(len(found) for _, _, found in os.walk(store.root / "trials")) / n
        print(f"{n:6} cells  {told}  {most:5.0f} MB, {files:.1f} files a trial", flush=True)
        return 1000 * launch_s / n, 1000 * mlflow_s / n


def watched(running: int) -> None:
    """Print what looks at so many running trials take."""
    with tempfile.TemporaryDirectory() as name:
        sweep, store, _ = planned(Path(name), max(100, running))
        made = launch(sweep, store, Elsewhere(running, hold=True))
        made.add()
        made.fill()
        assert len(made.running) == running
        look_ms, tell_ms = (1000 * min(timed(step) for _ in range(5)) for step in (made.look, made.tell))
        print(
            f"{running:6} running  a look {look_ms:7.1f} ms of 2000, a line {tell_ms:7.1f} ms of 500",
            flush=True,
        )
        for held in made.executor.held:  # type: ignore[attr-defined]
            held.drop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--running", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--trial-min", type=float, default=5.0)
    args = parser.parse_args()
    for count in args.cells:
        launch_ms, mlflow_ms = grown(count)
    for count in args.running:
        watched(count)
    gpus = [
        f"{60_000 * args.trial_min / ms:,.0f} by {what}"
        for what, ms in (("launch", launch_ms), ("MLflow", mlflow_ms))
    ]
    print(f"GPUs that trials of {args.trial_min:g} min keep busy: {', '.join(gpus)}")


if __name__ == "__main__":
    main()
