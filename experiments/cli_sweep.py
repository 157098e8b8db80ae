"""What the verbs on a sweep share: its file, its store, its searches."""

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.ledger import Store
    from experiments.plan import Sweep
    from experiments.studies import Studies

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="sweep file, e.g. sweeps/quick.yaml")]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="SHAPELEX_STORE", help="folder that holds everything that was run")
]
DEFAULT_STORE = Path("runs")


def load(file: Path, store: Path, there: bool = False) -> "tuple[Sweep, Store]":
    """Plan the sweep and leave its plan in the store; a bad file ends here with one line and status 2. there:
    the store must be there already."""
    from experiments import sweep
    from experiments.ledger import Store
    from experiments.yamlfile import FileError

    ledger = Store(store)
    if there and not store.is_dir():
        with TemporaryDirectory() as folder:
            load(file, Path(folder))  # a bad file is to be told of first
        fail(f"there is no store at {store} yet: `shapelex run` makes one", 1)
    try:
        planned = sweep.load(file, ledger)
    except (FileError, OSError) as error:
        fail(str(error))
    try:
        planned.save(ledger, file)
    except FileError as error:
        fail(str(error))
    except OSError as error:
        no_room(store, error)
    return planned, ledger


def no_room(store: Path, error: OSError | None = None) -> NoReturn:
    why = "" if error is None else f" ({error.strerror})"
    fail(f"{store} can't be written to{why}: make room there, or name another folder with --store", 1)


def elsewhere(ledger: "Store") -> str:
    """What a command needs to find a store that isn't the default one."""
    return "" if ledger.root == DEFAULT_STORE else f" --store {shlex.quote(str(ledger.root))}"


def print_failures(sweep: "Sweep", ledger: "Store") -> None:
    from experiments import postmortem
    from experiments.standing import Standing
    from experiments.studies import Studies

    standing = Standing(sweep, ledger)
    standing.look()
    for line in postmortem.failed(standing, Studies(sweep, ledger), every=False):
        print(line)


def print_search(studies: "Studies") -> None:
    """How far the sweep's studies are, where it has some."""
    if not studies.studies:
        return
    tried, at_work = studies.counts(), studies.at_work()
    counts = {name: tried[name] for name in ("complete", "pruned", "failed")}
    counts |= {"running": at_work, "asked": tried["running"] - at_work}
    said = [f"{count} {word}" for word, count in counts.items() if count]
    print(f"search trials: {', '.join([*said, str(tried['waiting'])])} not asked yet")
