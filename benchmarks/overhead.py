"""What a trial costs beside training and evaluation: alone, against the naive way, and while others train.

    python benchmarks/overhead.py [--noops 2000] [--trials 8] [--workers 2]

no-op: trials that measure nothing, by `shapelex run`'s way: a process a trial, forked from a server that
       imported torch and Lightning once. Its turn is the time from an end to the next end in a worker, so
       all that a trial waits for is in it. Bar: under 150 ms beyond the fork of an empty process, at the
       median, no slower at the end than at the start, and nothing leaks. CPU time is less at the mercy of
       what else the machine does
busy:  the coordinator's share of a core while as many real trials train as there are workers. Bar: 5 %
ours:  micro trials on BasicMotions; the overhead of each is the time from its submission to its result on
       disk, less training and evaluation (figures count as evaluation)
naive: `python -c ...` for each of the same trials, which imports everything again
"""

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from experiments.code import identity
from experiments.execute import Job
from experiments.launch import Launch
from experiments.ledger import Store
from experiments.limits import Limits
from experiments.local_executor import LocalExecutor
from experiments.report import Summary
from experiments.supply import Supply
from experiments.sweep import load
from experiments.todo import unfinished

NOOP = """# What does a trial cost that does nothing?
seeds: {trials}
variants: {{noop: {{baseline: minirocket}}}}
"""
MICRO = """# What does a trial cost?
seeds: {trials}
set:
  model: {{patches: 5, tokens: 5, width: 16, heads: 2, codes: 8, shape_length: 16}}
  train: {{epochs: {epochs}, batch_size: 10}}
variants: {{guided: {{model.guidance.attention: one_way}}}}
"""
NAIVE = """
import json, sys
from experiments.execute import Job
from experiments import trial
trial.run([Job(*json.load(sys.stdin))], False)
"""


def noop(asked: Any) -> dict[str, Any]:
    return {"metrics": {"val/macro_f1": 0.5, "test/macro_f1": 0.5}}


if __name__ == "__mp_main__":  # in a trial: the fork server of Python 3.11 skips `__main__`
    from experiments import measure

    measure.MEASURES["minirocket"] = noop


