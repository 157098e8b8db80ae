"""Every figure that a sweep's ledger can give, by name, as PDF and PNG for a two-column paper."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from analysis import code_pages, outcome_pages, rank_page, style
from analysis.curve_figures import learning_curves
from analysis.outcome_figures import strip_and_interval
from analysis.save import text as save_text
from analysis.source import Drawn, Missing, Source
from analysis.style import palette
from analysis.wording import is_leaky

__all__ = [
    "FIGURES",
    "OVER_SWEEPS",
    "draw",
    "draw_over",
    "learning_curves",
    "palette",
    "save",
    "save_captions",
    "strip_and_interval",
]

DPI = 300
# Without dates and versions: the same ledger gives the same bytes.
METADATA = {"pdf": {"Creator": None, "Producer": None, "CreationDate": None}, "png": {"Software": None}}

FIGURES: dict[str, Callable[[Source], list[Drawn]]] = {
    "scores": outcome_pages.scores,
    "per_class": outcome_pages.per_class,
    "confusion": outcome_pages.confusions,
    "main_effects": outcome_pages.main_effects,
    "interactions": outcome_pages.interactions,
    "learning_curves": outcome_pages.curves,
    "robustness": outcome_pages.disturbances,
    "codebook": code_pages.codebook,
    "code_usage": code_pages.code_usage,
    "reconstruction": code_pages.reconstruction,
    "text_similarity": code_pages.text_similarity,
    "sub_actions": code_pages.sub_actions,
}
OVER_SWEEPS: dict[str, Callable[[Sequence[Source]], list[Drawn]]] = {
    "critical_difference": rank_page.critical_difference,
}


def draw_over(
    sources: Sequence[Source], only: Sequence[str] | None = None
) -> Iterator[tuple[str, Drawn | Missing]]:
    """Name and figure, one at a time, of several sweeps together; `only` as in draw."""
    for name in OVER_SWEEPS if only is None else only:
        leaky = any(is_leaky(source.plan) for source in sources)
        yield from _drawn(name, partial(OVER_SWEEPS[name], sources), leaky)


def draw(source: Source, only: Sequence[str] | None = None) -> Iterator[tuple[str, Drawn | Missing]]:
    """Name and figure, one at a time, of one sweep; `only`: of these names, else of all.

    Raises FileNotFoundError for a sweep without a plan, KeyError for an unknown name.
    """
    for name in FIGURES if only is None else only:
        yield from _drawn(name, partial(FIGURES[name], source), is_leaky(source.plan))


def _drawn(name: str, make: Callable[[], list[Drawn]], leaky: bool) -> Iterator[tuple[str, Drawn | Missing]]:
    try:
        with style.paper():
            made = make()
    except Missing as why:
        yield name, why
        return
    for drawn in made:
        if leaky:
            drawn.figure.suptitle("LEAKY: random windows", fontsize=style.SMALL_POINTS, color="C3")
        yield f"{name}_{drawn.part}" if drawn.part else name, drawn


def save(drawn: Drawn, out: Path, name: str) -> list[Path]:
    """Write `<name>.pdf` and `<name>.png` into `out`, each atomically."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with style.paper():
        # Constrained layout makes room for the tick labels it saw last, and costs as much as the drawing.
        drawn.figure.draw_without_rendering()
    for kind, metadata in METADATA.items():
        path, partial = out / f"{name}.{kind}", out / f".{name}.{os.getpid()}.tmp"
        try:
            with style.paper():
                drawn.figure.savefig(partial, format=kind, dpi=DPI, metadata=metadata)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        drawn.figure.set_layout_engine("none")
        written.append(path)
    return written


def save_captions(captions: Mapping[str, str], out: Path) -> Path:
    """Write the captions of figures, by name, to `captions.md` in `out`; of others they stay as they are."""
    path = out / "captions.md"
    known = dict(_entries(path.read_text(encoding="utf-8"))) if path.exists() else {}
    known |= captions
    text = "".join(f"- `{name}`: {' '.join(known[name].split())}\n" for name in sorted(known))
    save_text(path, text)
    return path


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if match := re.fullmatch(r"- `([^`]+)`: (.*)", line):
            yield match[1], match[2]
