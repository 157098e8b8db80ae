"""`shapelex doctor`: what is wrong with this machine or this store, and what to do."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from experiments.fail import fail


def doctor(
    store: Annotated[
        Path,
        typer.Option("--store", envvar="SHAPELEX_STORE", help="folder that holds everything that was run"),
    ] = Path("runs"),
    devices: Annotated[str, typer.Option(help="those that you would run on: cpu, or cuda:0,cuda:1")] = "cpu",
    executor: Annotated[str, typer.Option(help="ray or slurm: its machines are asked too")] = "local",
    cluster: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="as `run` takes it; may be repeated")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="slots of the cluster to ask, 8 by default")
    ] = None,
) -> None:
    """Check versions, store, disk, GPUs, limits, leases, databases, caches; status 1 if one is broken."""
    from experiments.cli_slots import device_names, slots
    from experiments.doctor import findings
    from experiments.printable import printable

    names = device_names(devices)
    counts = Counter[str]()
    on = None
    if executor != "local" or cluster:
        on = slots(executor, workers, None, None, cluster or []), workers
    elif workers:
        fail("--workers is how many slots of a cluster are asked: --executor ray or slurm")
    for found in findings(store, names, on):
        counts[found.mark] += 1
        print(f"{found.mark:<7} {printable(found.what)}", flush=True)
        if found.todo:
            print(f"        -> {printable(found.todo)}")
    print(f"{counts['ok']} ok, {counts['look']} to look at, {counts['broken']} broken")
    if counts["broken"]:
        raise typer.Exit(1)
