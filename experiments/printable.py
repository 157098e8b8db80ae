"""Text from elsewhere (an error, a log, a name) as a terminal may be given it."""

import re

from rich.cells import cell_len

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links and other texts to the terminal
    r"|\x1b[ -/]*[0-~]?"
)


def printable(text: str) -> str:
    """One line without escape sequences and control characters; of a progress bar, what it wrote last."""
    line = text.rstrip("\r\n").rpartition("\r")[2]
    return "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", line).expandtabs(4))


def shorten(text: str, width: int) -> str:
    """At most `width` columns; what differs between names is often at their end, so the middle goes."""
    if cell_len(text) <= width:
        return text
    head, tail = list(text), list[str]()
    half = len(head) // 2
    head, tail = head[:half], head[half:]
    while cell_len("".join(head) + "".join(tail)) > max(width - 1, 0) and (head or tail):
        if len(head) > len(tail):
            head.pop()
        else:
            tail.pop(0)
    return "".join(head) + "…" + "".join(tail)


def shortened(names: list[str], width: int) -> list[str]:
    """`names` at `width` columns at most; where one is too long, the words that all begin with go first."""
    if len(names) > 1 and max(map(cell_len, names)) > width:
        words = [name.split(" ") for name in names]
        same = 0
        while all(len(w) > same + 1 and w[same] == words[0][same] for w in words):
            same += 1
        names = ["… " * (same > 0) + " ".join(w[same:]) for w in words]
    return [shorten(name, width) for name in names]
