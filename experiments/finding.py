"""What `shapelex doctor` finds: good, to be looked at, or broken, and what to do."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """todo: "" where there is nothing to do."""

    mark: Literal["ok", "look", "broken"]
    what: str
    todo: str = ""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def look(what: str, todo: str) -> Finding:
    return Finding("look", what, todo)


def broken(what: str, todo: str) -> Finding:
    return Finding("broken", what, todo)


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def amount(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
