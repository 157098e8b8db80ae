"""`shapelex ui`: MLflow's pages of a sweep. Heavy imports stay inside."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption
from experiments.fail import fail


def ui(
    sweep: Annotated[
        str | None, typer.Argument(help="its file or its name; without, the one that was mirrored last")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="or the next one that is free")] = 5000,
    browse: Annotated[bool, typer.Option("--open", help="open the page in a browser too")] = False,
) -> None:
    """Serve MLflow's UI on this machine, and say where the sweep is in it.

    It shows each variant with its mean, interval and n, what variants differ in, and their charts.
    """
    from experiments import ui

    chosen = ui.free(port)
    command, where = ui.command(store, chosen)
    name = None if sweep is None else Path(sweep).name.removesuffix(".yaml").removesuffix(".yml")
    page = ui.page(store, name)
    if sweep is not None and page is None:
        fail(f"MLflow shows no sweep {name!r} of {store}: shapelex sync brings it up to what was run", 1)
    if command is not None and chosen != port:
        print(f"Port {port} is taken: this is {chosen}.", file=sys.stderr)
    print(where + (page or ""), flush=True)
    if command is not None:
        if browse and os.fork() == 0:
            ui.browse(where + (page or ""), chosen)
            os._exit(0)
        os.execvp(command[0], command)
