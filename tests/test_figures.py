"""Figures of outcomes show the numbers of stats, fit their column, and say what they leave out."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from ledger_fixture import ROWS, made_up_scores, write_ledger
from made_up_codes_fixture import made_up_lexicon, write_lexicon
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import curve_figures, figures, grid_figures, outcome_figures, rank_figure, stats, style
from analysis.source import Drawn, Missing, Source

matplotlib.use("Agg")
METRIC = "test/macro_f1"
CODES, LOSSES = (8, 16, 32), (0, 0.5)
GRID = {
    f"codes={codes} info_nce={loss}": {"model.codes": codes, "losses.info_nce": loss}
    for codes in (16, 8, 32)
    for loss in LOSSES
}
KINDS = {"noise": (0.1, 1.6), "odd": (1, 2)}


def axis() -> Axes:
    return Figure().subplots()


def marks(ax: Axes, marker: str) -> dict[float, float]:
    """y -> x of the lines that are single marks."""
    lines = [line for line in ax.lines if line.get_marker() == marker and len(line.get_xdata()) == 1]
    return {float(np.round(line.get_ydata()[0], 6)): float(line.get_xdata()[0]) for line in lines}


def disturbed(row: str, seed: int | None, fold: int) -> dict[str, float]:
    """Scores, and less of them the stronger the disturbance."""
    scores = made_up_scores(row, seed, fold)
    names = {f"robust/{kind}/{at:g}/macro_f1": at for kind, strengths in KINDS.items() for at in strengths}
    return scores | {name: scores[METRIC] * (1 - at / 4) for name, at in names.items()}


def by_class(row: str, seed: int | None, fold: int) -> dict[str, Any]:
    """Two classes, of which nobody is ever taken for the second's first, and a third that was never there."""
    score = made_up_scores(row, seed, fold)[METRIC]
    return {
        "per_class_f1": {"lie": score, "sit": score / 2},
        "confusion": [[3, 1, 0], [0, 199, 1], [0, 0, 0]],
        "data": {"classes": ["lie", "sit", "run"], "validation": "subjects"},
    }


def written(store: Path, **ledger: Any) -> Source:
    write_ledger(store, **{"scores": disturbed, "parts": by_class} | ledger)
    return Source(store, ledger.get("sweep", "made_up"))


def drawn(source: Source, name: str) -> Drawn:
    (found,) = [found for _, found in figures.draw(source, [name])]
    assert isinstance(found, Drawn), found
    return found


def why_not(source: Source, name: str) -> str:
    (found,) = [found for _, found in figures.draw(source, [name])]
    assert isinstance(found, Missing)
    return str(found)


def test_differences_stand_at_the_contrasts_of_the_table_and_the_reference_has_none(tmp_path: Path) -> None:
    source = written(tmp_path, missing=[("z_one_way", 1, 2)])
    ax = outcome_figures.paired_differences(source.frame, source.plan, axis())
    found = {row: stats.contrast(source.frame, METRIC, "fold", row, "supervised") for row in ROWS}
    shown = marks(ax, "D")
    for i, row in enumerate(ROWS):
        if row != "supervised":
            assert shown[i + 0.15] == pytest.approx(100 * found[row].mean)
    assert np.isnan(shown[ROWS.index("supervised") + 0.15])
    ends = [
        line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_color() == "black"
    ]
    assert list(ends[0]) == pytest.approx([100 * found["vqshape"].low, 100 * found["vqshape"].high])  # type: ignore[operator]


@pytest.mark.parametrize(("rows", "linked"), [(ROWS, 5), ([f"row {i}" for i in range(9)], 0)])
def test_a_line_links_each_pair_among_few_rows_and_none_among_many(
    tmp_path: Path, rows: list[str], linked: int
) -> None:
    source = written(tmp_path, rows=rows, reference=rows[0])
    ax = outcome_figures.strip_and_interval(source.frame, source.plan, axis())
    links = [line for line in ax.lines if len(line.get_xdata()) == len(rows)]
    assert len(links) == linked
    if linked:
        pairs = stats.per_pair(source.frame, METRIC, "fold")
        assert list(links[2].get_xdata()) == pytest.approx(list(100 * pairs.loc[2, list(rows)]))


