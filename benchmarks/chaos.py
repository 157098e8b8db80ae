"""Does anything get lost, doubled or changed when everything dies? Real launches, real trials, real kills.

    python benchmarks/chaos.py [--faults 500] [--seed 0] [--keep DIR]

A small sweep with a search is run once undisturbed. Then the same command is run on fresh stores, again and
again, while trials are killed at named points, coordinators at any time, launches run two or six at once,
files are torn or emptied between launches, writes fail as on a full disk or grow too large, and clocks jump;
in the end each store is left alone until it says that nothing is to do. Its ledger, its studies and its LaTeX
table must equal those of the undisturbed run. Prints how many faults were tried and survived, and how many
results were lost, doubled or changed.
"""

import argparse
import collections
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SWEEP = """# What survives?
seeds: {seeds}
set:
  model: {{patches: 5, tokens: 5, width: 16, heads: 2, encoder_layers: 1, tokenizer_layers: 1}}
  model.shape_length: 16
  train: {{epochs: 3, batch_size: 10}}
  figures: false
reference: plain
search:
  trials: 3
  pruner: {{name: median, n_startup_trials: 1}}
  parallel: 2
  space: {{model.codes: [8, 16], train.lr: {{low: 1e-3, high: 1e-2, log: true}}}}
variants:
  plain: {{losses.ce_series: 0.1}}
  text: {{model.guidance.attention: two_way, losses.info_nce: 0.1, train.select: validation}}
  fcn: {{baseline: fcn}}
  statistics: {{baseline: statistics}}
"""
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def wrap(
    where: Any, name: str, before: Callable[..., None] | None, after: Callable[..., None] | None
) -> None:
    """Call `before` and `after` around a function, with its arguments."""
    real = getattr(where, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        out = real(*args, **kwargs)
        if after is not None:
            after(*args, **kwargs)
        return out

    setattr(where, name, wrapped)


def install(point: str, strike: Callable[[], None]) -> None:
    """Call `strike`, which may kill this process, each time that it comes to the point."""
    import torch

    from experiments import attempt, lease, trial

    def at_checkpoint(path: Path, data: bytes, **_: Any) -> None:
        if path.name == "checkpoint":
            path.with_name(".checkpoint.torn").write_bytes(data[: len(data) // 2])
            strike()

    def half_taken(source: Any, target: Any) -> None:
        strike()

    places: dict[str, tuple[Any, str, Any, Any]] = {
        "after the lease": (trial, "claim", None, lambda *_: strike()),
        "mid-epoch": (torch.optim.lr_scheduler.LambdaLR, "step", lambda *_: strike(), None),
        "mid-checkpoint": (attempt, "write_bytes", at_checkpoint, None),
        "after the checkpoint": (attempt.Attempt, "save", None, lambda *_: strike()),
        "before the result's rename": (lease, "_take", lambda *_: strike(), None),
        "between its renames": (os, "rename", None, half_taken),
        "after the result's rename": (lease, "_take", None, lambda *_: strike()),
    }
    wrap(*places[point])


POINTS = (
    "after the lease", "mid-epoch", "mid-checkpoint", "after the checkpoint", "before the result's rename",
    "between its renames", "after the result's rename",
)  # fmt: skip


def haunt() -> None:
    """In a launch and, by the fork server that imports this file, in each trial: what CHAOS asks for."""
    asked = json.loads(os.environ["CHAOS"])
    log, rng = asked["log"], random.Random(f"{asked['seed']} {os.getpid()} {time.time_ns()}")

    def told(what: str) -> None:
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{what}\n".encode())
        os.close(fd)

    from experiments import lease, ledger

    def accepted(trial: Path, *_: Any) -> None:
        told(f"accepted {trial.name}")

    wrap(lease, "_take", None, accepted)
    if asked["clock"]:
        real = time.time
        time.time = lambda: real() + asked["clock"]  # type: ignore[assignment]
    if asked["point"]:

        def strike() -> None:
            if os.getpid() != asked.get("coordinator") and rng.random() < asked["p"]:
                told(f"fault {asked['point']}")
                os.kill(os.getpid(), signal.SIGKILL)

        install(asked["point"], strike)
    if asked["full"]:

        def full(path: Path, *_: Any, **__: Any) -> None:
            if rng.random() < asked["full"]:
                told("fault disk full")
                raise FULL

        from experiments import attempt

        for module in (ledger, attempt):
            wrap(module, "write_bytes", full, None)


if "CHAOS" in os.environ and __name__ in ("__main__", "__mp_main__"):
    haunt()


class Store:
    """One store, and the launches on it."""

    def __init__(self, root: Path, sweep: Path, cache: Path | None, rng: random.Random) -> None:
        self.root, self.sweep, self.rng = root, sweep, rng
        self.log, self.faults = root.parent / f"{root.name}.log", collections.Counter[str]()
        root.mkdir()
        if cache is not None:
            (root / "cache").symlink_to(cache)

    def launch(self, point: str | None = None, full: float = 0.0, clock: float = 0.0, limit: int = -1) -> Any:
        often = {
            "mid-epoch": 0.15,
            "mid-checkpoint": 0.5,
            "after the checkpoint": 0.5,
            "between its renames": 0.3,
        }
        p = often.get(str(point), 0.8)  # a trial passes those several times, the others once
        asked = {"log": str(self.log), "seed": self.rng.random(), "point": point, "p": p, "full": full}
        asked |= {"clock": clock}
        environment = os.environ | {"CHAOS": json.dumps(asked), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        command = [sys.executable, __file__, "--launch", "run", str(self.sweep), "--store", str(self.root)]
        output = (self.root.parent / f"{self.root.name}.out").open("ab")
        return subprocess.Popen(
            [*command, "--workers", "2", "--retries", "100000"],
            env=environment, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip

    def wait(self, process: Any, timeout_s: float = 180) -> None:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def undisturbed(self) -> None:
        self.wait(self.launch(), 600)

    # Each fault counts itself, here or through the log.

    def points(self) -> None:
        self.wait(self.launch(self.rng.choice(POINTS)))

    def disk(self) -> None:
        self.wait(self.launch(full=0.1))

    def small_files(self) -> None:
        process = self.launch(limit=self.rng.choice([5_000, 20_000, 60_000]))
        time.sleep(self.rng.uniform(5, 12))
        if process.poll() is None:
            self.faults["RLIMIT_FSIZE, and kill -9 of the coordinator"] += 1
            process.kill()
        process.wait()

    def clocks(self) -> None:
        self.faults["clock set back"] += 1
        self.wait(self.launch(self.rng.choice(POINTS), clock=self.rng.choice([-3e6, -3600, 3600])))

    def coordinator(self) -> None:
        process = self.launch(self.rng.choice(POINTS))
        time.sleep(self.rng.uniform(0.5, 10))
        if process.poll() is None:
            self.faults["kill -9 of the coordinator"] += 1
            process.kill()
        process.wait()

    def terms(self) -> None:
        process, twice = self.launch(), self.rng.random() < 0.5
        time.sleep(self.rng.uniform(4, 12))
        if process.poll() is None:
            self.faults["SIGTERM twice" if twice else "SIGTERM"] += 1
            process.send_signal(signal.SIGTERM)
            if twice:
                time.sleep(self.rng.uniform(0, 0.3))
                process.send_signal(signal.SIGTERM)
        self.wait(process)

    def together(self) -> None:
        several = self.rng.choice([2, 2, 2, 6])
        self.faults[f"{several} launches at once"] += 1
        processes = [self.launch(self.rng.choice([None, *POINTS])) for _ in range(several)]
        if self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(3, 10))
            self.faults["kill -9 of the coordinator"] += 1
            processes[0].kill()
        for process in processes:
            self.wait(process)

    def tear(self) -> None:
        """Empty, cut or garble some files that the engine reads; results aside, which are checked for being
        doubled."""
        names = ("plan.json", "history.json", "lease.json", "checkpoint", "metrics.jsonl", "config.json")
        names += ("digests.json", "mirrored.json", "store.json", "optuna.db", "launch.log")
        studies = list(self.root.glob("sweeps/*/search/*.json"))
        files = [path for path in self.root.rglob("*") if path.name in names and path.is_file()] + studies
        # Nor files of a trial itself: they are whole when they get there, and nothing reads them to run.
        files = [path for path in files if not (path.parent / "result.json").exists()]
        files = [path for path in files if path.parent.parent.name != "trials" or path.name == "history.json"]
        for path in self.rng.sample(files, min(2, len(files))):
            data = path.read_bytes()
            # A score that reads as another number would be believed by a study: no crash writes one.
            believed = path in studies or path.name == "metrics.jsonl"
            how = self.rng.choice(["empty", "torn", *([] if believed else ["garbled"])])
            cut = self.rng.randrange(len(data) + 1)
            garbled = data[:cut] + bytes([self.rng.randrange(256)]) + data[cut + 1 :]
            path.write_bytes({"empty": b"", "torn": data[:cut], "garbled": garbled}[how])
            self.faults[f"{'study' if path in studies else path.name} {how}"] += 1

    def count(self) -> tuple[collections.Counter[str], int]:
        """Faults so far, and results that were accepted once too often."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        taken = collections.Counter(line for line in lines if line.startswith("accepted"))
        struck = collections.Counter(line[6:] for line in lines if line.startswith("fault"))
        return self.faults + struck, sum(n - 1 for n in taken.values())

    def results(self) -> dict[str, Any]:
        """By signature, all that may not hang on when and how often a trial ran; by file, what a study tried.
        A trial that its study prunes may get to its end before it is told: no table counts it."""
        out: dict[str, Any] = {}
        planned = json.loads((self.root / "sweeps" / self.sweep.stem / "plan.json").read_text())
        wanted = {cell["signature"] for cell in planned["cells"]}
        for path in self.root.glob("sweeps/*/search/*.json"):
            out[path.name] = tried = json.loads(path.read_text())["trials"]
            wanted |= {trial["signature"] for trial in tried if trial["state"] != "pruned"}
        for folder in sorted((self.root / "trials").iterdir()):
            if folder.name not in wanted:
                continue
            try:
                result = json.loads((folder / "result.json").read_text())
            except (OSError, ValueError):
                continue
            weights = folder / "model" / "model.safetensors"
            lines = (folder / "metrics.jsonl").read_text().splitlines() if weights.exists() else []
            curve = [{k: v for k, v in json.loads(line).items() if k != "time_s"} for line in lines]
            names = ("status", "error", "metrics", "best_epoch", "confusion", "per_class_f1", "config")
            out[folder.name] = {name: result.get(name) for name in names} | {
                "weights": weights.read_bytes() if weights.exists() else None,
                "curve": curve,
            }
        return out

    def table(self) -> bytes:
        out = self.root.parent / f"{self.root.name}-table"
        command = [
            sys.executable,
            "-m",
            "experiments.cli",
            "table",
            str(self.sweep),
            "--store",
            str(self.root),
        ]
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
        return (out / f"{self.sweep.stem}.tex").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=4, help="of the sweep: 3 trials each, and one more")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    sweep, rng = folder / "survive.yaml", random.Random(args.seed)
    sweep.write_text(SWEEP.format(seeds=args.seeds))
    first = Store(folder / "undisturbed", sweep, None, rng)
    first.undisturbed()
    truth, table = first.results(), first.table()
    trials = [found for found in truth.values() if isinstance(found, dict)]
    assert len(trials) > 3 * args.seeds and all(r["status"] == "done" for r in trials), truth
    total, lost, doubled, changed, stores = collections.Counter[str](), 0, 0, 0, 0
    began = time.monotonic()
    while sum(total.values()) < args.faults:
        store = Store(folder / f"store-{stores}", sweep, first.root / "cache", rng)
        kinds = [store.points, store.points, store.coordinator, store.coordinator]
        kinds += [store.terms, store.together, store.disk, store.clocks, store.small_files]
        for _ in range(4):
            rng.choice(kinds)()
            store.tear()
        store.undisturbed()
        found, (faults, twice) = store.results(), store.count()
        total, stores, doubled = total + faults, stores + 1, doubled + twice
        lost += len(truth.keys() - found.keys())
        differs = sum(found[name] != truth[name] for name in found.keys() & truth.keys())
        differs += len(found.keys() - truth.keys())
        changed += differs or int(store.table() != table)
        minutes = (time.monotonic() - began) / 60
        tried = f"{sum(faults.values())} faults; so far {sum(total.values())} of {args.faults}"
        bad = f"lost {lost}, doubled {doubled}, changed {changed}"
        print(f"{minutes:5.1f} min  store {stores}: {tried}, {bad}", flush=True)
        if not args.keep and not (lost or doubled or changed):
            shutil.rmtree(store.root)
    for name, count in sorted(total.items()):
        print(f"  {count:4d}  {name}")
    count, wrong = sum(total.values()), lost + doubled + changed
    outcome = f"results lost {lost}, doubled {doubled}, changed {changed}"
    print(f"{stores} stores of {len(trials)} trials, seed {args.seed}")
    print(f"tried {count}, survived {count - min(count, wrong)}, {outcome}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--launch"]:
        from experiments.cli import app

        app(sys.argv[2:])
    main()
