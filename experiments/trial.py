"""One trial, from its config to `result.json`. It writes only into its own folder."""

import datetime
import math
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from experiments import data, doctor_nodes, failure, stage
from experiments.attempt import Attempt, Clock, Stopped
from experiments.code import ORIGIN, lay
from experiments.config import RunConfig
from experiments.environment import environment
from experiments.evaluation import evaluate
from experiments.execute import Job
from experiments.failure import unwritable
from experiments.identity import digest
from experiments.lease import Held, Lease, Lost, accepted, claim
from experiments.ledger import SCHEMA, Store, write_json
from experiments.measure import measure
from experiments.texts import read_text

THREADS = ThreadpoolController()  # looked up once for all trials that are forked from here


def prepare(jobs: list[Job], own_process: bool) -> str | None:
    """Fill the caches of windows and text embeddings once, before trials start."""
    torch.set_num_threads(1)
    seen = set()
    for job in jobs:
        config, store = RunConfig.model_validate(job.config), Store(Path(job.store))
        text = config.text if config.reads_text or config.reads_concepts else None
        # By seed, other classes' texts meet what else is said of a window, and noise is drawn.
        by_seed = text is not None and text.control in ("shuffled_classes", "random")
        needs = (config.data, text, config.seed if by_seed else None, *job.digests.values())
        if needs not in seen:
            seen.add(needs)
            try:
                read_text(config, job, data.load_split(config.data, str(job.digests["data"]), store.cache))
            except OSError as error:
                if unwritable(error, job.store):
                    return "disk full"
                raise
    return None


def run(jobs: list[Job], own_process: bool) -> str | None:
    """Train, evaluate, write: one job, under its lease. A failure becomes a failed result with one line and a
    log. Returns why there is no result of this attempt: held or lost (another process is or was at it),
    pre-empted, pruned, out of memory, crashed, disk full; else None."""
    (job,) = jobs
    trial = Store(Path(job.store)).trial(job.signature)
    try:
        lease = claim(trial, job.stale)
    except Held:
        return "held"
    except OSError as error:
        if unwritable(error, job.store):
            return "disk full"
        raise
    try:
        if accepted(trial) != job.accepted:  # somebody was faster
            lease.drop()
            return "held"
        if own_process:
            listen(lease)
        return _run(job, lease)
    except Lost:
        return "lost"
    except Stopped as why:
        if str(why) == "pruned":  # hundreds of them fill a disk, and only a study made anew would go on
            (lease.folder / "checkpoint").unlink(missing_ok=True)
        lease.release()
        return str(why)
    except BaseException as error:
        full = unwritable(error, job.store)
        with suppress(OSError):
            lease.release()
        if full:
            return "disk full"
        raise


def listen(lease: Lease) -> None:
    """SIGTERM and SIGUSR2 ask the trial to give itself back; all that it prints goes to its log."""

    def stop(number: int, frame: Any) -> None:
        lease.asked = lease.asked or "pre-empted"

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, stop)
    with (lease.folder / "log.txt").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if lease.attempt > 1:
        print(f"--- attempt {lease.attempt}", flush=True)


def _run(job: Job, lease: Lease) -> str | None:
    identity = {"signature": job.signature, "config": job.config, "digests": job.digests}
    write_json(lease.folder / "config.json", identity, sync=False)
    lay(job.patch, lease.folder)
    clock, told = Clock(job.submitted_at), {"device": job.device, "code": job.code}
    result: dict[str, Any] = {"schema": SCHEMA, **identity, "status": "done", "error": None}
    try:
        told = environment(job)  # the first to speak to a GPU
        same = digest({name: value for name, value in told.items() if name not in ORIGIN})[:16]
        attempt = Attempt(lease, f"{job.signature} {same}", clock)
        config = RunConfig.model_validate(job.config)
        torch.set_num_threads(config.threads)
        with THREADS.limit(limits=config.threads):
            measured = measure(config, job, attempt)
        for name, value in measured["metrics"].items():
            if not math.isfinite(value):
                raise FloatingPointError(f"diverged: {name} is {value}")
        result |= measured
    except Stopped:
        raise
    except Exception as error:
        if unwritable(error, job.store):
            raise
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:500] or 'no message'}"
        with (lease.folder / "log.txt").open("a") as log:
            traceback.print_exc(file=log)
        if (word := failure.word(error)) in ("out of memory", "crashed"):
            lease.ended(word, line)
            return word
        result |= {"status": "failed", "failure": word, "error": line, "metrics": {}}
    result["environment"] = told
    result["cost"] = result.get("cost", {}) | clock.cost()
    result["finished_at"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lease.accept(result)
    if result["status"] == "done" and (name := stage.stage(config, job.digests)):
        stage.leave(Store(Path(job.store)), name, job.signature)
    return None


CALLS: dict[str, Callable[[list[Job], bool], str | None]] = {
    "prepare": prepare,
    "run": run,
    "evaluate": evaluate,
    "look": doctor_nodes.answer,
}
