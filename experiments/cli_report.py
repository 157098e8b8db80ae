"""`shapelex report`: a sweep as one HTML file. Heavy imports stay inside."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, SweepFile, elsewhere, load
from experiments.cli_table import METRIC, refuse_unknown
from experiments.fail import fail

if TYPE_CHECKING:
    from analysis.source import Source
    from experiments.ledger import Store


def report(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[str, typer.Option(help="a metric of docs/metrics.md")] = METRIC,
    out: Annotated[Path | None, typer.Option(help="HTML file", show_default="reports/<sweep>.html")] = None,
) -> None:
    """One HTML file that says what a sweep came to: verdict, tables, figures, codes, failures, cost, origin.

    It needs no network, no scripts and no other file. Reads the ledger; only the codes of the trial that is
    best on validation are read off its model, where that wasn't done yet.
    """
    sweep, ledger = load(file, store, there=True)

    from analysis import report as pages
    from analysis import save
    from analysis.source import Source

    source = Source(ledger.root, sweep.name, metric)
    done = int((source.frame["status"] == "done").sum())
    if done:
        refuse_unknown([metric], sweep.name, source.frame)
    coded, why = _codes(ledger, source)
    words = f"{shlex.quote(_name(file))}{elsewhere(ledger)}"
    verbs = ["run", *(["evaluate"] if pages.evaluated(source.frame) else []), "report"]
    again = [f"shapelex {verb} {shlex.quote(_name(file))}" for verb in verbs]
    again[-1] += f" --metric {shlex.quote(metric)}" if metric != METRIC else ""
    about = pages.About(
        run=f"shapelex run {words}",
        evaluate=f"shapelex evaluate {words}",
        again=tuple(again),
        files=_files(file),
        coded=coded,
        no_codes=why,
    )
    path = out or Path("reports") / f"{sweep.name}.html"
    try:
        save.text(path, pages.page(source, about, _tell))
    except OSError as error:
        fail(f"{path} can't be written ({error.strerror})", 1)
    print(f"wrote {path}  {path.stat().st_size / 1e6:.1f} MB, {done} of {len(source.frame)} cells done")


def _tell(line: str) -> None:
    print(f"report: {line}", file=sys.stderr, flush=True)


def _codes(ledger: "Store", source: "Source") -> tuple[tuple[str, str] | None, str]:
    """Row and trial whose codes are there to be shown, or why there are none."""
    from analysis import choice, lexicon

    best = choice.best_coded(source.frame, source.plan["unit"], source.rows)
    if best is None:
        return None, source.no_codes
    _tell(f"codes of {best[0]}, trial {best[1]}")
    from experiments import lexicon as maker

    try:
        maker.of(ledger, best[1])
        lexicon.read(ledger.root, best[1])
    except (OSError, ValueError) as error:
        return None, f"the codes of {best[0]}, trial {best[1]}, can't be read: {error}"
    return best, ""


def _files(file: Path) -> dict[str, str]:
    """The sweep file and its base, by their names, as they are now."""
    from experiments import yamlfile

    found = {file.name: file.read_text(encoding="utf-8")}
    base = yamlfile.read(file).data.get("base")
    if isinstance(base, str):
        found[base] = (file.parent / base).read_text(encoding="utf-8")
    return found


def _name(file: Path) -> str:
    """The file as a command names it: a path of this machine says nothing elsewhere."""
    return file.name if file.is_absolute() else str(file)
