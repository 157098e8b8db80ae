"""`shapelex evaluate`: what finished trials' models are asked afterwards. Heavy imports stay inside."""

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, SweepFile, elsewhere, load
from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.evaluations import Evaluations

SHOWN = "robust/noise/0.4/macro_f1"


def evaluate(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    only: Annotated[list[str] | None, typer.Option(help="a row or variant; may be given again")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="trials at a time; default: one a core")] = None,
    force: Annotated[bool, typer.Option("--force", help="evaluate all again")] = False,
) -> None:
    """Ask finished models more: noise, gain, rotation and lost samples, and what they rebuild of a class.

    Reads the test windows once more, by frozen models alone: nothing is fitted to them or chosen by them.
    The same command goes on after any stop. Status 1 where a trial could not be evaluated.
    """
    from experiments.evaluations import Evaluations
    from experiments.todo import narrowed

    sweep, ledger = load(file, store, there=True)
    try:
        asked = narrowed(sweep, tuple(only or ()))
    except ValueError as error:
        fail(f"--only: {error}")
    evaluations = Evaluations(sweep, asked, ledger, force)
    if not evaluations.todo:
        print(f"{sweep.name}: nothing to do, {evaluations.counts()}.")
        return
    try:
        _run(evaluations, workers or os.cpu_count() or 1)
    except KeyboardInterrupt:
        print(f"stopped, {evaluations.counts()}. The same command goes on.")
        raise typer.Exit(130) from None
    print(f"{sweep.name}: {evaluations.counts()}.")
    print(f"shapelex table {shlex.quote(str(file))}{elsewhere(ledger)} --metric {SHOWN}")
    if evaluations.problems:
        raise typer.Exit(1)


def _run(evaluations: "Evaluations", workers: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    from experiments.code import identity
    from experiments.local_executor import LocalExecutor
    from experiments.printable import printable
    from experiments.screen import console

    executor, out = LocalExecutor(workers, ["cpu"]), console()
    total = evaluations.steps
    shown = (BarColumn(), MofNCompleteColumn(), Elapsed(), TextColumn("elapsed, ETA"), Remaining())
    try:
        with Progress(*shown, console=out, transient=True, disable=not out.is_terminal) as bar:
            task, ended = bar.add_task("", total=total), 0

            def told(label: str, why: str | None) -> None:
                nonlocal ended
                ended += 1
                bar.advance(task)
                line = f"{ended:>{len(str(total))}}/{total}  {label}"
                out.print(printable(line if why is None else f"{line}: failed: {why}"), soft_wrap=True)

            evaluations.run(executor, identity(), told)
    finally:
        executor.close()
