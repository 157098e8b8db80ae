"""The coordinator, one a store: asks Optuna, hands trials to an executor, tells Optuna, mirrors to MLflow."""

import hashlib
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments.encoder import encoded
from experiments.execute import Executor, Job, Task
from experiments.ledger import SCHEMA, Store, write_json
from experiments.plan import Sweep

POLL_S = 0.2


class Report(Protocol):
    """How a launch tells a person what happens."""

    def note(self, line: str) -> None: ...
    def progress(self, done: float, total: float, running: list[str]) -> None: ...
    def ended(self, name: str, result: dict[str, Any]) -> None: ...


class Summary(NamedTuple):
    """What one launch did; overhead_s is the median cost of a trial outside training and evaluation."""

    done: int
    failed: int
    overhead_s: float | None
    seconds: float


def unfinished(sweep: Sweep, store: Store, retry_failed: bool) -> list[str]:
    """Signatures to run, in the plan's order, each once."""
    out = []
    for signature in dict.fromkeys(cell.signature for cell in sweep.cells):
        result = store.result(signature)
        if result is None or (retry_failed and result["status"] == "failed"):
            out.append(signature)
    return out


def read_data(sweep: Sweep, todo: list[str], store: Store, note: Callable[[str], None]) -> None:
    """Raw files to cached windows, once, before anything trains. Raises ValueError or OSError with one line
    where they are not as they should be."""
    from experiments import data

    configs = [sweep.configs[s] for s in todo]
    wanted = {(sweep.configs[s].data, str(sweep.digests[s]["data"])): None for s in todo}
    read, unknown = set[str](), set[str]()
    for config, found in wanted:
        if config.name not in read and not data.cached_at(config, found, store.cache).is_dir():
            note(f"reading {config.name}")
            read.add(config.name)
        if not data.load_split(config, found, store.cache).about["people"]:
            unknown.add(config.name)
    for name in sorted(unknown & {config.data.name for config in configs if config.tells_wearers}):
        note(f"text.subject_info: {name} says nothing of its people, so texts gain the placement alone")


def code_version() -> str:
    """Hash of the sources that make a trial's numbers: `model/` and `experiments/`."""
    total = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted([*root.glob("model/**/*.py"), *root.glob("experiments/**/*.py")]):
        total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()[:12]


class Launch:
    """One launch of one sweep. The caller holds the store's launch lock."""

    def __init__(
        self, sweep: Sweep, store: Store, executor: Executor, report: Report, nudge: Callable[[], None]
    ) -> None:
        self.sweep, self.store, self.executor = sweep, store, executor
        self.report, self.nudge = report, nudge
        self.code = code_version()
        self.cells = {cell.signature: cell for cell in reversed(sweep.cells)}
        self.counts: Counter[str] = Counter()
        self.overheads: list[float] = []

    def job(self, signature: str) -> Job:
        """For the next free device slot."""
        config, digests = self.sweep.configs[signature], self.sweep.digests[signature]
        device, now = self.executor.free[0], time.time()
        dumped = config.model_dump(mode="json")
        return Job(signature, dumped, digests, str(self.store.root), device, self.code, now)

    def run(self, todo: list[str]) -> Summary:
        """Run `todo`; returns when all have ended. KeyboardInterrupt stops what runs and passes on."""
        started = time.time()
        asked: dict[str, Any] = {}
        epochs = {s: self.epochs(s) for s in todo}
        waiting, finished = list(todo), 0.0
        try:
            from experiments.search import Study  # while the fork server imports, so that the two overlap

            study = Study(self.sweep, self.store)
            self.prepare(todo)
            while waiting or asked:
                while waiting and self.executor.free:
                    signature = waiting.pop(0)
                    asked[signature] = study.ask(signature)
                    # A retried trial that dies at once must not be taken for its last attempt.
                    (self.store.trial(signature) / "result.json").unlink(missing_ok=True)
                    self.executor.start(Task("run", [self.job(signature)]))
                for task, death in self.executor.poll(POLL_S):
                    ended = task.jobs[0].signature
                    study.tell(asked.pop(ended), self.accept(ended, death))
                    finished += epochs[ended]
                partly = sum(min(epochs[s], self.store.epochs_done(s)) for s in asked)
                labels = [self.cells[s].row for s in asked]
                self.report.progress(finished + partly, sum(epochs.values()), labels)
        finally:
            self.executor.close()
            for signature, trial in asked.items():
                study.tell(trial, self.store.result(signature))
        overhead = statistics.median(self.overheads) if self.overheads else None
        return Summary(self.counts["done"], self.counts["failed"], overhead, time.time() - started)

    def epochs(self, signature: str) -> int:
        config = self.sweep.configs[signature]
        return 1 if "train" in config.unused() else config.train.epochs

    def prepare(self, todo: list[str]) -> None:
        """Windows and text embeddings first, in one process, so that trials only read them."""
        self.report.note("preparing data and text")
        self.executor.start(Task("prepare", [self.job(signature) for signature in todo]))
        while not (ended := self.executor.poll(POLL_S)):
            if texts := encoded(self.store.trial(todo[0]) / "log.txt"):
                self.report.progress(*texts, ["encoding texts"])
        if death := ended[0][1]:
            self.report.note(f"preparing failed ({death}); each trial tries for itself")

    def accept(self, signature: str, death: str | None) -> dict[str, Any]:
        """The trial's result; a trial that died without one gets a failed result that says how."""
        result = self.store.result(signature)
        if result is None:
            result = {
                "schema": SCHEMA,
                "signature": signature,
                "status": "failed",
                "error": f"crashed: {death or 'it returned without a result'}",
                "config": self.sweep.configs[signature].model_dump(mode="json"),
                "digests": self.sweep.digests[signature],
                "metrics": {},
                "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            write_json(self.store.trial(signature) / "result.json", result)
        self.counts[result["status"]] += 1
        if result["status"] == "done":
            self.overheads.append(result["cost"]["overhead_s"])
        self.report.ended(self.sweep.label(self.cells[signature]), result)
        self.nudge()
        return result
