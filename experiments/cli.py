"""The command line: plan, run, status, table, ui. Heavy imports stay inside the verbs."""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_data import data
from experiments.cli_sync import sync
from experiments.cli_text import text
from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.ledger import Store
    from experiments.plan import Sweep

app = typer.Typer(
    name="shapelex",
    help="Ablations of a text-guided VQShape: a YAML sweep in, the paper's table out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(data)
app.command()(sync)
app.add_typer(text, name="text")

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="sweep file, e.g. sweeps/quick.yaml")]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="SHAPELEX_STORE", help="folder that holds everything that was run")
]
DEFAULT_STORE = Path("runs")


def _load(file: Path, store: Path) -> "tuple[Sweep, Store]":
    """Plan the sweep and leave its plan in the store; a bad file ends here with one line and status 2."""
    from experiments.ledger import Store
    from experiments.sweep import load
    from experiments.yamlfile import FileError

    ledger = Store(store)
    try:
        sweep = load(file, ledger)
        sweep.save(ledger, file)
    except (FileError, OSError) as error:
        fail(str(error))
    return sweep, ledger


def _state(store: "Store", signature: str) -> str:
    result = store.result(signature)
    return "waiting" if result is None else result["status"]


@app.command()
def plan(file: SweepFile, store: StoreOption = DEFAULT_STORE) -> None:
    """Print every cell of a sweep, and which are done, without running anything."""
    from rich.console import Console
    from rich.table import Table

    sweep, ledger = _load(file, store)
    table = Table(box=None, pad_edge=False)
    for name in ("row", "seed", "fold", "signature", "state"):
        table.add_column(name, justify="right" if name in ("seed", "fold") else "left")
    states = {signature: _state(ledger, signature) for signature in sweep.configs}
    for cell in sweep.cells:
        seed = "-" if cell.seed is None else str(cell.seed)
        table.add_row(cell.row, seed, str(cell.fold), cell.signature, states[cell.signature])
    Console(markup=False).print(table)
    trials = len({cell.signature for cell in sweep.cells})
    counts = Counter(states[cell.signature] for cell in sweep.cells)
    print(
        f"{len(sweep.cells)} cells, {trials} trials: "
        + ", ".join(f"{counts[state]} {state}" for state in ("done", "failed", "waiting"))
        + f". {sweep.merged} equal points merged, {sweep.excluded} excluded."
    )


@app.command()
def run(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at a time; by default one a device")
    ] = None,
    devices: Annotated[str, typer.Option(help="cpu, or cuda:0,cuda:1; workers share them in turn")] = "cpu",
    executor: Annotated[str, typer.Option(help="local (a process a trial) or inline")] = "local",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed trials again")] = False,
    max_trials: Annotated[int | None, typer.Option(min=1, help="stop after this many trials")] = None,
) -> None:
    """Run what is not done yet; the same command goes on after any stop."""
    from experiments.execute import EXECUTORS
    from experiments.ledger import Locked, locked
    from experiments.yamlfile import nearest

    if executor not in EXECUTORS:
        fail(f"--executor {executor}: {nearest(executor, EXECUTORS)}")
    names = [name.strip() for name in devices.split(",")]
    if not all(re.fullmatch(r"cpu|cuda:\d+", name) for name in names):
        fail(f"--devices {devices}: expected cpu, or cuda:0,cuda:1,...")
    if executor == "inline" and max(workers or 1, len(names)) > 1:
        fail("--executor inline runs one trial at a time on one device: use local for more")
    sweep, ledger = _load(file, store)
    try:
        with locked(ledger.root / "launch.lock", wait=False):
            _run(sweep, ledger, file, executor, workers or len(names), names, retry_failed, max_trials)
    except Locked as holder:
        fail(f"another launch ({holder}) is at work on {store}: wait for it, or use another --store", 1)


