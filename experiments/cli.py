"""The command line: every verb of `shapelex`. Heavy imports stay inside the verbs."""

import shlex
from collections import Counter
from typing import Annotated

import typer

from experiments.cli_codes import codes
from experiments.cli_data import data
from experiments.cli_doctor import doctor
from experiments.cli_evaluate import evaluate
from experiments.cli_figures import figures
from experiments.cli_report import report
from experiments.cli_run import run
from experiments.cli_sweep import (
    DEFAULT_STORE,
    StoreOption,
    SweepFile,
    elsewhere,
    load,
    print_search,
)
from experiments.cli_sync import sync
from experiments.cli_table import table
from experiments.cli_text import text
from experiments.cli_ui import ui
from experiments.fail import fail

app = typer.Typer(
    name="shapelex",
    help="Ablations of a text-guided VQShape: a YAML sweep in, the paper's table out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def plan(file: SweepFile, store: StoreOption = DEFAULT_STORE) -> None:
    """Print every cell of a sweep, and which are done, without running anything."""
    from experiments.columns import columns
    from experiments.studies import Studies

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
    print_search(Studies(sweep, ledger))


def status(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    every: Annotated[bool, typer.Option("--all", help="every row, and every failure on its own")] = False,
) -> None:
    """How far a sweep is, and why what failed failed."""
    from experiments import postmortem, screen, track
    from experiments.standing import STATES, Standing
    from experiments.studies import Studies

    sweep, ledger = load(file, store, there=True)
    standing, studies = Standing(sweep, ledger), Studies(sweep, ledger)
    try:
        standing.look()
    except OSError as error:
        fail(f"{ledger.root} can't be read: {error}", 1)
    behind = len(track.pending(ledger.root, sweep.plan()))
    screen.show(standing, studies.at_work(), behind, every)
    counts = standing.counts()
    shown = [s for s in STATES if counts[s] or s != "running"]
    print(", ".join(f"{counts[s]} {s}" for s in shown) + f" of {len(sweep.cells)} cells")
    print_search(studies)
    if behind:
        cells = "1 cell" if behind == 1 else f"{behind} cells"
        print(f"MLflow is {cells} behind: shapelex sync {shlex.quote(str(file))}{elsewhere(ledger)}")
    for line in [*postmortem.failed(standing, studies, every), *postmortem.waiting(standing)]:
        print(line)


for verb in (plan, run, status, table, evaluate, figures, codes, report, sync, ui, doctor, data):
    app.command()(verb)
app.add_typer(text, name="text")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
