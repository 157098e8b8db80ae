"""A table: numbers in full precision beside the strings that a reader sees; Markdown, CSV, LaTeX.

The same table gives the same bytes.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.save import text as save_text
from analysis.wording import MINUS, TIMES

GREEK = {  # pdflatex has none in text
    letter: unicodedata.lookup(f"GREEK {case} LETTER {letter.upper().replace('LAMBDA', 'LAMDA')}")
    for case, letters in (
        ("SMALL", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi"),
        ("SMALL", "pi rho sigma tau upsilon phi chi psi omega"),
        ("CAPITAL", "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"),
    )
    for letter in letters.split()
}
MATHS = {"≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "→": "to", "∞": "infty"}
# One pass over cells, headers, caption and notes alike; pandas' own escaping leaves captions alone.
TEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": "$<$", ">": "$>$", "±": r"$\pm$", TIMES: r"$\times$", MINUS: "$-$"}
    | {letter: rf"$\{name}$" for name, letter in GREEK.items()}
    | {sign: rf"$\{name}$" for sign, name in MATHS.items()}
)
STRANGE = re.compile(
    rf"[^\n -~\u00a0-\u017f\u2013\u2014\u2018\u2019\u201c\u201d\u2026{''.join(map(chr, TEX))}]"
)

STANDALONE = r"""\documentclass{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[a4paper,landscape,margin=15mm]{{geometry}}
\usepackage{{booktabs}}
\begin{{document}}
\input{{{name}}}
\end{{document}}
"""
Mark = Literal["bold", "underline"]
Marks = frozenset[tuple[int, int, Mark]]


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers in full precision (`numeric`: a line a row, as fractions) beside the strings a reader sees.

    `below`: tables that follow, each with the word that its files are named by.
    """

    numeric: pd.DataFrame
    caption: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    marks: Marks = frozenset()
    below: tuple[tuple[str, "Table"], ...] = ()

    def cells(self) -> tuple[list[str], list[list[str]], Marks]:
        """Header, lines of plain strings, and (line, column, "bold" | "underline") of each marked cell."""
        return list(self.header), [list(line) for line in self.body], self.marks

    def to_markdown(self) -> str:
        """Caption, pipe table, notes as a list; the tables below follow."""
        body = self._body(escape=_pipe, bold="**{}**", underline="<u>{}</u>")
        grid = _grid([[_pipe(name) for name in self.header], *body])
        notes = "\n".join(f"- {_pipe(' '.join(line.split()))}" for line in self.notes)
        parts = [_pipe(self.caption), grid, notes]
        text = "\n\n".join(part for part in parts if part) + "\n"
        return "\n".join([text, *(table.to_markdown() for _, table in self.below)])

    def to_csv(self) -> str:
        """The numbers of this table alone, in full precision."""
        return self.numeric.to_csv(lineterminator="\n")

    def to_latex(self, label: str | None = None) -> str:
        r"""Table floats for \input; the document loads booktabs. The tables below are floats of their own."""
        body = self._body(escape=tex, bold=r"\textbf{{{}}}", underline=r"\underline{{{}}}")
        for line in body:
            line[0] = "{}" + line[0] if line[0][:1] in ("[", "*") else line[0]  # else \\\\ takes it
        shown = pd.DataFrame(body, columns=[tex(name) for name in self.header])
        layout = "l" + "r" * (len(self.header) - 1)
        tabular = shown.style.hide(axis="index").to_latex(hrules=True, column_format=layout)
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(self.caption)}}}",
        ]
        lines += [rf"\label{{{label}}}"] if label else []
        lines += [tabular.rstrip("\n")]
        if self.notes:
            lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
            lines += [tex(line) + r"\par" for line in self.notes]
            lines += [r"\end{minipage}"]
        text = "\n".join([*lines, r"\end{table}"]) + "\n"
        below = [table.to_latex(f"{label}-{word}" if label else None) for word, table in self.below]
        return "\n".join([text, *below])

    def _body(self, escape: Callable[[str], str], bold: str, underline: str) -> list[list[str]]:
        styles: dict[Mark, str] = {"bold": bold, "underline": underline}
        body = [[escape(text) for text in line] for line in self.body]
        for i, j, mark in self.marks:
            body[i][j] = styles[mark].format(body[i][j])
        return body


def tex(text: str) -> str:
    """`text` as LaTeX shows it literally; what pdflatex has no letter for as its number."""
    known = re.sub(STRANGE, lambda at: f"U+{ord(at[0]):04X}", unicodedata.normalize("NFC", text))
    return re.sub("-(?=-)", "-{}", known.translate(TEX))  # two hyphens would be a dash


def _pipe(text: str) -> str:
    """`text` as Markdown shows it literally. Underscores inside of a word and brackets that make no link are
    literal already."""
    return re.sub(r"([\\`*|]|<(?=[A-Za-z/!])|\](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """A pipe table, the first column to the left, no wider than its cells (tabulate pads two more)."""
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [line[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def save(table: Table, out: Path, name: str) -> list[Path]:
    r"""Write `<name>.md`, `.csv`, `.tex` (for \input), `-standalone.tex` (compiles by itself), and a
    `<name>-<word>.csv` for each table below, each atomically."""
    contents = {
        f"{name}.md": table.to_markdown(),
        f"{name}.csv": table.to_csv(),
        f"{name}.tex": table.to_latex(label=f"tab:{name}"),
        f"{name}-standalone.tex": STANDALONE.format(name=name),
    }
    contents |= {f"{name}-{word}.csv": below.to_csv() for word, below in table.below}
    for file, content in contents.items():
        save_text(out / file, content)
    return [out / file for file in contents]
