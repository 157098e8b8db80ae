"""`shapelex table`: of one sweep or several, of factors, classes and subjects, of the trials of a row."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, load
from experiments.fail import fail

if TYPE_CHECKING:
    import pandas as pd

    from analysis.table import Table

METRIC = "test/macro_f1"


class Rows(StrEnum):
    variants = "variants"
    factors = "factors"


class By(StrEnum):
    dataset = "dataset"
    class_ = "class"
    subject = "subject"


def table(
    files: Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="one sweep file or several")],
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="a metric of docs/metrics.md; of several, the first is tested", show_default=METRIC
        ),
    ] = None,
    rows: Annotated[
        Rows, typer.Option(help="factors: effects and interactions of a grid; what mattered in a search")
    ] = Rows.variants,
    by: Annotated[
        By | None, typer.Option(help="dataset: sweeps as columns, with a leaderboard; so are several sweeps")
    ] = None,
    explain: Annotated[str | None, typer.Option(metavar="ROW", help="the trials behind a row")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for Markdown, CSV and LaTeX")] = None,
) -> None:
    """The paper's tables, from the ledger alone."""
    asked = [f"--by {by}"] if by else []
    asked += ["--rows factors"] if rows is Rows.factors else []
    asked += ["--explain"] if explain is not None else []
    if len(asked) > 1:
        fail(f"{' and '.join(asked)} are different tables: ask for one")
    if metric and by in (By.class_, By.subject):
        fail(f"--by {by} has a score of its own: it takes no --metric")
    names: list[str] = []
    for file in files:
        sweep, ledger = load(file, store, there=True)
        names += [] if sweep.name in names else [sweep.name]
    metrics = list(dict.fromkeys(metric or [METRIC]))
    if by is By.dataset or (len(names) > 1 and not asked):
        print_datasets(names, ledger.root, metrics, out)
        return
    if explain is not None and len(names) > 1:
        fail("--explain looks into one sweep")
    for i, name in enumerate(names):
        print("\n" if i else "", end="")
        if explain is not None:
            print_trials(name, ledger.root, explain, metrics, out)
        elif by is not None:
            print_parts(name, ledger.root, by, out)
        elif rows is Rows.factors:
            print_factors(name, ledger.root, metrics, out)
        else:
            print_table(name, ledger.root, metrics, out)


def print_table(name: str, store: Path, metrics: list[str], out: Path | None) -> None:
    """The table of a sweep's variants, whose first metric is tested; into `out` also a CSV of its cells, with
    all that was measured of each."""
    from analysis import ablation_tables
    from analysis.save import text

    if not (found := _read(name, store, metrics)):
        return
    extra = metrics[1:] or ablation_tables.EXTRA
    _show(ablation_tables.build(*found, metrics[0], extra), out, name)
    if out is not None:
        text(path := out / f"{name}-cells.csv", found[0].to_csv(index=False, lineterminator="\n"))
        print(f"wrote {path}")


def print_datasets(names: list[str], store: Path, metrics: list[str], out: Path | None) -> None:
    from analysis import datasets

    found = {name: read for name in names if (read := _read(name, store, metrics))}
    sweeps = [datasets.Sweep(plan, frame) for frame, plan in found.values()]
    shown = list(found) if len(found) < 4 else [next(iter(found)), f"and-{len(found) - 1}-more"]
    for i, metric in enumerate(metrics if sweeps else []):
        print("\n" if i else "", end="")
        _show(datasets.build(sweeps, metric), out, f"{'-'.join(shown)}-by-dataset{_end(metric, i)}")


def print_parts(name: str, store: Path, by: By, out: Path | None) -> None:
    from analysis import breakdown
    from analysis import load as ledger

    if found := _read(name, store, []):
        frame, plan = found
        part: Any = str(by)
        per = ledger.per(store, name, part)
        if per.empty:
            fail(f"{name}: no done cell has values by {by}", 1)
        _show(breakdown.build(per, frame, plan, part), out, f"{name}-by-{by}")


def print_factors(name: str, store: Path, metrics: list[str], out: Path | None) -> None:
    """Effects of factors, then what mattered in searches; where there is neither, why."""
    from analysis import factors
    from analysis import load as ledger

    if not (found := _read(name, store, metrics)):
        return
    frame, plan = found
    mattered = ledger.importances(store, name)
    try:
        for i, metric in enumerate(metrics):
            print("\n" if i else "", end="")
            _show(factors.build(frame, plan, metric), out, f"{name}-factors{_end(metric, i)}")
    except factors.NoFactors as error:
        print(error)
    if mattered:
        print()
        _show(factors.importances(mattered, plan), out, f"{name}-importances")


def print_trials(name: str, store: Path, row: str, metrics: list[str], out: Path | None) -> None:
    from analysis import explain
    from analysis import load as ledger
    from experiments.mlflow_ids import run_ids
    from experiments.yamlfile import nearest

    frame, plan = ledger.frame(store, name), ledger.plan(store, name)
    known = [each["name"] for each in plan["rows"]]
    if row not in known:
        fail(f"no row '{row}' in {name}: {nearest(row, known, 3)}")
    if "done" in set(frame["status"]):
        refuse_unknown(metrics, name, frame)
    _show(explain.build(frame, plan, row, metrics, run_ids(store, name, row)), out, f"{name}-trials")


def _end(metric: str, i: int) -> str:
    """What the files of another metric than the first are named by."""
    return "-" + metric.replace("/", "-") if i else ""


def _read(name: str, store: Path, metrics: list[str]) -> "tuple[pd.DataFrame, dict[str, Any]] | None":
    """Frame and plan; None, and a line that says so, while nothing is done."""
    from analysis import load as ledger

    frame = ledger.frame(store, name)
    if "done" not in set(frame["status"]):
        print(f"{name}: no cell is done yet.")
        return None
    refuse_unknown(metrics, name, frame)
    return frame, ledger.plan(store, name)


def refuse_unknown(metrics: list[str], sweep: str, *frames: "pd.DataFrame") -> None:
    """Ends the command for a metric that no cell of these frames has."""
    from analysis.wording import AFTERWARDS
    from experiments.yamlfile import nearest

    columns = [str(name) for frame in frames for name in frame]
    numbers = [n for n in columns if "/" in n and not n.startswith(("env/", "data/", "budget/"))]
    for metric in metrics:
        if metric in numbers:
            continue
        kind = f"{metric.partition('/')[0]}/"
        if kind in AFTERWARDS and not any(name.startswith(kind) for name in numbers):
            fail(f"no metric '{metric}' in {sweep} yet: `shapelex evaluate` measures it")
        fail(f"no metric '{metric}' in {sweep}: {nearest(metric, numbers)}")


def _show(built: "Table", out: Path | None, name: str) -> None:
    from analysis.table import save

    print(built.to_markdown())
    if out is not None:
        for path in save(built, out, name):
            print(f"wrote {path}")