def test_f1_by_class_is_dots_of_few_rows_and_a_heat_map_of_many(tmp_path: Path) -> None:
    source = written(tmp_path)
    few = ["z_one_way", "statistics"]
    dots = outcome_figures.per_class_f1(source.classes, source.plan, axis(), few)
    mean = stats.summary(source.frame, METRIC, "fold")["mean"]
    (first, second) = [line for line in dots.lines if line.get_marker() == "o"]
    assert list(first.get_xdata()) == pytest.approx([100 * mean["z_one_way"], 50 * mean["z_one_way"]])
    assert list(second.get_xdata()) == pytest.approx([100 * mean["statistics"], 50 * mean["statistics"]])
    assert [text.get_text() for text in dots.get_yticklabels()] == ["lie", "sit"]
    heat = outcome_figures.per_class_f1(source.classes, source.plan, axis())
    assert [text.get_text() for text in heat.get_yticklabels()] == list(ROWS)
    assert [text.get_text() for text in heat.texts[:2]] == [
        f"{100 * mean[ROWS[0]]:.0f}",
        f"{50 * mean[ROWS[0]]:.0f}",
    ]


def test_confusions_are_shares_of_each_true_class_of_the_best_on_validation_and_the_reference(
    tmp_path: Path,
) -> None:
    best = {"all_one_way": 0.9, "z_one_way": 0.7}
    scores = lambda row, seed, fold: {METRIC: 0.5, "val/macro_f1": best.get(row, 0.6)}  # noqa: E731
    figure = drawn(written(tmp_path, scores=scores), "confusion").figure
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["all_one_way", "supervised"]
    shown = [text.get_text() for text in panels[0].texts]
    assert shown == ["75", "25", "", "", "100", "<1"]  # and nothing of a class without windows


def test_effects_of_a_grid_are_means_over_its_other_factors_and_numbers_stand_in_their_order(
    tmp_path: Path,
) -> None:
    source = written(tmp_path, rows=list(GRID), reference=None, factors=GRID, seeds=2, folds=3)
    grid = grid_figures.crossed(source.frame, source.plan, METRIC)
    assert grid is not None
    ax = grid_figures.main_effect(grid, "model.codes", METRIC, axis())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16", "32"]
    mean = stats.summary(source.frame, METRIC, "fold")["mean"]
    by_hand = [100 * np.mean([mean[f"codes={codes} info_nce={loss}"] for loss in LOSSES]) for codes in CODES]
    assert list(ax.lines[0].get_ydata()) == pytest.approx(by_hand)
    two = grid_figures.interaction(grid, ("model.codes", "losses.info_nce"), METRIC, {}, axis())
    for line, loss in zip(two.lines, LOSSES, strict=True):
        cells = [mean[f"codes={codes} info_nce={loss}"] for codes in CODES]
        assert list(line.get_ydata()) == pytest.approx([100 * cell for cell in cells])
    legend = two.get_legend()
    assert legend is not None and legend.get_title().get_text() == "info_nce"
    assert [ax.get_xlabel() for ax in drawn(source, "interactions").figure.axes] == ["codes"]


def test_a_robustness_curve_starts_at_the_undisturbed_score_and_leaves_out_trials_not_evaluated(
    tmp_path: Path,
) -> None:
    source = written(tmp_path, scores=lambda *key: made_up_scores(*key) if key[2] == 4 else disturbed(*key))
    frame = source.frame
    assert curve_figures.strengths(frame)["noise"] == [
        (0.0, METRIC), (0.1, "robust/noise/0.1/macro_f1"), (1.6, "robust/noise/1.6/macro_f1"),
    ]  # fmt: skip
    ax = curve_figures.robustness(frame, source.plan, "noise", axis(), ["vqshape", "z_one_way"])
    mean = stats.per_pair(frame, METRIC, "fold")["z_one_way"][:4].mean()
    assert list(ax.lines[1].get_ydata()) == pytest.approx([100 * mean * (1 - at / 4) for at in (0, 0.1, 1.6)])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "0.1", "1.6"]
    (bars, _) = [found for found in ax.collections if isinstance(found, LineCollection)]
    summary = stats.summary(frame[frame["fold"] < 4], METRIC, "fold").loc["vqshape"]
    assert list(bars.get_segments()[0][:, 1]) == pytest.approx([100 * summary["low"], 100 * summary["high"]])
    said = drawn(source, "robustness")
    assert "n = 4 subject folds" in said.caption and "6 of 7 rows" in said.caption


def test_many_learning_curves_get_a_panel_each_beside_the_reference(tmp_path: Path) -> None:
    panels = [ax for ax in drawn(written(tmp_path), "learning_curves").figure.axes if ax.get_visible()]
    trained = [row for row in ROWS if row != "statistics"]
    assert [ax.get_title() for ax in panels] == trained
    assert [len(ax.lines) for ax in panels] == [1 if row == "supervised" else 2 for row in trained]


