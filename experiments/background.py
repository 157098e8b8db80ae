"""The MLflow mirror in a thread of its own, so that training never waits for it."""

import threading
import time
from collections import deque
from contextlib import ExitStack

from experiments.ledger import Locked
from experiments.track import CATCH_UP, Mirror, MirrorError

EVERY_S = 3.0  # between syncs while there is news
IDLE_S = 10.0  # between syncs without: curves of running trials go on
MOST_S = 60.0
POLL_S = 0.5
SHARE = 10  # a sync that took long is let rest that many times as long, at most MOST_S


class BackgroundMirror:
    """Syncs in a daemon thread, or waits for the process that mirrors this sweep already to end."""

    def __init__(self, mirror: Mirror) -> None:
        self._next: deque[Mirror] = deque()
        self._mirror, self._news, self._closing = mirror, threading.Event(), threading.Event()
        self._problem: str | None = None
        self.behind = 0  # results since the last whole sync
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Say that there is a new result."""
        self.behind += 1
        self._news.set()

    def follow(self, mirror: Mirror) -> None:
        """Mirror another plan of the sweep from now on."""
        self._next.append(mirror)
        self._news.set()

    def close(self, timeout_s: float) -> str | None:
        """One last sync; a message where MLflow is left behind the ledger, or its database was broken."""
        self._closing.set()
        self._news.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return self._problem or f"MLflow is not up to date yet. {CATCH_UP}"
        return "\n".join([*self._mirror.notes, *([self._problem] if self._problem else [])]) or None

    def _loop(self) -> None:
        self._news.wait(IDLE_S)  # not while the launch imports: MLflow and Optuna share modules
        tries = 2  # when closing: the first may meet a connection that a server has closed meanwhile
        with ExitStack() as held:
            while tries:
                last, began = self._closing.is_set(), time.monotonic()
                self._news.clear()
                if self._sync(held, last) and last:
                    return
                tries -= last and self._problem is not None
                rest = min(MOST_S, max(EVERY_S, SHARE * (time.monotonic() - began)))
                if last:
                    time.sleep(POLL_S)
                elif not self._closing.wait(rest):
                    self._news.wait(max(0.0, IDLE_S - rest))

    def _sync(self, held: ExitStack, last: bool) -> bool:
        """Whether MLflow shows what the ledger had when this was called."""
        self._problem, behind = None, self.behind
        while self._next:
            held.close()
            following = self._next.popleft()
            following.notes = [*self._mirror.notes, *following.notes]
            self._mirror = following
        try:
            if not self._mirror.held:  # from now on until the end
                held.enter_context(self._mirror.alone())
            self._mirror.sync()
        except Locked:
            return last and not self._mirror.pending()
        except MirrorError as error:
            self._problem = str(error)
        except Exception as error:  # whatever it is, it is told at the end and hurts nobody who trains
            self._problem = f"MLflow's mirror failed: {type(error).__name__}: {error}. {CATCH_UP}"
        self.behind -= behind if self._problem is None else 0
        return self._problem is None
