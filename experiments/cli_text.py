"""`shapelex text`: banks of label texts, made by a language model and checked. Heavy imports stay inside."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.bank_check import Bank, Separation, Similarity

text = typer.Typer(
    help="Banks of label texts: write one with a language model, check one.", no_args_is_help=True
)
PLACEMENT = "a motion sensor on the body"


@text.command()
def make(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a data set's name, e.g. spar")],
    llm: Annotated[str, typer.Option(help="hf:FOLDER_OR_ID, or openai:BASE_URL (key from OPENAI_API_KEY)")],
    source: Annotated[str, typer.Option(help="what the text is made from: label")] = "label",
    model: Annotated[str | None, typer.Option(help="the server's model, where it has several")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="the bank; by default banks/DATASET-MODEL.yaml beside the data, where text.bank looks"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the answers")] = 0,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=64, help="longest answer; by default 1000 with hf:, 4096 with a server"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a bank")] = False,
) -> None:
    """Write a bank with a language model; the same command goes on after any stop."""
    from rich.console import Console

    from experiments import captions, data, writer
    from experiments.ledger import Locked
    from experiments.llm import Unavailable, open_client
    from experiments.yamlfile import FileError

    try:
        entry = data.entry(dataset)
    except (ValueError, OSError) as error:
        fail(str(error))
    if source != "label":
        fail(f"--source {source}: a language model writes from labels, choose label")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        if out is not None:
            writer.refuse_existing(out, force)  # before a model is loaded
        named = writer.meanings(dataset, entry.classes)
        console.print(f"{len(named)} classes: {', '.join(named.values())}\nopening the model")
        client = open_client(llm, model, max_tokens)
        name = f"{dataset.rpartition(':')[2]}-{_slug(client.name)}"
        out = out or captions.bank_path(dataset, name)
        console.print(f"{client.name} writes {out}")
        placement = entry.placement or PLACEMENT
        outcome = writer.make(dataset, named, placement, client, out, seed, console.print, force)
    except FileExistsError as error:
        fail(str(error))
    except Locked as holder:
        fail(f"another run ({holder}) writes {out}: wait for it, or choose another --out", 1)
    except (FileError, OSError, Unavailable) as error:
        fail(f"{error}{_kept(out)}", 1)
    except KeyboardInterrupt:
        fail(f"stopped{_kept(out)}", 130)
    console.print(f"{outcome.asked} answers asked for, {outcome.rejected} rejected")
    for name, reason in outcome.failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if outcome.bank is None:
        fail(f"no bank written: {len(outcome.failed)} of {len(named)} classes lack texts{_kept(out)}", 1)
    known = captions.bank_path(dataset, out.stem)
    copied = "" if out.resolve() == known.resolve() else f"copied to {known}, "
    console.print(f"wrote {out}\nread it through, then: shapelex text check {out}")
    console.print(f"{copied}a sweep reads it as text.bank: {out.stem}")


def _kept(out: Path | None) -> str:
    from experiments.writer import partial_path

    kept = out is not None and partial_path(out).is_file()
    return f"; what was answered is in {partial_path(out)}, the same command goes on" if kept and out else ""


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.rsplit("/", 1)[-1].lower()).strip("-")[:48] or "llm"


@text.command()
def check(
    bank: Annotated[
        str,
        typer.Argument(metavar="BANK", help="a file, or the name of a bank: yours or ours, e.g. spar"),
    ],
    picture: Annotated[
        Path | None, typer.Option(help="the similarity matrix, a PNG; by default BANK-sub-actions.png here")
    ] = None,
) -> None:
    """Report every fault of a bank, what its wording alone tells apart, and phrases that may mean the same.

    Status 1 where there are errors, 0 with warnings.
    """
    from experiments import bank_check
    from experiments.yamlfile import FileError

    path = _bank_file(bank)
    picture = picture or Path(f"{path.stem}-sub-actions.png")
    if picture.suffix != ".png" or not picture.parent.is_dir():  # before seconds of work
        fail(f"--picture {picture}: a .png in a folder that is there")
    try:
        found = bank_check.examine(path)
    except FileError as error:
        fail(str(error))
    for finding in found.findings:
        print(finding)
    levels = [finding.level for finding in found.findings]
    print(
        f"{path}: {levels.count('error')} errors, {levels.count('warning')} warnings; "
        f"{len(found.classes)} classes, {len(found.entries)} texts"
    )
    if found.broken:
        print("its concepts and wording are looked at once the errors are mended")
        raise typer.Exit(1)
    _print_wording(found, picture)


def _bank_file(bank: str) -> Path:
    """A file, the name of one of the user's banks, or of one that comes with us."""
    from experiments import captions
    from experiments.yamlfile import nearest

    path = Path(bank)
    if path.is_file() or path.name != bank:
        return path
    known = {
        p.stem: p for folder in (captions.BANKS, captions.own_banks()) for p in sorted(folder.glob("*.yaml"))
    }
    if bank not in known:
        fail(f"no bank '{bank}': {nearest(bank, [*known, *(p.name for p in Path().glob('*.yaml'))])}")
    return known[bank]


