"""The dictionary of a trial's codes as a page, and windows read out by it. Offline, without scripts.

W held-out windows, B series of a window, K tokens of one, A axes, S shape length, N codes, T steps.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from analysis import codes, svg
from analysis.lexicon import Lexicon

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
CARD, STRIP = 170, 760  # pixels
GREY, DARK = "#999", "#333"


def page(found: Lexicon, about: dict[str, Any]) -> str:
    """A whole HTML page. about: title, lines (what trial it is), numbers (name -> value of `meaning/...`)."""
    return TEMPLATES.get_template("codes.html").render(about=about, dictionary=parts(found))


def parts(found: Lexicon) -> dict[str, Any]:
    """What the templates show: cards, one a code in use, the most used first; strips, one a drawn window;
    unused: how many codes no held-out token has."""
    table = codes.table(found)
    seen = table[table["tokens"] > 0]
    hue = {str(name): svg.colour(q) for q, name in enumerate(found.concepts)}
    return {
        "cards": [_card(found, int(str(n)), row, hue) for n, row in seen.iterrows()],
        "strips": [_strip(found, i, hue) for i in range(len(found.drawn))],
        "unused": len(table) - len(seen),
        "classes": [str(name) for name in found.classes],
        "named": bool(len(found.evidence)),
        "nameless": len(found.evidence) > 0 and not found.names(),
        "evidence": [str(kind) for kind in found.evidence],
        "named_by": str(found.named_by),
    }


def _card(found: Lexicon, n: int, row: pd.Series, hue: dict[str, str]) -> dict[str, Any]:
    classes = [(str(c), float(row[f"class/{c}"])) for c in found.classes]
    most = max((part for _, part in classes), default=0) or 1
    people = {
        str(k).removeprefix("subject/"): float(v) for k, v in row.items() if str(k).startswith("subject/")
    }
    return {
        "code": n,
        "row": row,
        "hue": hue.get(str(row["name"]), GREY),
        "shape": Markup(_shape(found.shape[n], n)),
        "place": Markup(_place(found, n)),
        "classes": [(name, part, 100 * part / most) for name, part in classes],
        "subjects": people,
        "others": [
            (str(kind), str(found.concepts[q]) if q >= 0 else codes.UNNAMED, float(np.nan_to_num(p[n]).max()))
            for kind, p, q in zip(found.evidence, found.p, found.name[:, n], strict=True)
            if p.shape[1]
        ],
        "examples": [Markup(x) for x in _examples(found, n)],
    }


def _shape(shape_AS: np.ndarray, n: int) -> str:
    x = np.linspace(4, CARD - 4, shape_AS.shape[1])
    lines = [
        svg.path(x, svg.level(s, -3, 3, 4, 76), svg.colour(a) if len(shape_AS) > 1 else DARK, 1.6)
        for a, s in enumerate(shape_AS)
    ]
    return svg.drawing(CARD, 80, lines, f"shape of code {n}")


def _place(found: Lexicon, n: int) -> str:
    """How often each part of the window lies under the code."""
    mine = found.code == n
    place = (np.arange(40) + 0.5) / 40
    t, end = found.t[mine], (found.t + found.l)[mine]
    count = ((place[:, None] >= t) & (place[:, None] <= end)).sum(1)
    top, each = max(count.max(), 1), CARD / 40
    bars = [svg.box(i * each, 18 - 16 * c / top, each - 0.5, 16 * c / top, GREY) for i, c in enumerate(count)]
    return svg.drawing(CARD, 19, bars, f"where code {n} falls in the window")


def _examples(found: Lexicon, n: int) -> list[str]:
    """Its best held-out tokens, each drawn where it lies in its series."""
    out, names = [], codes.series_names(found)
    for i, (w, b) in enumerate(found.example[n]):
        if w < 0:
            continue
        series_AT = found.example_x[n, i]
        steps, low, high = series_AT.shape[1], float(series_AT.min()), float(series_AT.max())
        x = np.linspace(2, CARD - 2, steps)
        t, end = found.example_t[n, i], min(1.0, found.example_t[n, i] + found.example_l[n, i])
        first = min(int(t * (steps - 1)), steps - 2)
        last = max(int(np.ceil(end * (steps - 1))), first + 1)
        drawn = [svg.box(x[first], 0, x[last] - x[first], 44, "#f3e7c4")]
        for series_T in series_AT:
            y = svg.level(series_T, low, high, 3, 41)
            drawn += [
                svg.path(x, y, GREY, 0.8),
                svg.path(x[first : last + 1], y[first : last + 1], "#b3400f", 1.8),
            ]
        label, subject = found.classes[found.label[w]], int(found.subject[w])
        who = f", subject {subject}" if subject >= 0 else ""
        drawn.append(svg.words(2, 54, f"{label}{who}, {names[b]}", 8))
        out.append(svg.drawing(CARD, 58, drawn, f"code {n} in a window of {label}"))
    return out


def _strip(found: Lexicon, i: int, hue: dict[str, str]) -> dict[str, Any]:
    """A window with the shapes of the series that says most, its tokens' share in the prediction, and the
    sub-actions in order."""
    w = int(found.drawn[i])
    added_BK = found.contribution[w]
    b = int(np.maximum(added_BK, 0).sum(1).argmax())
    runs = codes.readout(found, w)
    mine = _axes(found, i, b)
    low, high = float(mine.min()), float(mine.max())
    x = np.linspace(0, STRIP, mine.shape[1])
    drawn = [svg.path(x, svg.level(series, low, high, 6, 104), GREY, 1.1) for series in mine]
    top = max(float(np.abs(added_BK[b]).max()), 1e-9)
    names = codes.names(found)["name"]
    for k in np.argsort(-found.l[w, b]):
        n, t, length = int(found.code[w, b, k]), float(found.t[w, b, k]), float(found.l[w, b, k])
        ends = np.linspace(t, min(1.0, t + length), found.shape.shape[-1]) * STRIP
        ink = hue.get(str(names[n]), DARK)
        for a in range(len(mine)):
            y = found.shape[n, a] * found.sigma[w, b, k, a] + found.mu[w, b, k, a]
            drawn.append(svg.path(ends, svg.level(y, low, high, 6, 104), ink, 1.6))
        height = 18 * float(added_BK[b, k]) / top
        told = f"code {n} {names[n]}: {added_BK[b, k]:+.3f}"
        drawn.append(
            svg.box(
                (t + min(1.0, t + length)) / 2 * STRIP - 2, 128 - max(height, 0), 4, abs(height), ink, told
            )
        )
    for run in runs:
        left, wide = run.start * STRIP, (run.end - run.start) * STRIP
        drawn.append(svg.box(left, 150, wide - 1, 18, hue[run.name], f"{run.name} ({run.p:.2f})"))
        if wide > 6 * len(run.name):
            drawn.append(f'<g fill="white">{svg.words(left + 4, 163, run.name)}</g>')
    label, predicted = (str(found.classes[getattr(found, name)[w]]) for name in ("label", "predicted"))
    return {
        "label": label,
        "predicted": predicted,
        "right": label == predicted,
        "subject": int(found.subject[w]),
        "series": codes.series_names(found)[b],
        "said": [name for name, _ in groupby(run.name for run in runs)],
        "picture": Markup(svg.drawing(STRIP, 172 if runs else 148, drawn, f"a window of {label}, read out")),
    }


def _axes(found: Lexicon, i: int, b: int) -> np.ndarray:
    """The axes (A, T') of series b of the drawn window."""
    series_MT = found.series[i]
    series, axes = found.code.shape[1], found.shape.shape[1]
    return series_MT.reshape(series, axes, -1)[b]
