"""How a trial can fail, each way with its word in the table, and whether it is run again.

- diverged: it met NaN; a result, never run again by itself
- error: it raised; the same code would raise again
- out of memory: again alone on its device, then with activations recomputed, never with smaller batches,
  which would change contrastive and codebook terms
- crashed (killed, or a fault of its process) and timed out (no progress): again, `retries` times

Being pre-empted and a full disk are no failures of a trial. A trial's history tells how its attempts ended.
"""

import errno
import time
from typing import Any, NamedTuple

from experiments.ledger import SCHEMA

RETRIES = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
ALLOCATORS = ("DefaultCPUAllocator: ", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


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


def given_up(asked: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """The failed result of a trial that was asked for so, and has used up its tries."""
    word, detail = history[-1]["end"], history[-1]["detail"]
    times = f" {len(history)} times, last" if len(history) > 1 else ""
    return {
        "schema": SCHEMA,
        **asked,
        "status": "failed",
        "failure": word,
        "error": f"{word}{times}: {detail}",
        "metrics": {},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def word(error: Exception) -> str:
    """For what a trial raised."""
    if isinstance(error, FloatingPointError):
        return "diverged"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    return "out of memory" if any(name in str(error) for name in ALLOCATORS) else "error"


def unwritable(error: BaseException | None, store: str) -> str | None:
    """Why the store can't be written to, if that is what the error comes from."""
    while error is not None:
        if isinstance(error, OSError):
            inside = error.filename is not None and str(error.filename).startswith(store)
            if error.errno in FULL or (error.errno in LOCKED and inside):
                return str(error.strerror)
        error = error.__cause__ or error.__context__
    return None
