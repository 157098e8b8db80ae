"""What a launch shows: one live line in a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

PLAIN_EVERY_S = 30.0


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Screen:
    """Progress counted in epochs, so that it moves while long trials run. `launch.Report` for people."""

    def __init__(self, trials: int) -> None:
        self.console = Console()
        self.live = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.live.add_task("starting", total=1)
        self.live.start()
        self.began, self.first, self.total, self.eta = 0.0, 0.0, 0.0, ""
        self.trials, self.ended_trials = trials, 0
        self.last_plain = time.monotonic()

    def note(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def progress(self, done: float, total: float, running: list[str]) -> None:
        now = time.monotonic()
        if total != self.total:  # other work than before
            self.began, self.first, self.total, self.eta = now, done, total, ""
        if done > self.first:
            self.eta = f"ETA {duration((now - self.began) * (total - done) / (done - self.first))}"
        self.live.update(
            self.task, completed=done, total=total, description=f"{self.eta}  {' '.join(running)}"
        )
        if not self.console.is_terminal and now - self.last_plain > PLAIN_EVERY_S:
            self.last_plain = now
            self.note(f"{100 * done / total:.0f}%  {self.eta}  running: {' '.join(running)}")

    def ended(self, name: str, result: dict[str, Any]) -> None:
        self.ended_trials += 1
        name = f"{self.ended_trials:>{len(str(self.trials))}}/{self.trials}  {name}"
        if result["status"] == "done":
            score, seconds = 100 * result["metrics"]["val/macro_f1"], result["cost"]["total_s"]
            self.note(f"{name}: validation macro-F1 {score:.1f}, {seconds:.1f} s")
        else:
            self.note(f"{name}: failed: {result['error']}")

    def close(self) -> None:
        if not self.live.disable:  # or rich prints an empty line
            self.live.stop()
