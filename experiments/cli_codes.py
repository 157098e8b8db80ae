"""`shapelex codes`: what a trial's codes mean. Heavy imports stay inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, load
from experiments.fail import fail

if TYPE_CHECKING:
    import pandas as pd

    from experiments.ledger import Store

SHOWN = 12  # codes that the terminal gets


def codes(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="signature or its first digits, or a sweep")],
    store: StoreOption = DEFAULT_STORE,
    row: Annotated[str | None, typer.Option(help="of the sweep; default: the best on validation")] = None,
    out: Annotated[Path, typer.Option(help="folder for the page and the CSV")] = Path("codes"),
) -> None:
    """What each code of a trial means: a page of codes and of windows read out by them, and a CSV.

    A sweep file stands for its trial that is best on validation. Names come from training windows and the
    texts that these saw; shares, examples and measures are of held-out windows.
    """
    from experiments.ledger import Store

    if trial.endswith((".yaml", ".yml")):
        sweep, ledger = load(Path(trial), store, there=True)
        signature, title = _best(ledger, sweep.name, row)
    else:
        if row is not None:
            fail("--row is of a sweep: give a sweep file in place of a signature")
        ledger = Store(store)
        signature = _signature(ledger, trial)
        title = signature
    from experiments import lexicon, meaning

    try:
        made = lexicon.of(ledger, signature)
    except (OSError, ValueError) as error:
        fail(str(error), 1)
    from analysis import codes as dictionary
    from analysis import codes_page, save
    from analysis import lexicon as kept

    numbers, found = meaning.measure(made), kept.read(ledger.root, signature)
    about = {"title": f"What the codes of {title} mean", "lines": [f"Trial {signature}."], "numbers": numbers}
    table = dictionary.table(found)
    try:
        save.text(out / f"{signature}.html", codes_page.page(found, about))
        save.text(out / f"{signature}.csv", table.to_csv(lineterminator="\n"))
    except OSError as error:
        fail(f"{out} can't be written to ({error.strerror})", 1)
    print(_short(table))
    for name, value in numbers.items():
        print(f"{name:26} {value:.3g}")
    for ending in ("html", "csv"):
        print(f"wrote {out / signature}.{ending}")


def _signature(ledger: "Store", digits: str) -> str:
    """The one trial whose signature begins so."""
    folder = ledger.root / "trials"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [name for name in names if name.startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        fail(f"{len(found)} trials begin with '{digits}': {', '.join(found[:4])}{', ...' * (len(found) > 4)}")
    fail(f"no trial of {ledger.root} begins with '{digits}': `shapelex plan SWEEP` lists signatures")


def _best(ledger: "Store", sweep: str, row: str | None) -> tuple[str, str]:
    """Signature and title of the sweep's trial that is best on validation among those with codes."""
    from analysis import choice
    from analysis import load as read
    from experiments.yamlfile import nearest

    frame, plan = read.frame(ledger.root, sweep), read.plan(ledger.root, sweep)
    rows = [str(each["name"]) for each in plan["rows"]]
    if row is not None and row not in rows:
        fail(f"no row '{row}' in {sweep}: {nearest(row, rows, 3)}")
    found = choice.best_coded(frame, plan["unit"], rows if row is None else [row])
    if found is None:
        fail(f"{sweep}: no done trial{'' if row is None else f' of {row}'} has codes yet", 1)
    return found[1], f"{found[0]} in {sweep}"


def _short(table: "pd.DataFrame") -> str:
    from experiments.columns import columns

    rows = []
    for n, row in table[table["tokens"] > 0].head(SHOWN).iterrows():
        place = (
            f"{100 * row['share']:.1f}",
            str(row["series"]),
            f"{row['start']:.2f}",
            f"{row['length']:.2f}",
        )
        name = str(row["name"])
        p = "-" if name == "-" else f"{row['p']:.2f}"
        rows.append((str(n), *place, name, p, f"{row['gain']:+.3f}"))
    head = ("code", "% of tokens", "mostly on", "start", "length", "name", "p", "adds")
    return columns(head, rows, right=("code", "% of tokens", "start", "length", "p", "adds"))
