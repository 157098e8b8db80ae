"""A sweep's table: mean and sd per row, differences to the reference, named contrasts; Markdown, CSV, LaTeX.

"Best" always means best on validation. Failed and missing cells are shown and counted. The same ledger gives
the same bytes.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis import failures, stats
from analysis.wording import (
    LABELS,
    MINUS,
    NONE,
    VALIDATION,
    formatter,
    heading,
    mean_sd,
    metric_title,
    p_value,
)

# One pass over cells, headers, caption and notes alike; pandas' own escaping leaves captions alone.
TEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": "$<$", ">": "$>$", "±": r"$\pm$", MINUS: "$-$"}
)

Mark = Literal["bold", "underline"]
Marks = frozenset[tuple[int, int, Mark]]


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers in full precision (`numeric`: a line a row, as fractions) beside the strings a reader sees."""

    numeric: pd.DataFrame
    caption: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    marks: Marks = frozenset()
    contrasts: "Table | None" = None

    def cells(self) -> tuple[list[str], list[list[str]], Marks]:
        """Header, lines of plain strings, and (line, column, "bold" | "underline") of each marked cell."""
        return list(self.header), [list(line) for line in self.body], self.marks

    def to_markdown(self) -> str:
        """Caption, pipe table, notes as a list; the contrasts follow."""
        body = self._body(escape=_pipe, bold="**{}**", underline="<u>{}</u>")
        grid = _grid([[_pipe(name) for name in self.header], *body])
        notes = "".join(f"- {line}\n" for line in self.notes)
        parts = [self.caption, grid, notes.rstrip("\n")]
        text = "\n\n".join(part for part in parts if part) + "\n"
        return text if self.contrasts is None else text + "\n" + self.contrasts.to_markdown()

    def to_csv(self) -> str:
        """The numbers of this table alone, in full precision."""
        return self.numeric.to_csv(lineterminator="\n")

    def to_latex(self, label: str | None = None) -> str:
        r"""Table floats for \input; the document loads booktabs. The contrasts follow as a second float."""
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
        below = f"{label}-contrasts" if label else None
        return text if self.contrasts is None else text + "\n" + self.contrasts.to_latex(below)

    def _body(self, escape: Callable[[str], str], bold: str, underline: str) -> list[list[str]]:
        styles: dict[Mark, str] = {"bold": bold, "underline": underline}
        body = [[escape(text) for text in line] for line in self.body]
        for i, j, mark in self.marks:
            body[i][j] = styles[mark].format(body[i][j])
        return body


def tex(text: str) -> str:
    """`text` as LaTeX shows it literally."""
    return text.translate(TEX)


def _pipe(text: str) -> str:
    """`text` as a Markdown table shows it literally."""
    return re.sub(r"([\\`*|]|<(?=[A-Za-z/!]))", r"\\\1", text)


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
    """Write `<name>.md`, `.csv`, `.tex`, and `<name>-contrasts.csv` if there are any, each atomically."""
    contents = {
        f"{name}.md": table.to_markdown(),
        f"{name}.csv": table.to_csv(),
        f"{name}.tex": table.to_latex(label=f"tab:{name}"),
    }
    if table.contrasts is not None:
        contents[f"{name}-contrasts.csv"] = table.contrasts.to_csv()
    out.mkdir(parents=True, exist_ok=True)
    for file, text in contents.items():
        partial = out / f".{file}.{os.getpid()}.tmp"
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, out / file)
    return [out / file for file in contents]


def build(
    frame: pd.DataFrame,
    plan: Mapping[str, Any],
    metric: str = "test/macro_f1",
    extra: Sequence[str] = ("test/accuracy", "test/tokens/macro_f1", "test/histogram/macro_f1"),
) -> Table:
    """The table of one sweep from load.frame and load.plan, rows in the plan's order.

    `extra` metrics show their mean only and are dropped where no row has them. Raises ValueError for a
    `metric` that no done cell has.
    """
    unit: stats.Unit = plan["unit"]
    rows = [row["name"] for row in plan["rows"]]
    numeric = stats.summary(frame, metric, unit).reindex(rows)
    counts = ["n", "done", "failed", "missing"]
    numeric[counts] = numeric[counts].fillna(0).astype("int64")
    # One column of text, not one a word: the header is then every sweep's, whatever failed in it and however.
    how = failures.by_row(frame)
    numeric.insert(numeric.columns.get_loc("failed") + 1, "failures", [how.get(row, "") for row in rows])
    numeric.insert(0, "variant", [row["variant"] for row in plan["rows"]])
    drawn = set(frame.loc[frame["seed"].notna(), "row"])
    columns = {"row": rows, "n": [str(n) for n in numeric["n"]]}
    columns[heading(metric)] = [
        mean_sd(formatter(metric), mean, sd if unit == "fold" or row in drawn else None)
        for row, mean, sd in zip(rows, numeric["mean"], numeric["sd"], strict=True)
    ]
    numeric = numeric.rename(columns={k: f"{metric}/{k}" for k in ("mean", "sd", "low", "high")})
    others = [
        name
        for name in dict.fromkeys([*extra, VALIDATION])
        if name != metric and name in frame and frame[name].notna().any()
    ]
    means = {}
    for name in others:
        numeric[f"{name}/mean"] = stats.per_pair(frame, name, unit).mean().reindex(rows)
        means[heading(name)] = [formatter(name)(value) for value in numeric[f"{name}/mean"]]
    last = {LABELS[VALIDATION]: means.pop(LABELS[VALIDATION])} if VALIDATION in others else {}
    columns |= means
    notes = stats.notes(frame, metric, unit, plan.get("split") == "leaky_random")
    if plan.get("reference") is not None:
        pairs = [(row, plan["reference"]) for row in rows]
        table, cells, p_cells = _differences(frame, metric, unit, pairs, list(numeric["n"]))
        numeric = numeric.join(table.set_index(numeric.index).add_prefix("difference/"))
        columns |= {f"vs {plan['reference']}": cells, "p": p_cells}
        if tests := table["p"].count():
            what = f"vs {plan['reference']}: mean difference with its 95 % t interval"
            notes.append(f"{what}; p: paired t test, Holm-adjusted over the {tests} of this table.")
    columns |= last
    best = numeric.get(f"{VALIDATION}/mean", pd.Series(dtype="float64"))
    marks = _best(best, column=2)
    if best.notna().any() and not marks:
        notes.append("More than two rows tie for best on validation: none is marked.")
    if numeric["failed"].any():
        columns["failed"] = [str(n) for n in numeric["failed"]]
    return Table(
        numeric=numeric,
        caption=_caption(plan, metric),
        notes=tuple(notes),
        header=tuple(columns),
        body=tuple(zip(*columns.values(), strict=True)),
        marks=marks,
        contrasts=_contrasts(frame, plan, metric) if plan.get("contrasts") else None,
    )


