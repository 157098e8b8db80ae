"""`shapelex figures`: every figure that a ledger can give. Heavy imports stay inside."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, load
from experiments.cli_table import METRIC, refuse_unknown
from experiments.fail import fail

if TYPE_CHECKING:
    from analysis.source import Drawn, Missing

Sweeps = Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="sweep files, e.g. sweeps/quick.yaml")]
MANY_CELLS = 1000
FOLDER = Path("figures")


def figures(
    files: Sweeps,
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[str, typer.Option(help="a metric of docs/metrics.md")] = METRIC,
    only: Annotated[list[str] | None, typer.Option(help="this figure alone; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="folder; by default figures/SWEEP")] = None,
) -> None:
    """The paper's figures as PDF and PNG, with their captions, from the ledger alone.

    Of several sweeps, each has its folder, and rows are ranked over their data sets.
    """
    planned = {sweep.name: ledger for sweep, ledger in (load(file, store, there=True) for file in files)}

    from analysis.figures import FIGURES, OVER_SWEEPS, draw, draw_over
    from analysis.source import Source
    from experiments.yamlfile import nearest

    known = [*FIGURES, *OVER_SWEEPS]
    for name in only or ():
        if name not in known:
            fail(f"--only {name}: {nearest(name, known)}")
    asked = dict.fromkeys(only or known)
    sources = [Source(ledger.root, name, metric) for name, ledger in planned.items()]
    if not any(metric in source.frame for source in sources):
        if all("done" not in set(source.frame["status"]) for source in sources):
            print(f"{', '.join(planned)}: no cell is done yet.")
            return
        refuse_unknown([metric], ", ".join(planned), *(source.frame for source in sources))
    top = out or FOLDER
    for source in sources:
        pages = Pages(top if out is not None and len(sources) == 1 else top / source.sweep)
        if len(source.plan["cells"]) > MANY_CELLS:
            print(f"{source.sweep}: {len(source.plan['cells'])} cells to read", file=sys.stderr)
        for name, found in draw(source, [name for name in FIGURES if name in asked]):
            pages.add(name, found)
        if len(sources) > 1:
            pages.close()
    if len(sources) > 1:
        pages = Pages(top)
    for name, found in draw_over(sources, [name for name in OVER_SWEEPS if name in asked]):
        pages.add(name, found)
    pages.close()


class Pages:
    """One folder of figures: says what is drawn as it goes, and in the end what is not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.captions: dict[str, str] = {}
        self.skipped: dict[str, list[str]] = {}

    def add(self, name: str, found: "Drawn | Missing") -> None:
        from analysis.figures import save
        from analysis.source import Missing

        if isinstance(found, Missing):
            self.skipped.setdefault(str(found), []).append(name)
            return
        try:
            save(found, self.folder, name)
        except OSError as error:
            fail(f"{self.folder} can't be written to ({error.strerror})", 1)
        self.captions[name] = found.caption
        print(f"{self.folder / name}.pdf .png  {found.caption.split('. ')[0]}.", flush=True)

    def close(self) -> None:
        """Leave the captions beside the figures, and say which figures there are none of."""
        from analysis.figures import save_captions

        if self.captions:
            print(f"{save_captions(self.captions, self.folder)}  what n is, and what it allows one to say")
        for why, names in self.skipped.items():
            print(f"no {', '.join(names)}: {why}")
