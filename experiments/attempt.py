"""One try at a trial, as training sees it: its curve, its clock, its checkpoint, and when to stop.

The checkpoint is written at the end of an epoch, and at the end of a batch where the trial is asked to stop;
from it the trial goes on to the same bits. One that can't be read, or that other code wrote, is left alone.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.lease import Lease
from experiments.ledger import write_bytes
from experiments.usage import Usage

SHARE = 20  # a checkpoint is due when the last one cost less than a SHARE-th of the time since


class Stopped(Exception):
    """The trial gives itself back, as it was asked to: pre-empted, pruned, or lost."""


class Clock:
    """Where a trial's seconds go, those of the attempts that it goes on from included. Evaluation inside
    training counts as evaluation."""

    def __init__(self, submitted_at: float) -> None:
        self.evaluate_s, self.train_s, self.before_s = 0.0, 0.0, max(0.0, time.time() - submitted_at)
        self.began = time.monotonic()  # a clock that is set back would give seconds below 0
        self.since: float | None = None

    def evaluation(self, started: float) -> None:
        self.evaluate_s += time.monotonic() - started

    def training(self) -> None:
        """Training begins, or goes on."""
        self.since = time.monotonic() - self.train_s - self.evaluate_s

    def tick(self) -> None:
        """Bring `train_s` up to now, where training goes on."""
        if self.since is not None:
            self.train_s = time.monotonic() - self.since - self.evaluate_s

    def trained(self) -> None:
        self.tick()
        self.since = None

    def total_s(self) -> float:
        return self.before_s + time.monotonic() - self.began

    def cost(self) -> dict[str, float]:
        total = self.total_s()
        return {
            "total_s": total,
            "train_s": self.train_s,
            "evaluate_s": self.evaluate_s,
            "overhead_s": total - self.train_s - self.evaluate_s,
        }


class Attempt:
    """In the lease's folder. identity: of trial, code and machine, where the same bits are promised. saved:
    what `save` was given by an attempt of that identity before, or None."""

    def __init__(self, lease: Lease, identity: str, clock: Clock) -> None:
        self.lease, self.folder, self.clock = lease, lease.folder, clock
        self.head = identity
        self.saved_at, self.took_s = time.monotonic(), 0.0
        self.lines: list[str] = []
        self.saved = self._read()
        if self.saved is not None:
            clock = self.clock
            self.lines = self.saved["lines"]
            spent_s, clock.train_s, clock.evaluate_s = self.saved["seconds"]
            clock.before_s += spent_s
        (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        self.usage = Usage(self.folder, goes_on=self.saved is not None)
        if self.lines:
            self._write_lines()

    def log(self, epoch: int, found: dict[str, float]) -> None:
        """Add an epoch's line to metrics.jsonl."""
        self.lines.append(json.dumps({"epoch": epoch, **found, "time_s": self.clock.total_s()}) + "\n")
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(self.lines[-1])
        self.usage.log(epoch)

    def take_curve(self, curve: list[dict[str, Any]]) -> None:
        """Another trial's, of the same training."""
        self.lines = [json.dumps(line) + "\n" for line in curve]
        self._write_lines()

    def _write_lines(self) -> None:
        write_bytes(self.folder / "metrics.jsonl", "".join(self.lines).encode())

    @property
    def asked(self) -> bool:
        """Whether the trial is asked to stop."""
        return self.lease.asked is not None

    def check(self) -> None:
        """Where the trial got on, and where it may stop: raises Stopped if it was asked to."""
        self.lease.step()
        if (self.folder / "prune").exists():
            self.lease.asked = "pruned"
        if self.lease.asked is not None:
            raise Stopped(self.lease.asked)

    def step(self, save: Callable[[], None], epoch_ended: bool) -> None:
        """Where training could go on from. Checkpoints by `save` where that is due, or the trial is asked to
        stop, and then raises Stopped."""
        due = time.monotonic() - self.saved_at >= SHARE * self.took_s
        if self.asked or (epoch_ended and due):
            save()
        self.check()

    def save(self, state: dict[str, Any]) -> None:
        """Checkpoint what the trial goes on from: tensors, numbers, texts, and lists and dicts of them.
        Raises Stopped where the lease is lost, and its folder with it."""
        if self.lease.asked == "lost":
            raise Stopped("lost")
        started, clock = time.monotonic(), self.clock
        clock.tick()
        seconds = [clock.total_s(), clock.train_s, clock.evaluate_s]
        buffer = io.BytesIO()
        torch.save(state | {"lines": self.lines, "seconds": seconds}, buffer)
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        write_bytes(self.folder / "checkpoint", f"{self.head} {digest}\n".encode() + data, make=False)
        self.saved_at = time.monotonic()
        self.took_s = self.saved_at - started

    def _read(self) -> dict[str, Any] | None:
        """The checkpoint; None where there is none to go on from, which a line in the log explains."""
        path: Path = self.folder / "checkpoint"
        try:
            head, _, data = path.read_bytes().partition(b"\n")
        except (FileNotFoundError, IsADirectoryError):
            return None
        if head.decode(errors="replace") != f"{self.head} {hashlib.sha256(data).hexdigest()}":
            print("the checkpoint is torn, or of other code or another machine: starting anew", flush=True)
            return None
        try:
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:
            print(f"the checkpoint can't be read ({type(error).__name__}): starting anew", flush=True)
            return None
