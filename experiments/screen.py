"""What a person sees of a sweep: one table that fits the terminal, live in `run`, once in `status`; plain
lines where there is no terminal."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.columns import columns
from experiments.ledger import Store
from experiments.machine import Load
from experiments.plan import Sweep
from experiments.printable import printable, shorten, shortened
from experiments.standing import STATES, Line, Standing

PLAIN_EVERY_S = 30.0
DRAW_EVERY_S = 1.0
SHARE = 0.02  # of a core, at most, that looking and drawing take
STYLE = {"done": "", "failed": "red", "running": "green", "waiting": ""}
HEAD = ("row", *STATES, "val macro-F1", "n")
ABOVE = 4  # lines of the terminal left to what scrolls by


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"


def console() -> Console:
    """Where nothing in a name is taken for markup."""
    return Console(markup=False, highlight=False, emoji=False)


class Pace:
    """When a launch will have ended, by what it did itself."""

    def __init__(self) -> None:
        self.stage: list[str] | None = None
        self.began = self.first = self.done = self.total = 0.0

    def at(self, now: float, done: float, total: float, stage: list[str]) -> None:
        """stage: what else than trials is at work; its pace says nothing of another's."""
        if stage != self.stage:
            self.stage, self.began, self.first = stage, now, done
        elif total != self.total:
            self.first += done - self.done  # others took or ended some of the work: no pace of this one
        self.done, self.total = done, total

    def left_s(self, now: float) -> float | None:
        """Seconds; None before anything moved."""
        moved = self.done - self.first
        return (now - self.began) * (self.total - self.done) / moved if moved > 0 else None


