"""The MLflow mirror in a thread of its own, so that training never waits for it."""

import threading

from experiments.track import CATCH_UP, Mirror, MirrorError


class BackgroundMirror:
    """Syncs in a daemon thread whenever told to."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror, self._wake, self._closing = mirror, threading.Event(), False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        self._wake.set()

    def close(self, timeout_s: float) -> str | None:
        """One last sync; the message where MLflow is left behind the ledger, else None."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return f"MLflow is not up to date yet. {CATCH_UP}" if self._thread.is_alive() else self._problem

    def _loop(self) -> None:
        last = False
        while not last:
            self._wake.wait()
            self._wake.clear()
            last, self._problem = self._closing, None
            try:
                self._mirror.sync()
            except MirrorError as error:
                self._problem = str(error)
