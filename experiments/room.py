"""Room on the store's disk: where there is none, a launch pauses, and goes on once there is."""

from collections.abc import Callable

from experiments.failure import unwritable
from experiments.ledger import Store
from experiments.report import Report

LEAST = 2**20  # bytes that the disk must have before a launch goes on, doubled each time that it was in vain
MOST = 2**30


class Room:
    def __init__(self, store: Store, report: Report) -> None:
        self.store, self.report = store, report
        self.paused, self.least = False, LEAST

    def guard(self, step: Callable[[], None]) -> None:
        """Do it; where a full disk is in the way, pause. Raises what else goes wrong."""
        try:
            step()
        except OSError as error:
            if not (why := unwritable(error, str(self.store.root))):
                raise
            self.pause(why)

    def pause(self, why: str) -> None:
        if not self.paused:
            self.paused, self.least = True, min(2 * self.least, MOST)
            where = f"paused: {self.store.root} can't be written to ({why})"
            self.report.note(f"{where}; nothing is lost, and once there is room the launch goes on by itself")

    def look(self) -> None:
        if self.paused and self.store.writable(self.least):
            self.paused = False
            self.report.note("the store can be written to again: going on")

    def used(self) -> None:
        """A result was written."""
        self.least = LEAST

    @property
    def elsewhere(self) -> bool:
        """Whether it must be another disk that is full: this one had room again and again."""
        return self.least >= MOST and self.store.writable(self.least)