def test_an_interval_over_two_pairs_does_not_stretch_the_axis_beyond_percentages(tmp_path: Path) -> None:
    far = lambda row, seed, fold: {METRIC: 0.2 + 0.7 * fold, "val/macro_f1": 0.5}  # noqa: E731
    parts = lambda row, seed, fold: {"per_class_f1": {"lie": 0.9 * fold}}  # noqa: E731
    source = written(tmp_path, folds=2, scores=far, parts=parts)
    for ax in (
        outcome_figures.strip_and_interval(source.frame, source.plan, axis()),
        outcome_figures.per_class_f1(source.classes, source.plan, axis(), ROWS[:2]),
    ):
        assert ax.get_xlim() == (-0.5, 100.5)


def test_a_variant_keeps_its_hue_over_its_rows_and_a_lone_variant_has_one_a_row() -> None:
    def plan(*names: str) -> dict[str, Any]:
        return {"rows": [{"name": name, "variant": name.split()[0]} for name in names]}

    own = style.palette(plan("a x=1", "a x=2", "b x=1"))
    hue = {name: matplotlib.colors.rgb_to_hsv(colour)[0] for name, colour in own.items()}
    assert hue["a x=1"] == pytest.approx(hue["a x=2"], abs=0.01) and own["a x=1"] != own["a x=2"]
    assert abs(hue["a x=1"] - hue["b x=1"]) > 0.1
    assert own["b x=1"] == style.variants(plan("a", "b"))["b"]
    lone = style.palette(plan("a x=1", "a x=2"))
    assert lone["a x=2"] == own["b x=1"]


def test_of_more_rows_than_fit_the_best_on_validation_and_the_reference_are_shown() -> None:
    plan = {"rows": [{"name": f"row {i}"} for i in range(50)], "reference": "row 3"}
    ranking = [f"row {i}" for i in reversed(range(49))]
    assert style.shown(plan, ranking, 4) == ["row 3", "row 46", "row 47", "row 48"]


def test_rows_under_one_bar_are_those_no_test_tells_apart() -> None:
    ranks = pd.Series({"bad": 3.0, "good": 1.0, "fair": 2.0})
    p = pd.DataFrame(1.0, index=ranks.index, columns=ranks.index)
    p.loc["bad", "good"] = p.loc["good", "bad"] = 0.01
    ax = rank_figure.critical_difference(ranks, p, dict.fromkeys(ranks.index, "C0"), axis())
    assert [text.get_text().split() for text in ax.texts] == [
        ["good", "1.00"],
        ["fair", "2.00"],
        ["3.00", "bad"],
    ]
    bars = {tuple(sorted(line.get_xdata())) for line in ax.lines if len(line.get_xdata()) == 2}
    assert bars == {(1.0, 2.0), (2.0, 3.0)}


def test_a_name_too_long_for_a_margin_breaks_at_a_space_and_keeps_its_end() -> None:
    assert style.folded("z_two_way codes=128 info_nce=0.1", 20) == "z_two_way codes=128\ninfo_nce=0.1"
    assert style.folded("raise the left arm slowly up", 12) == "raise the\nleft …ly up"
    assert style.folded("x" * 100 + "end", 20).endswith("end") and len(style.folded("x" * 100, 20)) <= 41


def test_one_data_set_gives_no_ranks_and_several_give_those_of_the_leaderboard(tmp_path: Path) -> None:
    alone = written(tmp_path)
    ((_, why),) = figures.draw_over([alone])
    assert isinstance(why, Missing) and "folds of one share their training data" in str(why)
    others = [written(tmp_path, sweep=name, dataset=name, rows=ROWS[:4]) for name in ("one", "two")]
    ((name, found),) = figures.draw_over([alone, *others])
    assert name == "critical_difference" and isinstance(found, Drawn)
    shown = [text.get_text() for text in found.figure.axes[0].texts]
    assert sorted(row for row in ROWS if any(row in text for text in shown)) == sorted(ROWS[:4])
    assert "3 data sets" in found.caption and "no two rows can be told apart" in found.caption
    again = written(tmp_path, sweep="again", dataset="one", rows=ROWS[:4])
    cells = [(row, seed, fold) for row in ROWS for seed in (*range(5), None) for fold in range(5)]
    undone = written(tmp_path, sweep="undone", dataset="four", missing=cells)
    ((_, more),) = figures.draw_over([alone, *others, again, undone])
    assert isinstance(more, Drawn) and "over 4 data sets" in more.caption
    assert "Sweeps on one data set (one) count as so many data sets" in more.caption


