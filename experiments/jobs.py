"""What a launch hands to executors: trials as jobs that pickle."""

import time
from contextlib import suppress
from pathlib import Path

from experiments import lease
from experiments.code import Code, keep
from experiments.encoder import encoded
from experiments.execute import POLL_S, UNFIT, Executor, Job, Task
from experiments.ledger import Store
from experiments.limits import Limits
from experiments.progress import Since
from experiments.report import Report
from experiments.supply import Trial


class Jobs:
    """Of trials that the sources `code` run. accepted: by signature, the attempt whose result was there
    before this launch; stale: holders of other machines that show no heart beat."""

    def __init__(self, store: Store, code: Code) -> None:
        self.store, self.code = store, code
        self.trials: dict[str, Trial] = {}
        self.accepted: dict[str, int] = {}
        self.stale: dict[str, lease.Holder] = {}
        self.patch: Path | None = None

    def keep_code(self) -> None:
        self.patch = keep(self.store.root, self.code)

    def add(self, trial: Trial) -> None:
        self.trials[trial.signature] = trial
        self.accepted[trial.signature] = lease.accepted(self.store.trial(trial.signature))

    def make(self, signature: str, device: str, recompute: bool = False) -> Job:
        trial = self.trials[signature]
        return Job(
            signature,
            trial.config.model_dump(mode="json"),
            trial.digests,
            str(self.store.root),
            device,
            self.code.hash,
            time.time(),
            self.accepted[signature],
            self.stale.get(signature),
            recompute,
            {"commit": self.code.commit, "dirty": self.code.dirty},
            self.patch,
        )

    def prepare(self, executor: Executor, report: Report, log: Path, limits: Limits, began: float) -> None:
        """Windows and text embeddings first, in one process, so that trials only read them. began: when the
        launch did, by the monotonic clock."""
        log.parent.mkdir(parents=True, exist_ok=True)
        for path in log.parent.glob("launch-*.log"):  # of launches that died
            with suppress(ValueError, OSError):
                if lease.born(int(path.stem.removeprefix("launch-"))) is None:
                    path.unlink()
        if not self.trials:
            return
        report.note("preparing data and text")
        jobs = [self.make(signature, executor.free[0]) for signature in self.trials]
        task, since, killed = Task("prepare", jobs, log), Since(), False
        executor.start(task)
        while not (ended := executor.poll(POLL_S)):
            if texts := encoded(log):
                report.progress(*texts, ["encoding texts"])
            if executor.queued(task):
                since.forget("prepare")
            hung = since.same_s("prepare", texts) > limits.timeout_s
            if not killed and (hung or limits.over(began)):
                killed = True
                executor.kill(task)
        how = ended[0][1]
        if how is not None and how.startswith(UNFIT):  # another machine may be fit
            return self.prepare(executor, report, log, limits, began)
        if how and not limits.over(began):
            report.note(f"preparing failed ({how}); each trial tries for itself")
