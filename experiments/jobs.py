"""What a launch hands to executors: trials as jobs that pickle."""

import time
from pathlib import Path

from experiments import lease
from experiments.code import Code, keep
from experiments.execute import Job
from experiments.ledger import Store
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
