"""Pages of figures: captions say what was drawn, rows on one page differ, and type does not touch."""

import warnings
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ledger_fixture import write_ledger
from matplotlib.text import Text

from analysis import figures, style
from analysis.source import Drawn, Missing, Source

matplotlib.use("Agg")
METRIC = "test/macro_f1"
LOSSES = [
    f"{way}_{what} info_nce={a} consistency={b} text_recon={c}"
    for way, what, a, b, c in product(("one_way", "two_way"), ("z", "all"), "01", "01", "01")
]
GRID = {f"codes={n} loss={x}": {"model.codes": n, "losses.loss": x} for n in (8, 16, 32) for x in (0, 1)}


def written(store: Path, **ledger: Any) -> Source:
    write_ledger(store, **{"fixed": (), "seeds": 1} | ledger)
    return Source(store, ledger.get("sweep", "made_up"))


def found(source: Source, name: str) -> Drawn | Missing:
    return next(figures.draw(source, [name]))[1]


def drawn(source: Source, name: str) -> Drawn:
    made = found(source, name)
    assert isinstance(made, Drawn), made
    return made


def apart(texts: Sequence[Text]) -> bool:
    """Whether no two boxes of the texts meet."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return not any(one.overlaps(two) for one, two in combinations(boxes, 2))


def flat(value: float) -> dict[str, float]:
    return {METRIC: value, "val/macro_f1": value}


def evaluated(of: dict[str, Sequence[float]], row: str, seed: int | None, fold: int) -> dict[str, float]:
    """Scores, the lower the row's number the better; for rows in `of` also under noise of these strengths."""
    score = 0.9 - 0.05 * int(row[1:]) + 0.01 * fold
    return flat(score) | {f"robust/noise/{at:g}/macro_f1": score / 2 for at in of.get(row, ())}


def plan(count: int) -> dict[str, Any]:
    return {"rows": [{"name": str(i), "variant": "v"} for i in range(count)]}


def test_no_two_rows_on_one_page_look_alike_and_a_row_keeps_its_looks_where_it_can() -> None:
    every = [str(i) for i in range(40)]
    assert len(set(style.marks(plan(40), every).values())) == 40
    assert style.marks(plan(40), ["4", "24"]) == {
        name: style.marks(plan(40), every)[name] for name in ("4", "24")
    }
    clash = style.marks(plan(50), ["4", "44"])
    assert clash["4"] != clash["44"] and clash["4"][0] == style.palette(plan(1))["0"]
    dots = style.marks(plan(12), ["0", "10"], dashed=False)
    assert dots["0"][0] != dots["10"][0]
    shades = {"rows": [{"name": f"{v}{i}", "variant": v} for v in "ab" for i in range(20)]}
    assert len({colour for colour, _ in style.marks(shades, ["a0", "a1", "a2"], dashed=False).values()}) == 3
    assert len({tuple(np.round(c, 1)) for c, _ in style.marks(shades, ["a0", "a4"]).values()}) == 2


def test_titles_of_panels_differ_and_do_not_repeat_what_all_rows_have() -> None:
    titles, common = style.titles(LOSSES, 25)
    assert len(set(titles)) == len(LOSSES) and common == ""
    assert max(len(line) for title in titles for line in title.splitlines()) <= 25
    assert style.titles(["z a=1 b=2", "z a=2 b=2"], 20) == (["a=1", "a=2"], "z b=2")
    assert style.titles(["z", "z a=1"], 20) == (["z", "z a=1"], "")
    assert style.titles(["a b", "b a"], 20) == (["a b", "b a"], "")
    alike = ["x" * 200 + end + "y" * 200 for end in "12"]
    assert len(set(style.titles(alike, 20)[0])) == 2
    (lone,), _ = style.titles(["x" * 200], 20)
    assert len(lone.splitlines()) == 3


def one_class(row: str, seed: int | None, fold: int) -> dict[str, Any]:
    return {"per_class_f1": {"rest": 1.0}}


def test_colours_of_f1_end_at_100_where_every_class_is_right(tmp_path: Path) -> None:
    ax = drawn(written(tmp_path, parts=one_class), "per_class").figure.axes[0]
    assert ax.collections[0].get_clim() == (90, 100)


def test_long_names_of_rows_leave_room_for_dots_of_classes(tmp_path: Path) -> None:
    rows = [f"a row with a name as long as names get {i}" for i in range(4)]
    made = drawn(written(tmp_path, rows=rows, reference=rows[0], parts=one_class), "per_class")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.figure.draw_without_rendering()
    box = made.figure.get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= style.COLUMN_INCHES and box.y1 <= made.figure.get_figheight()


def test_a_reference_that_failed_everywhere_gives_no_warning(tmp_path: Path) -> None:
    source = written(tmp_path, failed=[("supervised", 0, fold) for fold in range(5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(source, "scores").figure.draw_without_rendering()


def many_codes(count: int, concept: str) -> dict[str, Any]:
    """`count` codes, each used and named."""
    code = np.resize(np.arange(count), (12, 2, count)).astype(np.int32)
    p = np.full((1, count, 2), [0.88, 0.12])
    return {
        "shape": np.zeros((count, 1, 8)), "z": np.zeros((count, 3)), "code": code, "p": p,
        "evidence": np.array(["decoder"]), "concepts": np.array([concept, "hold"]),
    }  # fmt: skip
