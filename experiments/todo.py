"""What a launch has to run: the cells that have no result, and those that are asked for again."""

from collections.abc import Callable
from dataclasses import replace

from experiments import failure, lease
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.yamlfile import nearest


def narrowed(sweep: Sweep, only: tuple[str, ...]) -> Sweep:
    """Only these rows or variants of the sweep, all where none is named. Raises ValueError for an unknown
    one."""
    known = dict.fromkeys(name for row in sweep.rows for name in (row.name, row.variant))
    for name in only:
        if name not in known:
            raise ValueError(f"no row or variant is named {name!r}: {nearest(name, list(known))}")
    rows = [row for row in sweep.rows if not only or {row.name, row.variant} & set(only)]
    names = {row.name for row in rows}
    cells = [cell for cell in sweep.cells if cell.row in names]
    searches = tuple(search for search in sweep.searches if search.row in names)
    return replace(sweep, rows=rows, cells=cells, searches=searches) if only else sweep


def unfinished(sweep: Sweep, store: Store, retry_failed: bool = False, force: bool = False) -> list[str]:
    """Signatures in the plan's order, each once; not those that a study has yet to choose. retry_failed:
    failed trials too, but for diverged ones, which would diverge again; force: all."""
    out = []
    for signature in dict.fromkeys(cell.signature for cell in sweep.cells):
        lease.settled(store.trial(signature))
        result = store.result(signature)
        if signature in sweep.waiting:
            continue
        if result is None or force or (retry_failed and failure.retriable(result)):
            out.append(signature)
    return out


def read_data(sweep: Sweep, todo: list[str], store: Store, note: Callable[[str], None]) -> None:
    """Raw files to cached windows, once, before anything trains. Raises ValueError or OSError with one line
    where they are not as they should be."""
    from experiments import data

    configs = [sweep.configs[s] for s in todo]
    wanted = {(sweep.configs[s].data, str(sweep.digests[s]["data"])): None for s in todo}
    read, unknown = set[str](), set[str]()
    for config, found in wanted:
        if config.name not in read and not data.cached_at(config, found, store.cache).is_dir():
            note(f"reading {config.name}")
            read.add(config.name)
        if not data.load_split(config, found, store.cache).about["people"]:
            unknown.add(config.name)
    for name in sorted(unknown & {config.data.name for config in configs if config.tells_wearers}):
        note(f"text.subject_info: {name} says nothing of its people, so texts gain the placement alone")