class Held(NamedTuple):
    """What the coordinator and its fork server hold now, and the CPU seconds of the coordinator and of the
    processes that the server has forked and seen end."""

    files: int
    memory_mb: float
    processes: int
    server_files: int
    server_memory_mb: float
    cpu_s: float
    forked_cpu_s: float

    @classmethod
    def now(cls) -> "Held":
        below = descendants(os.getpid())
        server = next((pid for pid in below if b"forkserver" in _read(pid, "cmdline")), os.getpid())
        waited = _read(server, "stat").rpartition(b")")[2].split()[13:15]
        forked_s = sum(map(int, waited)) / os.sysconf("SC_CLK_TCK")
        return cls(*_held(os.getpid()), len(below), *_held(server), time.process_time(), forked_s)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _held(pid: int) -> tuple[int, float]:
    """Open files, and resident memory of its own or shared, in MB."""
    pages = int(_read(pid, "statm").split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, the nearest first, the dead that nobody has waited for among them."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if stat := _read(int(name), "stat"):
            children.setdefault(int(stat.rpartition(b")")[2].split()[1]), []).append(int(name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


class Watch:
    """A launch.Report that shows nothing, and notes when trials end and what is held meanwhile."""

    def __init__(self, trials: int, workers: int) -> None:
        self.workers = workers
        self.marks = {trials * tenth // 10 for tenth in (1, 2, 9, 10)}
        self.ends: list[float] = []
        self.held: dict[int, Held] = {}
        self.busy: list[tuple[float, float]] = []  # clock and CPU seconds while every worker trains

    def note(self, line: str) -> None: ...

    def progress(self, done: float, total: float, running: list[str]) -> None:
        if len(running) == self.workers and not self.ends:
            self.busy.append((time.perf_counter(), time.process_time()))

    def ended(self, name: str, result: dict[str, Any]) -> None:
        assert result["status"] == "done", result
        self.ends.append(time.perf_counter())
        if len(self.ends) in self.marks:
            self.held[len(self.ends)] = Held.now()

    def turns(self) -> list[float]:
        """Seconds a trial, in the order of their ends."""
        pairs = zip(self.ends, self.ends[self.workers :], strict=False)
        return [later - earlier for earlier, later in pairs]


def launched(store: Store, sweep: str, workers: int, **fields: int) -> tuple[Watch, Any, Summary]:
    """A launch of the sweep, undisturbed, with the sweep as it was planned."""
    path = store.root.parent / f"{store.root.name}.yaml"
    path.write_text(sweep.format(**fields))
    planned = load(path, store)
    todo = unfinished(planned, store, retry_failed=False)
    watch, executor = Watch(len(todo), workers), LocalExecutor(workers, ["cpu"])
    supply, limits = Supply(planned, store, todo, None, lambda _: None), Limits()
    summary = Launch(supply, executor, watch, lambda: None, identity(), limits).run()
    assert len(watch.ends) == len(todo), summary
    return watch, planned, summary


def empty() -> None:
    """What an empty process does."""


def forks(trials: int, workers: int) -> float:
    """Median seconds a process that does nothing, `workers` at once."""
    context, ends = multiprocessing.get_context("forkserver"), []
    running: list[Any] = []
    while len(ends) < trials:
        while len(running) < workers:
            running.append(context.Process(target=empty, daemon=True))
            running[-1].start()
        multiprocessing.connection.wait([process.sentinel for process in running])
        ends += [time.perf_counter() for process in running if process.exitcode is not None]
        running = [process for process in running if process.exitcode is None]
    for process in running:
        process.join()
    return statistics.median(b - a for a, b in zip(ends, ends[workers:], strict=False))


def cpu_ms(before: Held, after: Held, trials: int) -> tuple[float, float]:
    """A trial's: of the coordinator, of the trial's own process."""
    return (
        1000 * (after.cpu_s - before.cpu_s) / trials,
        1000 * (after.forked_cpu_s - before.forked_cpu_s) / trials,
    )


def print_noops(folder: Path, trials: int, workers: int) -> None:
    watch, _, summary = launched(Store(folder / "noop"), NOOP, workers, trials=trials)
    at_rest, empties = Held.now(), max(10, min(trials, 100))
    fork = forks(empties, workers)
    empty_ms = cpu_ms(at_rest, Held.now(), empties)[1]
    tenth, held = trials // 10, [watch.held[mark] for mark in sorted(watch.marks)]
    beyond = [turn - fork for turn in watch.turns()]
    print(
        f"fork   median {1000 * fork:5.0f} ms  (an empty process, {workers} at once; CPU {empty_ms:.0f} ms)"
    )
    print(f"no-op  beyond the fork, {trials} trials, {workers} at once, {summary.seconds:.0f} s in all")
    for name, turns, before, after in (
        ("second tenth", beyond[tenth : 2 * tenth], held[0], held[1]),
        ("last tenth", beyond[-tenth:], held[2], held[3]),
    ):
        median, top = statistics.median(turns), sorted(turns)[int(0.95 * (len(turns) - 1))]
        cpu = cpu_ms(before, after, tenth)
        print(
            f"       {name:12} median {1000 * median:5.0f} ms, 95 % under {1000 * top:5.0f} ms; "
            f"CPU {cpu[0]:.1f} ms in the coordinator, {cpu[1] - empty_ms:.0f} ms beyond the fork in the trial"
        )
    first, last = held[0], held[-1]
    print(f"held   after a tenth {first.files} files, {first.memory_mb:.0f} MB; fork server", end=" ")
    print(f"{first.server_files} files, {first.server_memory_mb:.0f} MB; {first.processes} processes")
    print(f"       after all     {last.files} files, {last.memory_mb:.0f} MB; fork server", end=" ")
    print(f"{last.server_files} files, {last.server_memory_mb:.0f} MB; {last.processes} processes,", end=" ")
    print(f"{at_rest.processes} at rest")


def print_busy(folder: Path, workers: int, epochs: int) -> None:
    watch, _, _ = launched(Store(folder / "busy"), MICRO, workers, trials=workers, epochs=epochs)
    if len(watch.busy) < 2:
        print(f"busy   not seen: {workers} trials of {epochs} epochs were over too soon")
        return
    (began, cpu_began), (ended, cpu_ended) = watch.busy[0], watch.busy[-1]
    share = (cpu_ended - cpu_began) / (ended - began)
    print(f"busy   {100 * share:.1f} % of a core while {workers} trials train ({ended - began:.1f} s)")


def overheads(store: Store, signatures: list[str]) -> list[float]:
    results = [store.result(signature) for signature in signatures]
    return [r["cost"]["overhead_s"] for r in results if r and r["status"] == "done"]


def print_ratio(folder: Path, trials: int, workers: int) -> None:
    store = Store(folder / "ours")
    _, sweep, _ = launched(store, MICRO, workers, trials=trials, epochs=2)
    todo = list(sweep.configs)
    ours = overheads(store, todo)
    naive_store, walls = Store(folder / "naive"), []
    naive_store.root.mkdir()
    (naive_store.root / "cache").symlink_to(store.cache.resolve())
    for signature in todo[: max(2, trials // 2)]:
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
    print(f"ours   median {fast:6.2f} s  (worst {max(ours):.2f} s, {len(ours)} trials, {workers} at once)")
    print(f"naive  median {slow:6.2f} s  (worst {max(walls):.2f} s, {len(walls)} trials, 1 at once)")
    print(f"ratio  {slow / fast:.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--noops", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=100, help="of the trials that train for `busy`")
    parser.add_argument("--trials", type=int, default=8, help="of `ours`, half as many of `naive`")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.noops < 20:
        parser.error("--noops: at least 20, to tell a start from an end")
    with tempfile.TemporaryDirectory() as folder:
        print_noops(Path(folder), args.noops, args.workers)
        print_busy(Path(folder), args.workers, args.epochs)
        print_ratio(Path(folder), args.trials, args.workers)


if __name__ == "__main__":
    main()
