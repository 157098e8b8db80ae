"""Views of the ledger (MLflow, Optuna's database) brought up to date in threads of their own, so that
training never waits for them."""

import threading
from typing import Any, Protocol

from experiments.track import CATCH_UP, Mirror, MirrorError


class View(Protocol):
    """What `sync` brings up to the ledger; it raises nothing but the view's own error."""

    def sync(self) -> Any: ...


class Background:
    """Syncs in a daemon thread whenever told to. error: what `sync` raises, its text for a person; late: what
    to say where it is still at work in the end."""

    def __init__(self, view: View, error: type[Exception], late: str) -> None:
        self._view, self._error, self._late = view, error, late
        self._wake, self._closing = threading.Event(), False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        self._wake.set()

    def close(self, timeout_s: float) -> str | None:
        """One last sync; the message where the view is left behind the ledger, else None."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return self._late if self._thread.is_alive() else self._problem

    def _loop(self) -> None:
        last = False
        while not last:
            self._wake.wait()
            self._wake.clear()
            last, self._problem = self._closing, None
            try:
                self._view.sync()
            except self._error as error:
                self._problem = str(error)


class BackgroundMirror(Background):
    """MLflow's."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror, MirrorError, f"MLflow is not up to date yet. {CATCH_UP}")