def _print_wording(found: "Bank", picture: Path) -> None:
    from experiments import bank_check, bank_picture

    vectors = bank_check.embed([entry.text for entry in found.entries])
    told: dict[str, Separation] = {}
    for name, forms in bank_check.SPOKEN.items():
        rows = [i for i, entry in enumerate(found.entries) if entry.form in forms]
        try:
            told[name] = bank_check.separation(vectors[rows], [found.entries[i].label for i in rows])
        except ValueError as error:
            print(f"{name}: {error}")
    if told:
        _print_separation(found, told)
    rows = [i for i, entry in enumerate(found.entries) if entry.form == "sub_actions"]
    likeness = bank_check.similarity([found.entries[i] for i in rows], vectors[rows], found.groups)
    _print_merges(likeness)
    try:
        bank_picture.draw(likeness, picture)
    except OSError as error:
        fail(f"no picture {picture}: {error.strerror or error}")
    print(f"wrote {picture}")


def _print_separation(found: "Bank", told: "dict[str, Separation]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("told by wording alone, %")
    for name in told:
        table.add_column(name, justify="right")
    for label in found.classes:
        table.add_row(
            label, *(f"{100 * s.recall[label]:.0f}" if label in s.recall else "-" for s in told.values())
        )
    table.add_row("mean of classes", *(f"{100 * s.macro:.1f}" for s in told.values()))
    chances = [[100 * value for value in s.chance] for s in told.values()]
    table.add_row("chance (95 %)", *(f"{mean:.1f} ({low:.0f}-{high:.0f})" for mean, low, high in chances))
    Console(markup=False, highlight=False, soft_wrap=True).print(table)
    print(
        "each text left out once, its class told by whose other texts are most like it; chance: labels\n"
        "dealt at random (statements: keyword, sentence, affirmative)"
    )
    for name, separated in told.items():
        if pairs := [f"{a} for {b} {n}x" for a, b, n in separated.confused[:5]]:
            print(f"{name}, most often taken: {', '.join(pairs)}")


def _print_merges(likeness: "Similarity") -> None:
    from experiments.bank_check import MERGE_COSINE

    made = sum(merge.done for merge in likeness.merges)
    print(
        f"{len(likeness.merges)} proposed merges of sub-actions, cosine of {MERGE_COSINE} and above, {made} "
        "made already; likeness also joins opposites, so read each before it goes into `concepts`:"
    )
    for merge in likeness.merges:
        phrases = [likeness.phrases[row] for row in merge.rows]
        quoted = " | ".join(f"{phrase.text} ({phrase.label})" for phrase in phrases)
        marks = ["made already"] if merge.done else [f"opposites? {pair}" for pair in merge.opposite]
        print(f"  {merge.cosine:.2f}  {quoted}" + (f"  [{', '.join(marks)}]" if marks else ""))
