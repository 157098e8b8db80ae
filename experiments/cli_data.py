"""`shapelex data`: which data sets there are, and what is in one. Heavy imports stay inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.data import DataSet


def data(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="one data set, e.g. spar or uea:NATOPS")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="draw windows of each class, a PNG here")] = False,
    window_s: Annotated[float, typer.Option(min=0.01, help="where it is not pre-cut")] = 4.0,
    overlap_frac: Annotated[float, typer.Option(min=0, max=0.99)] = 0.5,
    length: Annotated[int | None, typer.Option(min=2, help="steps to resample to")] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch a uea: set from its archive")] = False,
) -> None:
    """List the data sets, or say what is in one: NAME, uea:NAME, npz:NAME or csv:NAME.

    Raw files that you fetched are looked for in SHAPELEX_DATA (default: data).
    """
    if name is None:
        _list()
        return
    from experiments import data as sets
    from experiments.config import RunConfig

    if download and not name.startswith("uea:"):
        fail(f"--download fetches uea: sets alone: `shapelex data` says where {name} comes from")
    try:
        entry = _entry(name, download)
        asked: dict[str, Any] = {"name": name, "length": length or (64 if entry.kind == "series" else None)}
        if entry.kind == "recordings":
            asked |= {"window_s": window_s, "overlap_frac": overlap_frac}
        asked["split"] = "official" if entry.official else "leaky_random"  # any: nothing is split here
        config = RunConfig.model_validate({"data": asked, "baseline": "statistics"})
        sets.check(config)
        raw = entry.read(entry.files(sets.root()), config.data)
    except (OSError, ValueError) as error:
        fail(str(error))
    _describe(entry, raw, config.data, plot)


def _entry(name: str, download: bool) -> "DataSet":
    from experiments import data as sets

    try:
        return sets.entry(name)
    except FileNotFoundError:
        if not download:
            raise
    sets.archive.download(name.partition(":")[2], sets.root())
    return sets.entry(name)


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from experiments import captions
    from experiments import data as sets

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    numbers = ("Hz", "channels", "classes", "subjects")
    for column in ("name", "windows", *numbers, "bank", "from"):
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    windows = {"recordings": "cut", "series": "unequal"}
    for entry in sets.DATASETS.values():
        table.add_row(
            entry.name,
            windows.get(entry.kind, f"{entry.samples} steps"),
            "-" if entry.rate_hz is None else f"{entry.rate_hz:g}",
            str(len(entry.channels)),
            str(len(entry.classes)),
            str(entry.subjects or "-"),
            "yes" if captions.bank_path(entry.name).is_file() else "-",
            entry.origin.removeprefix("package ") if _present(entry) else "missing",
        )
    Console(markup=False, highlight=False).print(table)
    print(f"\nMissing ones are unpacked into {sets.root()}/ (or where SHAPELEX_DATA says):")
    for entry in sets.DATASETS.values():
        if not _present(entry):
            print(f"  {entry.name:<13} {entry.origin}")
    print(
        "There too: uea:NAME, any set of the UEA and UCR archives (--download fetches it);\n"
        "npz:NAME, windows of your own in NAME.npz; csv:NAME, recordings of your own in a\n"
        "folder (experiments/data/npz.py and csv_files.py say how they are laid out)."
    )


def _present(entry: "DataSet") -> bool:
    from experiments import data as sets

    try:
        return bool(entry.files(sets.root()))
    except FileNotFoundError:
        return False


def _describe(entry: "DataSet", raw: Any, config: Any, plot: bool) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    windows, people, _ = raw
    rate = entry.window_rate_hz(config)
    steps = windows.series.shape[2]
    print(
        f"{entry.name}: {len(windows.label)} windows of {len(entry.channels)} channels x {steps} steps",
        end="",
    )
    print("" if rate is None else f" ({steps / rate:.3g} s at {rate:g} Hz)")
    units = ", ".join(f"{sensor} in {unit}" for sensor, unit in entry.units.items())
    for what, text in (
        ("channels", ", ".join(entry.channels)),
        ("units", units or "not documented"),
        ("worn", entry.placement or "-"),
        ("splits", ", ".join(_splits(entry))),
        ("licence", entry.licence),
        ("cite", entry.citation),
        ("from", entry.origin),
    ):
        print(f"{what:>9}  {text}")
    subjects = sorted(people) or [-1]
    print("windows, by class and subject")
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for subject in subjects[:12]:
        table.add_column("-" if subject < 0 else str(subject), justify="right")
    table.add_column("all", justify="right")
    for y, name in enumerate(entry.classes):
        of_class = windows.subject[windows.label == y]
        counts = [str(int(np.sum(of_class == subject))) for subject in subjects[:12]]
        table.add_row(name, *counts, str(len(of_class)))
    Console(markup=False, highlight=False).print(table)
    if len(subjects) > 12:
        print(f"and {len(subjects) - 12} more subjects")
    if plot:
        from experiments.data.picture import draw

        path = Path(f"{entry.name.replace(':', '-')}.png")
        try:
            draw(entry, windows, rate, path)
        except OSError as error:
            fail(f"no picture {path}: {error.strerror or error}")
        print(f"wrote {path}")


def _splits(entry: "DataSet") -> list[str]:
    by_subject = ["subject_kfold", "leave_one_subject_out"] if entry.subjects else []
    return [*(["official"] if entry.official else []), *by_subject, "leaky_random"]