def _run(
    sweep: "Sweep",
    ledger: "Store",
    file: Path,
    executor: str,
    workers: int,
    devices: list[str],
    retry_failed: bool,
    max_trials: int | None,
) -> None:
    import signal

    from experiments import track
    from experiments.background import BackgroundMirror
    from experiments.launch import Launch, read_data, unfinished

    planned = sweep.plan()
    todo = unfinished(sweep, ledger, retry_failed)[:max_trials]
    behind = track.pending(ledger.root, planned)
    if not todo and not behind:
        print(f"{sweep.name}: nothing to do, all {len(sweep.cells)} cells have their result.")
        _print_failures(sweep, ledger)
        print(f"shapelex table {file}{_elsewhere(ledger)}")
        return

    from experiments.execute import EXECUTORS
    from experiments.screen import Screen

    try:
        read_data(sweep, todo, ledger, print)
    except (ValueError, OSError) as error:
        fail(str(error))

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    mirror = BackgroundMirror(track.Mirror(ledger.root, planned))
    screen = Screen(len(todo))
    try:
        if todo:
            launch = Launch(sweep, ledger, EXECUTORS[executor](workers, devices), screen, mirror.nudge)
            summary = launch.run(todo)
            screen.note(
                f"{summary.done} done, {summary.failed} failed in {summary.seconds:.0f} s"
                + (
                    f"; median cost a trial outside training and evaluation {summary.overhead_s:.2f} s"
                    if summary.overhead_s is not None
                    else ""
                )
            )
        else:
            from experiments.search import Study

            Study(sweep, ledger)  # a launch killed at its end may have left its last trials untold
    except (KeyboardInterrupt, SystemExit):
        screen.close()
        left = len(unfinished(sweep, ledger, retry_failed))
        print(f"stopped: {left} trials left. The same command goes on.")
        raise typer.Exit(130) from None
    finally:
        screen.note("bringing MLflow up to date")
        problem = mirror.close(timeout_s=60)
        screen.close()
        if problem:
            print(problem, file=sys.stderr)
    sweep.save(ledger, file)  # this launch's plan, whatever was planned since
    _print_table(sweep.name, ledger.root, "test/macro_f1", None)
    _print_failures(sweep, ledger)
    print(f"\nMLflow: shapelex ui{_elsewhere(ledger)}")
    print(f"This table again: shapelex table {file}{_elsewhere(ledger)}")


def _elsewhere(ledger: "Store") -> str:
    """What a command needs to find a store that isn't the default one."""
    return "" if ledger.root == DEFAULT_STORE else f" --store {ledger.root}"


def _print_failures(sweep: "Sweep", ledger: "Store") -> None:
    for cell in {cell.signature: cell for cell in sweep.cells}.values():
        result = ledger.result(cell.signature)
        if result and result["status"] == "failed":
            print(f"failed: {sweep.label(cell)}: {result['error']}")
            print(f"        {ledger.trial(cell.signature) / 'log.txt'}; run it again with --retry-failed")


@app.command()
def status(file: SweepFile, store: StoreOption = DEFAULT_STORE) -> None:
    """How far a sweep is, and why what failed failed."""
    from rich.console import Console
    from rich.table import Table

    from experiments import track

    sweep, ledger = _load(file, store)
    table = Table(box=None, pad_edge=False)
    for name in ("row", "done", "failed", "waiting", "best val macro-F1"):
        table.add_column(name, justify="left" if name == "row" else "right")
    total: Counter[str] = Counter()
    for row in sweep.rows:
        results = [ledger.result(cell.signature) for cell in sweep.cells if cell.row == row.name]
        counts = Counter("waiting" if r is None else r["status"] for r in results)
        total += counts
        best = [r["metrics"]["val/macro_f1"] for r in results if r and r["status"] == "done"]
        table.add_row(
            row.name,
            *(str(counts[s]) for s in ("done", "failed", "waiting")),
            f"{100 * max(best):.1f}" if best else "-",
        )
    Console(markup=False).print(table)
    print(
        ", ".join(f"{total[s]} {s}" for s in ("done", "failed", "waiting")) + f" of {len(sweep.cells)} cells"
    )
    behind = len(track.pending(ledger.root, sweep.plan()))
    if behind:
        print(f"MLflow lacks {behind} finished cells; the next run catches up")
    _print_failures(sweep, ledger)


@app.command()
def table(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[str, typer.Option(help="a metric of docs/metrics.md")] = "test/macro_f1",
    out: Annotated[Path | None, typer.Option(help="folder for Markdown, CSV and LaTeX")] = None,
) -> None:
    """The paper's table, from the ledger alone."""
    sweep, ledger = _load(file, store)
    _print_table(sweep.name, ledger.root, metric, out)


def _print_table(name: str, store: Path, metric: str, out: Path | None) -> None:
    from analysis import ablation_tables, load
    from experiments.yamlfile import nearest

    frame, planned = load.frame(store, name), load.plan(store, name)
    numbers = [c for c in frame.columns if "/" in c and not c.startswith(("env/", "data/"))]
    if metric not in numbers:
        if "done" not in set(frame["status"]):
            print(f"{name}: no cell is done yet.")
            return
        fail(f"no metric '{metric}': {nearest(metric, numbers)}")
    built = ablation_tables.build(frame, planned, metric=metric)
    print(built.to_markdown())
    if out is not None:
        for path in ablation_tables.save(built, out, name):
            print(f"wrote {path}")


@app.command()
def ui(
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this machine, on the right store."""
    from experiments import track

    command, hint = track.ui_command(store, port)
    print(hint, flush=True)
    if command is not None:
        os.execvp(command[0], command)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
