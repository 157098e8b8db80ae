"""Text in columns. Rich's table takes three seconds for ten thousand lines, and cuts names to fit."""

from collections.abc import Collection, Sequence

from rich.cells import cell_len


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """`head` over `rows`, as wide as their widest cell; the columns that `right` names stand flush right."""
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    flush = [name in right for name in head]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, to_right in zip(cells, widths, flush, strict=True):
            gap = " " * (width - cell_len(cell))
            padded.append(gap + cell if to_right else cell + gap)
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, [head, *rows]))
