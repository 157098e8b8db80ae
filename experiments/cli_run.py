"""`shapelex run`: launch a sweep, show how it goes, end with its table."""

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_sweep import (
    DEFAULT_STORE,
    StoreOption,
    SweepFile,
    elsewhere,
    load,
    print_failures,
    print_table,
)
from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.launch import Launch, Limits, Summary
    from experiments.ledger import Store
    from experiments.plan import Sweep


def run(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at a time; by default one a device")
    ] = None,
    devices: Annotated[str, typer.Option(help="cpu, or cuda:0,cuda:1; workers share them in turn")] = "cpu",
    executor: Annotated[str, typer.Option(help="local (a process a trial) or inline")] = "local",
    only: Annotated[list[str] | None, typer.Option(help="this row or variant alone; may be repeated")] = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="start this many trials, then stop")] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="stop after this time, e.g. 90m or 2h30m: what runs keeps a checkpoint")
    ] = None,
    timeout: Annotated[str, typer.Option(help="a trial without progress for this time is hung")] = "30m",
    retries: Annotated[int, typer.Option(min=0, help="how often a crashed or hung trial is run again")] = 2,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed trials again")] = False,
    force: Annotated[bool, typer.Option("--force", help="run all again, done or not")] = False,
) -> None:
    """Run what is not done yet; the same command goes on after any stop."""
    from experiments.execute import EXECUTORS
    from experiments.launch import Limits
    from experiments.todo import unfinished
    from experiments.yamlfile import nearest

    if executor not in EXECUTORS:
        fail(f"--executor {executor}: {nearest(executor, EXECUTORS)}")
    names = [name.strip() for name in devices.split(",")]
    if not all(re.fullmatch(r"cpu|cuda:\d+", name) for name in names):
        fail(f"--devices {devices}: expected cpu, or cuda:0,cuda:1,...")
    if executor == "inline" and max(workers or 1, len(names)) > 1:
        fail("--executor inline runs one trial at a time on one device: use local for more")
    time_s = None if time_limit is None else _seconds("--time-limit", time_limit)
    limits = Limits(retries, max_trials, time_s, _seconds("--timeout", timeout))
    sweep, ledger = load(file, store)
    try:
        todo = unfinished(sweep, ledger, tuple(only or ()), retry_failed, force)
    except ValueError as error:
        fail(f"--only: {error}")
    if todo and not ledger.writable():
        fail(f"{store} can't be written to: make room there, or name another folder with --store", 1)
    _run(sweep, ledger, file, executor, workers or len(names), names, todo, limits)


def _seconds(option: str, text: str) -> float:
    """Of e.g. 90s, 5m, 2h30m or 1d."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    total = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        fail(f"{option} {text}: expected a time, e.g. 90s, 30m or 2h30m")
    return total


def _run(
    sweep: "Sweep",
    ledger: "Store",
    file: Path,
    executor: str,
    workers: int,
    devices: list[str],
    todo: list[str],
    limits: "Limits",
) -> None:
    from experiments import track
    from experiments.background import BackgroundMirror
    from experiments.code import identity
    from experiments.todo import read_data

    planned = sweep.plan()
    if not todo and not track.pending(ledger.root, planned):
        print(f"{sweep.name}: nothing to do, all {len(sweep.cells)} cells have their result.")
        print_failures(sweep, ledger)
        print(f"shapelex table {file}{elsewhere(ledger)}")
        return

    from experiments.execute import EXECUTORS
    from experiments.launch import Launch
    from experiments.screen import Screen

    try:
        read_data(sweep, todo, ledger, print)
    except (ValueError, OSError) as error:
        fail(str(error))
    mirror = BackgroundMirror(track.Mirror(ledger.root, planned))
    screen = Screen(sweep, ledger, len(todo[: limits.trials]), lambda: mirror.behind)
    try:
        if todo:
            made = EXECUTORS[executor](workers, devices)
            launch = Launch(sweep, ledger, made, screen, mirror.nudge, identity(), limits)
            _listen(launch, executor)
            screen.note(_said(launch.run(todo)))
    except (KeyboardInterrupt, SystemExit):
        screen.close()
        print("stopped at once. The same command goes on.")
        raise typer.Exit(130) from None
    finally:
        screen.note("bringing MLflow up to date")
        problem = mirror.close(timeout_s=60)
        screen.close()
        if problem:
            print(problem, file=sys.stderr)
    sweep.save(ledger, file)  # this launch's plan, whatever was planned since
    print_table(sweep.name, ledger.root, "test/macro_f1", None)
    print_failures(sweep, ledger)
    print(f"\nMLflow: shapelex ui{elsewhere(ledger)}")
    print(f"This table again: shapelex table {file}{elsewhere(ledger)}")
    if todo and launch.stopped in SIGNALS.values():
        raise typer.Exit(130)


SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR2: "SIGUSR2"}


def _listen(launch: "Launch", executor: str) -> None:
    """A first signal lets trials give themselves back with a checkpoint, a second ends all at once."""

    def stop(number: int, frame: Any) -> None:
        if executor == "inline":  # the trial runs in this very process
            raise KeyboardInterrupt
        launch.stop(SIGNALS[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, stop)


def _said(summary: "Summary") -> str:
    line = f"{summary.done} done, {summary.failed} failed in {summary.seconds:.0f} s"
    if summary.overhead_s is not None:
        line += f"; median cost a trial outside training and evaluation {summary.overhead_s:.2f} s"
    if summary.stopped is not None:
        line += f"; stopped: {summary.stopped}. The same command goes on"
    return line
