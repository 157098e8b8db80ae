"""What a launch tells a person, while it runs and in the end."""

from typing import Any, NamedTuple, Protocol


class Report(Protocol):
    """While it runs. progress: in epochs, with the rows that run."""

    def note(self, line: str) -> None: ...
    def progress(self, done: float, total: float, running: list[str]) -> None: ...
    def ended(self, name: str, result: dict[str, Any]) -> None: ...


class Summary(NamedTuple):
    """In the end. overhead_s: the median cost of a trial outside training and evaluation; stopped: why the
    launch left off."""

    done: int
    failed: int
    overhead_s: float | None
    seconds: float
    stopped: str | None

    def __str__(self) -> str:
        line = f"{self.done} done, {self.failed} failed in {self.seconds:.0f} s"
        if self.overhead_s is not None:
            line += f"; median cost a trial outside training and evaluation {self.overhead_s:.2f} s"
        if self.stopped is not None:
            line += f"; stopped: {self.stopped}. The same command goes on"
        return line
