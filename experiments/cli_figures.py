"""`shapelex figures`: every figure that a ledger can give. Heavy imports stay inside."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, load
from experiments.fail import fail

Sweeps = Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="sweep files, e.g. sweeps/quick.yaml")]
MANY_CELLS = 1000


def figures(
    files: Sweeps,
    store: StoreOption = DEFAULT_STORE,
    metric: Annotated[str, typer.Option(help="a metric of docs/metrics.md")] = "test/macro_f1",
    only: Annotated[list[str] | None, typer.Option(help="this figure alone; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="folder; by default figures/SWEEP")] = None,
) -> None:
    """The paper's figures as PDF and PNG, from the ledger alone.

    Of several sweeps, each has its folder, and the ranks of rows over their data sets are drawn as well.
    """
    planned = [load(file, store, there=True) for file in files]
    names = [sweep.name for sweep, _ in planned]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        fail(f"{', '.join(twice)}: named twice")

    from analysis.figures import FIGURES, OVER_SWEEPS, draw, draw_over, save
    from analysis.source import Drawn, Missing, Source
    from experiments.yamlfile import nearest

    for name in only or ():
        if name not in FIGURES and name not in OVER_SWEEPS:
            fail(f"--only {name}: {nearest(name, [*FIGURES, *OVER_SWEEPS])}")
    sources = [Source(ledger.root, sweep.name, metric) for sweep, ledger in planned]
    wrote, skipped = 0, []

    def show(folder: Path, name: str, found: Drawn | Missing) -> None:
        nonlocal wrote
        if isinstance(found, Missing):
            skipped.append(f"{name}: {found}")
            return
        paths = save(found, folder, name)
        wrote += len(paths)
        print(f"{paths[0]} and .png: {found.caption}", flush=True)

    for source in sources:
        folder = (out or Path("figures")) / source.sweep if len(sources) > 1 or out is None else out
        if len(source.plan["cells"]) > MANY_CELLS:
            print(f"{source.sweep}: reading {len(source.plan['cells'])} cells", file=sys.stderr)
        for name, found in draw(source, [name for name in only or FIGURES if name in FIGURES]):
            show(folder, name, found)
    for name, found in draw_over(sources, [name for name in only or OVER_SWEEPS if name in OVER_SWEEPS]):
        show(out or Path("figures"), name, found)
    for line in skipped:
        print(f"skipped {line}")
    print(f"wrote {wrote} files")
