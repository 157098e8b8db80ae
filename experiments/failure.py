"""How a trial can fail, each way with its word in the table, and whether it is run again.

- diverged: it met NaN; a result, never run again by itself
- error: it raised; the same code would raise again
- out of memory: again alone on its device, then with activations recomputed, never with smaller batches,
  which would change contrastive and codebook terms
- crashed (killed, or a fault of its process or GPU) and timed out (no progress): again, `retries` times
- search: its study found no setting that works

Being pre-empted and a full disk are no failures of a trial. A trial's history tells how its attempts ended.
"""

import errno
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from experiments import lease
from experiments.ledger import SCHEMA, locked

RETRIES = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
ALLOCATORS = (
    "DefaultCPUAllocator: ", "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
MACHINE = ("CUDA error: ", "cuDNN error: ", "CUDA driver error: ")  # a sick GPU, not the trial
CROWDED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)


class Again(NamedTuple):
    """How a trial is run again; recompute: activations in the backward pass."""

    alone: bool = False
    recompute: bool = False


def again(history: list[dict[str, Any]], retries: int) -> Again | None:
    """How to run a trial of this history; None where it has used up its tries."""
    ends = [end["end"] for end in history]
    memory = ends.count("out of memory")
    if memory > 2 or len(ends) - memory > retries:
        return None
    return Again(memory > 0, memory > 1)


def note(trial: Path, word: str, detail: str) -> None:
    """Tell the trial's history how its newest attempt ended, which couldn't do so itself."""
    with locked(trial / "lock", wait=True):
        lease.note(trial, max([0, *lease.attempts(trial)]), word, detail)


def count(trial: Path, how: str | None, hung_s: float | None) -> list[dict[str, Any]]:
    """The history of a trial, with how it has just ended where that is a failure; [] where it is none.
    hung_s: without progress, until it was killed."""
    if how in ("pre-empted", "disk full"):
        return []
    if hung_s is not None:
        note(trial, "timed out", f"no progress for {hung_s:.0f} s")
    elif how not in ("out of memory", "crashed"):  # which it noted itself
        note(trial, "crashed", how or "it returned without a result")
    return lease.history(trial)


def given_up(asked: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """The failed result of a trial that was asked for so, and has used up its tries."""
    return {
        "schema": SCHEMA,
        **asked,
        "status": "failed",
        "failure": history[-1]["end"],
        "error": told(history),
        "history": history,
        "metrics": {},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def retriable(result: dict[str, Any] | None) -> bool:
    """Whether `--retry-failed` runs it again: it failed, and would not diverge once more."""
    return result is not None and result["status"] == "failed" and result.get("failure") != "diverged"


def told(history: list[dict[str, Any]]) -> str:
    """What a failed result of this history has for its error."""
    counts = Counter(end["end"] for end in history)
    times = ", ".join(end if n == 1 else f"{end} {n} times" for end, n in counts.items())
    return f"{times}{', last' if len(history) > 1 else ''}: {history[-1]['detail']}"


def unsearched(why: str) -> list[dict[str, Any]]:
    """The history of a cell whose study ended without a choice."""
    return [{"end": "search", "detail": why}]


def word(error: Exception) -> str:
    """For what a trial raised."""
    if isinstance(error, FloatingPointError):
        return "diverged"
    number, text = getattr(error, "errno", None), str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or number == errno.ENOMEM:
        return "out of memory"
    if any(name in text for name in ALLOCATORS):
        return "out of memory"
    return "crashed" if number in CROWDED or any(name in text for name in MACHINE) else "error"


def unwritable(error: BaseException | None, store: str) -> str | None:
    """Why the store can't be written to, if that is what the error comes from."""
    while error is not None:
        if isinstance(error, OSError):
            inside = error.filename is not None and str(error.filename).startswith(store)
            torn = error.errno is None and "requested and" in str(error)  # numpy's words for a full disk
            if torn:
                return "No space left on device"
            if error.errno in FULL or (error.errno in LOCKED and inside):
                return str(error.strerror)
        error = error.__cause__ or error.__context__
    return None
