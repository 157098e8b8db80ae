"""Why trials failed, for a person: how, with what error, what their logs say last, and what to do."""

import os
from pathlib import Path
from typing import Any

from experiments import lease
from experiments.printable import printable
from experiments.standing import Standing
from experiments.studies import Studies

SHOWN = 5
LOG_LINES = 5
LOG_BYTES = 16_384
RETRY = "run it again with --retry-failed"
ADVICE = {
    "diverged": "it would diverge again, so --retry-failed leaves it out: try a lower train.lr",
    "out of memory": f"a smaller model or train.batch_size, or fewer --workers on its device; then {RETRY}",
    "crashed": f"its process died: memory, a person, the machine, a library; once that is gone, {RETRY}",
    "timed out": f"it hung, or this machine was too busy for its --timeout; {RETRY}",
    "search": "its trials that failed are told of below, and --retry-failed tries them again; where all were "
    "pruned, try a milder pruner",
    "error": f"its log says where; once the cause is gone, {RETRY}",
}


def failed(standing: Standing, studies: Studies, every: bool) -> list[str]:
    """Lines on the failed cells and search trials: one of each kind of failure, SHOWN at most; on each, if
    `every`."""
    sweep, store = standing.sweep, standing.store
    cells = {cell.signature: cell for cell in reversed(sweep.cells)}
    names = [s for s in standing.state if standing.state[s] == "failed"]
    found = [(sweep.label(cells[s]), standing.result[s], s) for s in names]
    alike: dict[Any, list[tuple[str, dict[str, Any], str | None]]] = {}
    for at, (label, result, signature) in enumerate([*found, *studies.failed()]):
        kind = at if every else (result.get("failure"), result.get("error"))
        alike.setdefault(kind, []).append((label, result, signature))
    groups = list(alike.values())
    shown = groups if every else groups[:SHOWN]
    lines = []
    for (label, result, signature), *others in shown:
        lines += _one(label, result, store.trial(signature) if signature else None)
        if others:
            labels = ", ".join(printable(label) for label, *_ in others[:SHOWN])
            more = "" if len(others) <= SHOWN else f" and {len(others) - SHOWN} more"
            lines.append(f"        the same error in {len(others)} more: {labels}{more}")
    if left := sum(map(len, groups[len(shown) :])):
        lines.append(f"and {left} more failed: shapelex status --all")
    return lines


def _one(label: str, result: dict[str, Any], folder: Path | None) -> list[str]:
    lines = [printable(f"failed: {label}: {result.get('error')}")]
    if folder is None:
        return lines
    word, attempt, log = result.get("failure"), result.get("attempt"), folder / "log.txt"
    what = [word] if word else []
    what += [f"attempt {attempt}"] if attempt else []
    what += [_ended(end) for end in lease.history(folder)]
    lines += [f"        {printable('; '.join(what))}"] if what else []
    lines += [f"        | {line}" for line in tail(log)]
    where = f"{log}; " if log.exists() else ""
    return [*lines, f"        {where}{ADVICE.get(word or '', RETRY)}"]


def _ended(end: dict[str, Any]) -> str:
    return f"attempt {end.get('attempt')} {end.get('end')}: {end.get('detail')}"


def waiting(standing: Standing) -> list[str]:
    """A line on each trial, SHOWN at most, that attempts left without a result and nobody works at."""
    sweep, lines = standing.sweep, []
    cells = {cell.signature: cell for cell in reversed(sweep.cells)}
    for signature in standing.left():
        ends = lease.history(standing.store.trial(signature))
        if ends:
            attempts = f"{len(ends)} attempt{'s' * (len(ends) > 1)}, the last: {_ended(ends[-1])}"
            lines.append(printable(f"to be tried again: {sweep.label(cells[signature])}: {attempts}"))
    more = [f"and {len(lines) - SHOWN} more to be tried again"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def tail(log: Path) -> list[str]:
    """The log's last LOG_LINES lines that say anything, 200 columns of each; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [shown for line in text.split("\n") if (shown := printable(line).rstrip()).strip("^~- ")]
    return [line[:200] for line in lines[-LOG_LINES:]]
