"""What a launch hands to executors: trials as jobs that pickle."""

import time
from pathlib import Path

from experiments import lease
from experiments.code import Code, keep
from experiments.execute import Job
from experiments.ledger import Store
from experiments.plan import Sweep


class Jobs:
    """Of `sweep`, whose trials the sources `code` run. accepted: by signature, the attempt whose result was
    there before this launch; stale: holders of other machines that show no heart beat."""

    def __init__(self, sweep: Sweep, store: Store, code: Code) -> None:
        self.sweep, self.store, self.code = sweep, store, code
        self.accepted: dict[str, int] = {}
        self.stale: dict[str, lease.Holder] = {}
        self.patch: Path | None = None

    def begin(self, todo: list[str]) -> None:
        """Remember what is there, and keep the code's patch. Raises OSError."""
        self.accepted = {s: lease.accepted(self.store.trial(s)) for s in todo}
        self.patch = keep(self.store.root, self.code)

    def make(self, signature: str, device: str, recompute: bool = False) -> Job:
        return Job(
            signature,
            self.sweep.configs[signature].model_dump(mode="json"),
            self.sweep.digests[signature],
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
