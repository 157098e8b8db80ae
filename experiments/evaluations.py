"""A sweep's evaluations: which of its trials lack theirs, and the processes that make them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments import evaluation, lease
from experiments.classifier import KINDS
from experiments.code import Code
from experiments.evaluation import Judge
from experiments.execute import POLL_S, Executor, Job, Task
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.printable import printable

Told = Callable[[str, str | None], None]


class Evaluations:
    """Of the trials of `asked`, a part of the sweep. todo: those that are done, keep a model, and have no
    evaluation of their present result. problems: by trial, why it got none."""

    def __init__(self, sweep: Sweep, asked: Sweep, store: Store, force: bool) -> None:
        self.sweep, self.store, self.problems = sweep, store, dict[str, str]()
        self.judges = evaluation.judges(sweep)
        self.labels = {cell.signature: sweep.label(cell) for cell in reversed(sweep.cells)}
        planned = [s for s in dict.fromkeys(c.signature for c in asked.cells) if s not in sweep.waiting]
        kept = [name for name in planned if sweep.configs[name].baseline in KINDS]
        self.done = [n for n, r in store.results(kept) if r is not None and r["status"] == "done"]
        self.not_done, self.without = len(kept) - len(self.done), len(planned) - len(kept)
        self.todo = [n for n in self.done if force or not evaluation.current(store, n, self.judges[n])]
        needed = [judge for name in self.todo if (judge := self.judges[name]) is not None]
        self.untrained = {j.signature: j for j in needed if not evaluation.trained(store, j)}
        self.left = set(self.todo)

    def counts(self) -> str:
        """How far the trials are, in words."""
        parts = [f"{len(self.done) - len(self.left)} of {len(self.done)} done trials evaluated"]
        parts += [f"{self.not_done} not done yet"] if self.not_done else []
        parts += [f"{self.without} of a baseline that keeps no model"] if self.without else []
        return ", ".join(parts)

    def run(self, executor: Executor, code: Code, told: Told) -> None:
        """The judges that are missing first, then the trials. told: (a trial's label, why it got none)."""
        self.code = code
        with TemporaryDirectory() as folder:
            logs = Path(folder)
            for judge in self.untrained.values():
                label = self.labels.get(judge.signature, f"fcn {judge.signature}")
                self.labels[judge.signature] = f"training {label}, which reads rebuilt windows"
            tasks = [Task("run", [self.job(judge)], logs / name) for name, judge in self.untrained.items()]
            for name, why in _ended(executor, tasks):
                if not evaluation.trained(self.store, self.untrained[name]):
                    self.problems[name] = why or (self.store.result(name) or {}).get("error") or "no result"
                told(self.labels[name], self.problems.get(name))
            tasks = []
            for name in self.todo:
                jobs, judge = [self.job(self.trial(name))], self.judges[name]
                if judge is not None and (why := self.problems.get(judge.signature)):
                    self.problems[name] = f"nobody to read what it rebuilds: {why}"
                    told(self.labels[name], self.problems[name])
                    continue
                tasks.append(
                    Task("evaluate", jobs + ([self.job(judge)] if judge is not None else []), logs / name)
                )
            for name, why in _ended(executor, tasks):
                if why is None:
                    self.left.discard(name)
                else:
                    self.problems[name] = why
                told(self.labels[name], why)

    def trial(self, name: str) -> Judge:
        return Judge(name, self.sweep.configs[name], self.sweep.digests[name])

    def job(self, trial: Judge) -> Job:
        accepted = lease.accepted(self.store.trial(trial.signature))
        config = trial.config.model_dump(mode="json")
        root, now = str(self.store.root), time.time()
        origin = {"commit": self.code.commit, "dirty": self.code.dirty}
        return Job(
            trial.signature, config, trial.digests, root, "cpu", self.code.hash, now, accepted, origin=origin
        )


def _ended(executor: Executor, tasks: list[Task]) -> Iterator[tuple[str, str | None]]:
    """Run them all; of each, as it ends, the first job's signature, and why it failed if it did."""
    waiting, running = list(tasks), 0
    while waiting or running:
        while waiting and executor.free:
            executor.start(waiting.pop(0))
            running += 1
        for task, how in executor.poll(POLL_S):
            running -= 1
            yield task.jobs[0].signature, how and _why(task.log, how)


def _why(log: Path, how: str) -> str:
    """Of a process that an error ended, the traceback's last line."""
    if how == "held":
        return "another process is at it now"
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return printable(lines[-1]) if lines and how.startswith("exit status") else how
