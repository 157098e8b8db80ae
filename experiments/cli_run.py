"""`shapelex run`: launch a sweep, show how it goes, end with its table."""

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_slots import slots
from experiments.cli_sweep import (
    DEFAULT_STORE,
    StoreOption,
    SweepFile,
    elsewhere,
    load,
    no_room,
    print_failures,
)
from experiments.cli_table import METRIC, print_table
from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.execute import Executor
    from experiments.launch import Launch
    from experiments.ledger import Store
    from experiments.limits import Limits
    from experiments.plan import Sweep
    from experiments.supply import Supply


def run(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at a time; by default one a device")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="cpu (the default), or cuda:0,cuda:1; workers share them in turn")
    ] = None,
    per_gpu: Annotated[
        str | None, typer.Option(help="trials at a time on each GPU: a number, or auto, as many as fit")
    ] = None,
    executor: Annotated[str, typer.Option(help="local (a process a trial), inline, ray or slurm")] = "local",
    cluster: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="for ray and slurm, e.g. gpus=0.5; may be repeated"),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="this row or variant alone; may be repeated")] = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="start this many trials, then stop")] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="stop after this time, e.g. 90m or 2h30m: what runs keeps a checkpoint")
    ] = None,
    timeout: Annotated[str, typer.Option(help="a trial without progress for this time is hung")] = "30m",
    retries: Annotated[int, typer.Option(min=0, help="how often a crashed or hung trial is run again")] = 2,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed trials again")] = False,
    force: Annotated[bool, typer.Option("--force", help="run all cells again, done or not")] = False,
) -> None:
    """Run what is not done yet; the same command goes on after any stop."""
    from experiments import track
    from experiments.limits import Limits, seconds
    from experiments.studies import Studies
    from experiments.supply import Supply
    from experiments.todo import narrowed, read_data, unfinished

    make = slots(executor, workers, devices, per_gpu, cluster or [])
    try:
        time_s = None if time_limit is None else seconds(time_limit)
        limits = Limits(retries, max_trials, time_s, seconds(timeout))
    except ValueError as error:
        fail(f"--time-limit or --timeout {error}")
    sweep, ledger = load(file, store)
    try:
        asked = narrowed(sweep, tuple(only or ()))
    except ValueError as error:
        fail(f"--only: {error}")
    studies = Studies(asked, ledger, retry_failed) if asked.searches else None
    if studies is not None:
        studies.refresh()  # a record that was torn is whole again, though nothing is left to run
        asked = studies.sweep  # another launch may have come further since it was planned
    todo = unfinished(asked, ledger, retry_failed, force)
    left = bool(todo or (studies and (studies.open or studies.failures())))
    views_gone = not (ledger.root / "optuna.db").exists()
    if not left and not views_gone and not track.pending(ledger.root, sweep.plan()):
        print(f"{sweep.name}: nothing to do, all {len(asked.cells)} cells have their result.")
        print_failures(asked, ledger)
        print(f"shapelex table {shlex.quote(str(file))}{elsewhere(ledger)}")
        return
    if left and not ledger.writable():
        no_room(store)
    try:
        read_data(asked, todo or list(asked.configs), ledger, print)
    except (ValueError, OSError) as error:
        fail(str(error))
    supply = Supply(asked, ledger, todo, studies, lambda chosen: views.follow())
    views = Views(sweep, ledger, file, limits.trials or len(todo) + supply.left())
    _launch(supply, make if left else None, views, limits)
    try:
        views.save(views.sweep)  # this launch's plan, whatever was planned since
    except OSError as error:
        print(f"the plan could not be written: {error}", file=sys.stderr)
    print_table(sweep.name, ledger.root, [METRIC], None)
    print_failures(views.sweep, ledger)
    print(f"\nMLflow: shapelex ui{elsewhere(ledger)}")
    print(f"This table again: shapelex table {shlex.quote(str(file))}{elsewhere(ledger)}")
    if views.stopped in SIGNALS.values():
        raise typer.Exit(130)


class Views:
    """What follows the ledger while a launch runs: the screen, MLflow, Optuna's database, plan.json."""

    def __init__(self, sweep: "Sweep", store: "Store", file: Path, trials: int) -> None:
        from experiments.background import BackgroundMirror
        from experiments.optuna_view import BackgroundRecord, Record
        from experiments.screen import Screen
        from experiments.track import Mirror

        self.sweep, self.store, self.file = sweep, store, file
        self.mirror = BackgroundMirror(Mirror(store.root, sweep.plan()))
        self.record = BackgroundRecord(Record(sweep, store))
        self.screen = Screen(sweep, store, trials, lambda: self.mirror.behind)
        self.stopped: str | None = None
        self.moved = False

    def nudge(self) -> None:
        self.mirror.nudge()
        self.record.nudge()

    def follow(self) -> None:
        """A study has chosen: its cells have their signatures now. Raises OSError."""
        from experiments.studies import Studies
        from experiments.track import Mirror

        sweep = Studies(self.sweep, self.store).sweep  # all rows, where a launch has some
        if (sweep.cells, sweep.chosen) == (self.sweep.cells, self.sweep.chosen):
            return
        self.save(sweep)
        self.record.record.sweep = sweep
        self.mirror.follow(Mirror(self.store.root, sweep.plan()))
        self.screen.follow(sweep)
        self.sweep = sweep

    def save(self, sweep: "Sweep") -> None:
        """Leave its plan in the store. Raises OSError."""
        from experiments.yamlfile import FileError

        try:
            sweep.save(self.store, self.file)
        except FileError:
            if not self.moved:
                self.screen.note(f"{self.file} was moved: plan.json is left to the one where it is now")
            self.moved = True

    def close(self, patience_s: float) -> None:
        """Bring the views up to date; without patience, the next run does."""
        self.screen.close()
        if patience_s:
            self.screen.note("bringing MLflow up to date")
        problems = [view.close(patience_s) for view in (self.record, self.mirror)]
        for problem in filter(None, problems if patience_s else ()):
            print(problem, file=sys.stderr)


def _launch(supply: "Supply", make: "Callable[[], Executor] | None", views: Views, limits: "Limits") -> None:
    from experiments.node import Unfit

    patience_s = 60.0
    try:
        from experiments.code import identity
        from experiments.launch import Launch

        if make is not None:
            executor = make()
            launch = Launch(supply, executor, views.screen, views.nudge, identity(), limits)
            _listen(launch)
            summary = launch.run()
            views.stopped = summary.stopped
            views.screen.note(str(summary))
            with contextlib.suppress(OSError):
                views.follow()  # what other launches' studies chose
    except Unfit as error:
        views.screen.close()
        patience_s = 0.0
        fail(str(error), 1)
    except (KeyboardInterrupt, SystemExit):
        views.screen.close()
        print("stopped at once. The same command goes on.")
        patience_s = 0.0
        raise typer.Exit(130) from None
    finally:
        try:
            views.close(patience_s)
        except KeyboardInterrupt:
            print("MLflow and Optuna's database stay behind; the same command or `shapelex sync` goes on.")
            raise typer.Exit(130) from None


SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR2: "SIGUSR2"}


def _listen(launch: "Launch") -> None:
    """A first signal lets trials give themselves back with a checkpoint, a second ends all at once."""

    def stop(number: int, frame: Any) -> None:
        launch.stop(SIGNALS[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, stop)
