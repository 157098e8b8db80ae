"""Everything that a launch builds on, looked at before it breaks: versions, store, disk, GPUs, limits, clock,
leases, databases, caches. It changes nothing but a probe in the store, which it removes."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from experiments import doctor_machine, doctor_nodes, doctor_records, doctor_store
from experiments.execute import Executor
from experiments.finding import Finding, broken, one_line
from experiments.ledger import Store

Cluster = tuple[Callable[[], Executor], int | None]


def findings(store: Path, devices: list[str], cluster: Cluster | None = None) -> Iterator[Finding]:
    """One after another, as they are found; a check that fails is itself a finding. cluster: what makes its
    executor, and how many slots are to be asked."""
    gpus = doctor_machine.Devices(devices)  # they answer while the rest is looked at
    try:
        yield from _checked("versions", doctor_machine.versions)
        yield from _checked("store", partial(doctor_store.place, store))
        here = doctor_store.nearest(store)
        if here is not None:
            yield from _checked("file system", partial(doctor_store.system, here))
            yield from _checked("disk", partial(doctor_store.room, store, here))
            yield from _checked("temporary files", partial(doctor_store.leftovers, store))
            yield from _checked("clock", partial(doctor_machine.clock, here))
            yield from _checked("leases", partial(doctor_records.leases, Store(store)))
            yield from _checked("MLflow", partial(doctor_records.mlflow, store))
            yield from _checked("Optuna", partial(doctor_records.optuna, store))
            yield from _checked("cache", partial(doctor_records.caches, Store(store).cache))
        yield from _checked("limits", doctor_machine.limits)
        yield from _checked("devices", gpus.findings)
        if cluster is not None:
            yield from _checked("cluster", partial(doctor_nodes.nodes, store, *cluster))
    finally:
        gpus.close()


def _checked(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield broken(
            f"{name} could not be looked at: {one_line(error)}", "this is a fault of doctor's: report it"
        )
