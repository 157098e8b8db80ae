"""A sweep's evaluations: which of its trials lack theirs, and the processes that make them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments import evaluation
from experiments.classifier import KINDS
from experiments.code import Code
from experiments.evaluation import Judge
from experiments.execute import POLL_S, Executor, Job, Task
from experiments.jobs import Jobs
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.printable import printable
from experiments.supply import Trial

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
        self.own = [name for name in self.untrained if name in kept]  # rows that `run` had yet to come to
        self.steps = len(self.untrained) + len(self.todo) + len(self.own)

    def counts(self) -> str:
        """How far the trials are, in words."""
        parts = [f"{len(self.done) - len(self.left)} of {len(self.done)} done trials evaluated"]
        parts += [f"{self.not_done} not done yet"] if self.not_done else []
        parts += [f"{self.without} of a baseline that keeps no model"] if self.without else []
        return ", ".join(parts)

    def run(self, executor: Executor, code: Code, told: Told) -> None:
        """The judges that are missing first, then the trials. told: (a trial's label, why it got none)."""
        with TemporaryDirectory() as folder:
            self.logs, self.jobs = Path(folder), Jobs(self.store, code)
            self.jobs.keep_code()
            self._train(executor, told)
            tasks = []
            for name in self.todo:
                judge = self.judges[name]
                if judge is not None and judge.signature in self.problems:
                    why = f"nobody to read what it rebuilds: {self.problems[judge.signature]}"
                    self._tell(told, name, why)
                    continue
                own = Judge(name, self.sweep.configs[name], self.sweep.digests[name])
                jobs = [self._job(one) for one in (own, judge) if one is not None]
                tasks.append(Task("evaluate", jobs, self.logs / name))
            for name, why_not in _ended(executor, tasks):
                if why_not is None:
                    self.left.discard(name)
                self._tell(told, name, why_not)

    def _train(self, executor: Executor, told: Told) -> None:
        """Where a judge is one of the sweep's own trials, it is done then, and to be evaluated."""
        labels = dict(self.labels)
        for name in self.untrained:
            what = labels.get(name, f"fcn {name}")
            self.labels[name] = f"training {what}, which reads rebuilt windows"
        jobs = {name: self._job(judge) for name, judge in self.untrained.items()}
        for name, how in _ended(executor, [Task("run", [job], self.logs / n) for n, job in jobs.items()]):
            why = None
            if not evaluation.trained(self.store, self.untrained[name]):
                why = how or (self.store.result(name) or {}).get("error") or "no result"
            self._tell(told, name, why)
        for name in self.own:
            self.labels[name] = labels[name]
            if name not in self.problems:
                self.done.append(name)
                self.todo.append(name)
                self.left.add(name)
                self.not_done -= 1

    def _tell(self, told: Told, name: str, why: str | None) -> None:
        if why is not None:
            self.problems[name] = why
        told(self.labels[name], why)

    def _job(self, trial: Judge) -> Job:
        self.jobs.add(Trial(*trial, row="", label=""))
        return self.jobs.make(trial.signature, "cpu")


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