def _contrasts(frame: pd.DataFrame, plan: Mapping[str, Any], metric: str) -> Table:
    pairs = [(a, b) for a, b in plan["contrasts"]]
    table, cells, p_cells = _differences(frame, metric, plan["unit"], pairs)
    names = [f"{a} {MINUS} {b}" for a, b in pairs]
    return Table(
        numeric=pd.DataFrame(pairs, columns=["a", "b"]).join(table).set_index(["a", "b"]),
        caption=f"Named contrasts of {plan['sweep']}: difference in {metric_title(metric)}, "
        "with its 95 % t interval; p of the paired t test, Holm-adjusted within this table.",
        notes=(),
        header=("contrast", "difference", "p", "n"),
        body=tuple(zip(names, cells, p_cells, map(str, table["n"]), strict=True)),
    )


def _differences(
    frame: pd.DataFrame,
    metric: str,
    unit: stats.Unit,
    pairs: Sequence[tuple[str, str]],
    ns: Sequence[int] = (),
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Numbers, difference cells and p cells of a - b per pair; `ns`: the n beside which a cell will stand."""
    found = [None if a == b else stats.contrast(frame, metric, unit, a, b) for a, b in pairs]
    adjusted = stats.holm([None if d is None else d.p for d in found])
    names = ["mean", "low", "high", "p", "n", "remark"]
    table = pd.DataFrame([[getattr(d, k, None) for k in names] for d in found], columns=names)
    table = table.astype(dict.fromkeys(names[:4], "float64") | {"n": "Int64"})
    table.insert(4, "p_holm", pd.Series(adjusted, dtype="float64"))
    show = formatter(metric)
    cells = []
    for i, d in enumerate(found):
        if d is None:
            cells.append("reference")
        elif d.mean is None:
            cells.append(NONE)
        elif d.low is None or d.high is None:
            cells.append(f"{show(d.mean, True)} ({d.remark})")
        else:
            fewer = f" (n = {d.n})" if ns and d.n != ns[i] else ""
            cells.append(f"{show(d.mean, True)} [{show(d.low)}, {show(d.high)}]{fewer}")
    return table, cells, [NONE if p is None else p_value(p) for p in adjusted]


def _best(validation: pd.Series, column: int) -> Marks:
    """Bold where validation is highest, underlined where it is second; equal rows are marked alike.

    Nothing is marked where more than two rows are the highest: validation then chooses nobody.
    """
    rounded = validation.round(12)
    levels = sorted(rounded.dropna().unique(), reverse=True)
    if levels and (rounded == levels[0]).sum() > 2:
        return frozenset()
    marks: list[Mark] = ["bold", "underline"]
    return frozenset(
        (i, column, mark)
        for level, mark in zip(levels, marks, strict=False)
        for i, value in enumerate(rounded)
        if value == level
    )


def _caption(plan: Mapping[str, Any], metric: str) -> str:
    question = " ".join((plan.get("question") or "").split())
    if "?" in question:
        question = question[: question.index("?") + 1]
    what = f"{metric_title(metric)}, mean ± sd over {plan['unit']}s"
    leaky = " (LEAKY: random windows)" if plan.get("split") == "leaky_random" else ""
    return " ".join(
        [
            f"{plan['sweep']} on {plan['dataset']}{leaky}" + (f": {question}" if question else "."),
            f"{what[0].upper()}{what[1:]}; series-only path, primary representation: {plan['primary']}.",
            "Best means best on validation (val: macro-F1 there): best bold, second underlined.",
        ]
    )
