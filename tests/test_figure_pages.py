"""Pages of figures: captions say what was drawn, rows on one page differ, and type does not touch."""

import warnings
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from ledger_fixture import ROWS, signature, write_ledger
from made_up_codes_fixture import made_up_lexicon, write_lexicon
from matplotlib.text import Text

from analysis import code_figures, figures, style
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


@pytest.mark.parametrize("name", ["main_effects", "interactions"])
def test_n_of_effects_counts_the_folds_in_which_every_row_of_the_grid_has_a_result(
    tmp_path: Path, name: str
) -> None:
    rows = list(GRID)
    missing = [(rows[0], 0, 2), (rows[4], 0, 3), (rows[5], 0, 4)]
    said = drawn(written(tmp_path, rows=rows, factors=GRID, reference=None, missing=missing), name).caption
    assert "n = 2 subject folds" in said and "Incomplete: 27 of 30 cells done." in said
    assert "for which every row of the grid has a result" in said and "both of its rows" not in said


@pytest.mark.parametrize("name", ["main_effects", "interactions", "robustness"])
def test_an_interval_over_two_pairs_does_not_stretch_the_height_beyond_percentages(
    tmp_path: Path, name: str
) -> None:
    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        return flat(0.5 + 0.45 * fold) | {"robust/noise/0.1/macro_f1": 0.3 + 0.6 * fold}

    source = written(tmp_path, rows=list(GRID), factors=GRID, reference=None, folds=2, scores=scores)
    for ax in drawn(source, name).figure.axes:
        low, high = ax.get_ylim()
        assert low >= -1 and high <= 101


def test_learning_curves_are_of_done_trials_and_count_those(tmp_path: Path) -> None:
    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        return flat(0.1 if row == "bad" and fold == 0 else 0.8)

    failed = [("bad", seed, 0) for seed in range(2)]
    source = written(
        tmp_path, rows=("good", "bad"), reference="good", seeds=2, folds=3, failed=failed, scores=scores
    )
    made = drawn(source, "learning_curves")
    ends = [line.get_ydata()[-1] for line in made.figure.axes[0].lines if len(line.get_xdata())]
    assert ends == pytest.approx([80, 80])
    assert "Incomplete: 10 of 12" in made.caption and "under way" not in made.caption


def test_curves_of_trials_under_way_are_drawn_where_none_is_done_and_the_caption_says_so(
    tmp_path: Path,
) -> None:
    every = [(row, 0, fold) for row in ("a", "b") for fold in range(2)]
    source = written(tmp_path, rows=("a", "b"), reference="a", folds=2, failed=every)
    said = drawn(source, "learning_curves").caption
    assert "none that logs epochs is done" in said and "n = 2 subject folds" in said


def evaluated(of: dict[str, Sequence[float]], row: str, seed: int | None, fold: int) -> dict[str, float]:
    """Scores, the lower the row's number the better; for rows in `of` also under noise of these strengths."""
    score = 0.9 - 0.05 * int(row[1:]) + 0.01 * fold
    return flat(score) | {f"robust/noise/{at:g}/macro_f1": score / 2 for at in of.get(row, ())}


def test_robustness_is_of_the_rows_that_were_evaluated(tmp_path: Path) -> None:
    rows = [f"r{i}" for i in range(9)]
    both = {"r7": (0.1, 0.2), "r8": (0.1, 0.2)}
    source = written(tmp_path, rows=rows, reference="r0", scores=lambda *key: evaluated(both, *key))
    made = drawn(source, "robustness")
    assert [text.get_text() for text in made.figure.legends[0].get_texts()] == ["r7", "r8"]
    assert "10 of 45 done cells were evaluated. 2 of 9 rows were evaluated." in made.caption
    assert "best on validation" not in made.caption


def test_where_no_trial_was_evaluated_at_every_strength_the_way_out_is_named(tmp_path: Path) -> None:
    apart = {"r0": (0.1,), "r1": (0.2,)}
    source = written(tmp_path, rows=("r0", "r1"), reference="r0", scores=lambda *key: evaluated(apart, *key))
    why = found(source, "robustness")
    assert isinstance(why, Missing) and "shapelex evaluate sweeps/made_up.yaml --force" in str(why)


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