class Screen:
    """Progress counted in epochs, so that it moves while long trials run. `launch.Report` for people.

    trials: how many this launch runs. behind: how many finished cells MLflow lacks.
    """

    def __init__(
        self, sweep: Sweep, store: Store, trials: int, behind: Callable[[], int] = lambda: 0
    ) -> None:
        self.console, self.load, self.pace = console(), Load(), Pace()
        self.standing, self.behind = Standing(sweep, store), behind
        self.trials, self.ended_trials, self.own = trials, 0, 0
        self.began = self.plain_at = time.monotonic()
        self.due = 0.0
        self.live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._look()  # at every result, this once
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()

    def note(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk behind a redirected output must not end the launch
            self.console.print(printable(line), soft_wrap=True)

    def progress(self, done: float, total: float, running: list[str]) -> None:
        now = time.monotonic()
        stage = [name for name in running if name not in self.standing.cells]
        self.own = len(running) - len(stage)
        self.pace.at(now, done, total, stage)
        if self.live is not None and now >= self.due:
            self._draw(self.live, now)
            took = time.monotonic() - now
            self.due = now + min(max(DRAW_EVERY_S, took / SHARE), PLAIN_EVERY_S)
        elif self.live is None and now - self.plain_at > PLAIN_EVERY_S:
            self.plain_at = now
            self.note(f"{self._pace(now)}  running: {' '.join(running)}")

    def ended(self, name: str, result: dict[str, Any]) -> None:
        self.ended_trials += 1
        self.standing.take(result["signature"], result)
        self.trials = max(self.trials, self.ended_trials)
        name = f"{self.ended_trials:>{len(str(self.trials))}}/{self.trials}  {name}"
        if result["status"] == "done":
            score, seconds = 100 * result["metrics"]["val/macro_f1"], result["cost"]["total_s"]
            self.note(f"{name}: validation macro-F1 {score:.1f}, {seconds:.1f} s")
        else:
            self.note(f"{name}: failed: {result['error']}")

    def follow(self, sweep: Sweep) -> None:
        """The sweep as it is planned now: a study has chosen."""
        self.standing = Standing(sweep, self.standing.store)

    def close(self) -> None:
        self.load.close()
        if self.live is not None:
            self.live.stop()

    def _pace(self, now: float) -> str:
        done, total, left_s = self.pace.done, self.pace.total, self.pace.left_s(now)
        what = " ".join(self.pace.stage or []) or "epochs"
        percent = f" ({100 * done / total:.0f} %)" if total else ""
        eta = "" if left_s is None else f"   ETA {duration(left_s)}"
        return f"{what}: {done:.0f} of {total:.0f}{percent}   {duration(now - self.began)} elapsed{eta}"

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # a disk that has trouble is the launch's to tell
            self.standing.look()
            self.standing.lines()

    def _draw(self, live: Live, now: float) -> None:
        self._look()
        self.load.look(now)
        below = [self._pace(now), _machine(self.load, max(self.own, self.standing.running()), self.behind())]
        height = self.console.height - ABOVE
        live.update(drawn(self.standing, below, self.console.width, height), refresh=True)


def show(standing: Standing, searching: int, behind: int, every_row: bool) -> None:
    """Print the table once, from the ledger alone. searching: how many search trials run; every_row: however
    many rows there are."""
    out, load = console(), Load()
    load.look(0.0)
    done, total = standing.epochs()
    left_s = standing.left_s()
    eta = "" if left_s is None else f"   ETA about {duration(left_s)}"
    load.wait(1.0)
    load.close()
    below = [
        f"epochs: {done} of {total} ({100 * done / total:.0f} %){eta}",
        _machine(load, standing.running() + searching, behind),
    ]
    if not out.is_terminal:
        lines = standing.lines()
        print(columns(HEAD, _cells(lines), right=(*STATES, "n")))
        print("\n".join(_below(standing, lines, below)))
        return
    out.print(drawn(standing, below, out.width, 10**6 if every_row else out.height - ABOVE), soft_wrap=True)


def _machine(load: Load, running: int, behind: int) -> str:
    trials = f"{running} trial{'' if running == 1 else 's'} running"
    lacks = [f"MLflow {behind} cell{'' if behind == 1 else 's'} behind"] if behind else []
    return "   ".join([trials, *lacks, load.line()])


def drawn(standing: Standing, below: list[str], width: int, height: int) -> Group:
    """The table and the lines `below` it in at most `height` lines (six at least) of `width`."""
    lines = standing.lines()
    below = _below(standing, lines, below)
    shown = busiest(lines, max(1, height - len(below) - 1))
    if len(shown) < len(lines):
        shown = busiest(lines, max(1, height - len(below) - 2))
    kept = {line.name for line in shown}
    hidden = [line for line in lines if line.name not in kept]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    cells = _cells(shown)
    for name in HEAD:
        table.add_column(name, justify="right" if name in (*STATES, "n") else "left", no_wrap=True)
    taken = sum(2 + max(map(len, column)) for column in list(zip(HEAD, *cells, strict=True))[1:])
    names = shortened([row[0] for row in cells], max(8, width - taken))
    for line, name, (_, *counts, score, pairs) in zip(shown, names, cells, strict=True):
        bold = "bold" if line.best else ""
        styles = [STYLE[state] if line.counts[state] else "" for state in STATES]
        table.add_row(Text(name, bold), *map(Text, counts, styles), Text(score, bold), pairs)
    parts: list[Any] = [table]
    if hidden:
        rest = {s: sum(line.counts[s] for line in hidden) for s in STATES}
        told = ", ".join(f"{count} {s}" for s, count in rest.items() if count)
        parts.append(_one_line(f"and {len(hidden)} more row{'' if len(hidden) == 1 else 's'}: {told}", width))
    return Group(*parts, *(_one_line(line, width) for line in below))


def _below(standing: Standing, lines: list[Line], below: list[str]) -> list[str]:
    """What the table's signs mean, where it has some, and the lines below it."""
    if all(line.half is None for line in lines):
        return below
    pairs = "folds, seeds averaged" if standing.unit == "fold" else "seeds"
    return [f"± 95 % t interval, n {pairs}; * best on validation so far", *below]


def _cells(lines: list[Line]) -> list[list[str]]:
    return [
        [
            printable(line.name),
            *(str(line.counts[s] or "-") for s in STATES),
            _score(line),
            str(line.pairs or "-"),
        ]
        for line in lines
    ]


def busiest(lines: list[Line], most: int) -> list[Line]:
    """At most `most` rows, in their order: the best, then those at work, that failed, that are under way."""

    def rank(line: Line) -> tuple[Any, ...]:
        counts = line.counts
        under_way = 0 < counts["done"] < counts.total()
        return not line.best, -counts["running"], -counts["failed"], not under_way, -counts["done"]

    kept = {line.name for line in sorted(lines, key=rank)[:most]}
    return [line for line in lines if line.name in kept]


def _score(line: Line) -> str:
    if line.mean is None:
        return "-"
    half = "" if line.half is None else f" ± {100 * line.half:.1f}"
    return f"{100 * line.mean:.1f}{half}{' *' if line.best else ''}"


def _one_line(text: str, width: int) -> Text:
    return Text(text if cell_len(text) <= width else shorten(text, width), no_wrap=True)
