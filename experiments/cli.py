"""The command line: plan, run, status, table, ui. Heavy imports stay inside the verbs."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_data import data
from experiments.cli_run import run
from experiments.cli_sweep import DEFAULT_STORE, StoreOption, SweepFile, load, print_table
from experiments.cli_text import text

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
app.command()(run)
app.command()(data)
app.add_typer(text, name="text")


@app.command()
def plan(file: SweepFile, store: StoreOption = DEFAULT_STORE) -> None:
    """Print every cell of a sweep, and which are done, without running anything."""
    from experiments.columns import columns

    sweep, ledger = load(file, store)
    states = {
        name: result["status"] if result else "waiting" for name, result in ledger.results(sweep.configs)
    }
    rows = [
        (cell.row, "-" if cell.seed is None else str(cell.seed), str(cell.fold), cell.signature, state)
        for cell in sweep.cells
        for state in [states[cell.signature]]
    ]
    print(columns(("row", "seed", "fold", "signature", "state"), rows, right=("seed", "fold")))
    counts = Counter(states[cell.signature] for cell in sweep.cells)
    print(
        f"{len(sweep.cells)} cells, {len(sweep.configs)} trials: "
        + ", ".join(f"{counts[state]} {state}" for state in ("done", "failed", "waiting"))
        + f". {sweep.merged} equal points merged, {sweep.excluded} excluded."
    )


def print_failures(sweep: "Sweep", ledger: "Store") -> None:
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

    sweep, ledger = load(file, store)
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
    print_failures(sweep, ledger)


@app.command()
def table(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[str, typer.Option(help="a metric of docs/metrics.md")] = "test/macro_f1",
    out: Annotated[Path | None, typer.Option(help="folder for Markdown, CSV and LaTeX")] = None,
) -> None:
    """The paper's table, from the ledger alone."""
    sweep, ledger = load(file, store)
    print_table(sweep.name, ledger.root, metric, out)


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