def test_titles_of_learning_curves_neither_touch_nor_leave_the_page(tmp_path: Path) -> None:
    figure = drawn(
        written(tmp_path, rows=LOSSES[8:20], reference=LOSSES[8], folds=1), "learning_curves"
    ).figure
    figure.draw_without_rendering()
    titles = [ax.title for ax in figure.axes if ax.get_visible()]
    assert len({title.get_text() for title in titles}) == 12 and apart(titles)
    assert all(t.get_window_extent().x0 >= 0 and t.get_window_extent().x1 <= figure.bbox.x1 for t in titles)


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


def test_confusions_of_many_classes_fit_a_page(tmp_path: Path) -> None:
    names = [f"activity {i}" for i in range(30)]
    parts = {"confusion": np.eye(30, dtype=int).tolist(), "data": {"classes": names}}
    figure = drawn(written(tmp_path, parts=lambda *key: parts), "confusion").figure
    assert figure.get_figheight() <= 9.5


def test_a_reference_that_failed_everywhere_gives_no_warning(tmp_path: Path) -> None:
    source = written(tmp_path, failed=[("supervised", 0, fold) for fold in range(5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(source, "scores").figure.draw_without_rendering()


def test_classes_below_panels_of_similarity_do_not_touch(tmp_path: Path) -> None:
    few = ["badminton", "running", "standing", "walking"]
    for names, rows in ((few, 5), ([f"activity {i}" for i in range(12)], 3)):
        store, size = tmp_path / str(rows), len(names)
        source = written(store, rows=ROWS[:rows], reference=None, folds=1)
        for row in ROWS[:rows]:
            more = {"classes": np.array(names), "similarity": np.random.default_rng(0).random((size, size))}
            write_lexicon(store, signature(row, 0, 0), made_up_lexicon(**more))
        figure = drawn(source, "text_similarity").figure
        figure.draw_without_rendering()
        panels = [ax for ax in figure.axes if ax.get_title()]
        below = [ax for ax in panels if ax.get_xlabel()]
        assert len(panels) == rows and len(below) == 3
        for ax in below:
            labels = ax.get_xticklabels()
            assert all(label.get_visible() and label.get_text() for label in labels)
            inches = np.diff([label.get_window_extent().x0 for label in labels]) / figure.dpi
            turned = labels[0].get_rotation()
            assert turned in (45, 90) and inches.min() > (0.1 if turned == 90 else 0.137)


def many_codes(count: int, concept: str) -> dict[str, Any]:
    """`count` codes, each used and named."""
    code = np.resize(np.arange(count), (12, 2, count)).astype(np.int32)
    p = np.full((1, count, 2), [0.88, 0.12])
    return {
        "shape": np.zeros((count, 1, 8)), "z": np.zeros((count, 3)), "code": code, "p": p,
        "evidence": np.array(["decoder"]), "concepts": np.array([concept, "hold"]),
    }  # fmt: skip


def test_codes_without_a_column_are_counted_under_their_sub_actions(tmp_path: Path) -> None:
    source = written(tmp_path, rows=("a",), reference=None, folds=1)
    write_lexicon(tmp_path, signature("a", 0, 0), made_up_lexicon(**many_codes(60, "up")))
    for name in ("sub_actions", "code_usage"):
        assert " 12 rarer codes are left out." in drawn(source, name).caption


def test_names_in_the_codebook_do_not_run_into_each_other(tmp_path: Path) -> None:
    source = written(tmp_path, rows=("a",), reference=None, folds=1)
    long = many_codes(16, "warm the hammer")
    write_lexicon(tmp_path, signature("a", 0, 0), made_up_lexicon(**long))
    figure = drawn(source, "codebook").figure
    figure.draw_without_rendering()
    assert apart([ax.title for ax in figure.axes])


def test_a_code_that_means_something_is_shown_though_48_others_are_used_more(tmp_path: Path) -> None:
    source = written(tmp_path, rows=("a",), reference=None, folds=1)
    codes = many_codes(60, "up")
    codes["p"][:, :59] = 0
    write_lexicon(tmp_path, signature("a", 0, 0), made_up_lexicon(**codes))
    made = drawn(source, "sub_actions")
    assert [text.get_text() for text in made.figure.axes[0].get_xticklabels()] == ["59"]
    lexicon, _ = source.codes
    assert code_figures.named(lexicon, "decoder") == [59]