def test_figures_that_a_ledger_can_not_give_say_why(tmp_path: Path) -> None:
    source = written(
        tmp_path, scores=made_up_scores, parts=lambda *key: {}, rows=("statistics",), reference=None
    )
    assert (
        why_not(source, "robustness")
        == "no evaluation yet: run `shapelex evaluate sweeps/made_up.yaml` first"
    )
    assert why_not(source, "main_effects") == "the rows cross no settings: the sweep has no grid"
    assert why_not(source, "per_class") == "no result has F1 by class"
    assert why_not(source, "confusion") == "no result has a confusion matrix"
    assert why_not(source, "learning_curves") == "no trial logs epochs"
    assert why_not(source, "codebook") == "no trial has learned codes"
    assert isinstance(drawn(source, "scores"), Drawn)
    nothing = written(
        tmp_path / "b", missing=[("statistics", None, fold) for fold in range(5)], rows=("statistics",)
    )
    assert why_not(nothing, "scores") == "no cell is done yet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawn]:
    """Every figure of a ledger that has everything, of 17 rows with long names."""
    store = tmp_path_factory.mktemp("whole")
    rows = [
        f"z_two_way_losses codes={codes} info_nce={loss}" for codes in (8, 16, 32, 64) for loss in range(4)
    ]
    factors = {row: dict(zip(("a.codes", "b.loss"), row.split()[1:], strict=True)) for row in rows}
    factors["statistics"] = {"baseline": "statistics"}
    source = written(
        store,
        rows=[*rows, "statistics"],
        reference=rows[0],
        factors=factors,
        seeds=1,
        folds=2,
        fixed=[*rows[6:], "statistics"],  # without curves of their own, which cost a panel each
    )
    for name in source.frame["signature"][source.frame["seed"].notna()]:
        write_lexicon(store, name, made_up_lexicon())
    every = {name: found for name, found in figures.draw(source) if isinstance(found, Drawn)}
    for found in every.values():
        found.figure.draw_without_rendering()
    return every


def test_every_figure_of_17_rows_has_its_place_in_a_paper(whole: dict[str, Drawn]) -> None:
    drawn_names = {name.removesuffix("_decoder").removesuffix("_cooccurrence") for name in whole}
    assert drawn_names == set(figures.FIGURES)
    for name, found in whole.items():
        width, height = found.figure.get_size_inches()
        assert width in (style.COLUMN_INCHES, style.PAGE_INCHES) and height <= 9.5, name
        small = {text.get_text() for text in found.figure.findobj(Text) if text.get_fontsize() < 7}
        assert not {text for text in small if text.strip()}, name
        box = found.figure.get_tightbbox()
        assert box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02, (
            name
        )


def test_labels_of_17_rows_do_not_touch(whole: dict[str, Drawn]) -> None:
    for name in ("scores", "per_class"):
        labels = whole[name].figure.axes[0].get_yticklabels()
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        assert len(boxes) == 17
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes)), name


def test_the_same_figure_gives_the_same_bytes_and_whole_files(tmp_path: Path) -> None:
    source = written(tmp_path / "runs", rows=ROWS[:2])
    one, two = (figures.save(drawn(source, "per_class"), tmp_path / to, "scores") for to in ("one", "two"))
    assert [path.name for path in one] == ["scores.pdf", "scores.png"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert one[0].read_bytes().startswith(b"%PDF") and b"/Type3" not in one[0].read_bytes()
    assert sorted(os.listdir(tmp_path / "one")) == ["scores.pdf", "scores.png"]


def test_captions_are_kept_of_figures_that_are_not_drawn_again(tmp_path: Path) -> None:
    figures.save_captions({"scores": "Old.", "ranks": "Kept `as is`."}, tmp_path)
    path = figures.save_captions({"scores": "New.\nLine."}, tmp_path)
    assert path.read_text() == "- `ranks`: Kept `as is`.\n- `scores`: New. Line.\n"


def test_random_windows_are_leaky_in_the_figure_itself(tmp_path: Path) -> None:
    source = written(tmp_path, rows=ROWS[:2])
    source.plan["split"] = "leaky_random"
    assert drawn(source, "scores").figure.get_suptitle() == "LEAKY: random windows"
    assert "LEAKY" in drawn(source, "scores").caption


def test_a_row_named_like_mathematics_is_shown_as_it_is(tmp_path: Path) -> None:
    rows = ("supervised", "$x_1$ & 100 %")
    found = drawn(written(tmp_path, rows=rows), "scores")
    found.figure.draw_without_rendering()
    label = found.figure.axes[0].get_yticklabels()[1]
    assert label.get_text() == rows[1] and not label.get_parse_math()
