"""Figures of codes show what the made-up lexicon holds, of the trial that validation chose."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from ledger_fixture import signature, write_ledger
from made_up_codes_fixture import CLASSES, CODES, CONCEPTS, made_up_lexicon, write_lexicon
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import code_figures, figures, lexicon, series_figures
from analysis.lexicon import Lexicon
from analysis.source import Drawn, Missing, Source

matplotlib.use("Agg")


def made_up(tmp_path: Path, **changes: Any) -> Lexicon:
    (tmp_path / "trials" / "made_up").mkdir(parents=True)
    write_lexicon(tmp_path, "made_up", made_up_lexicon(**changes))
    return lexicon.read(tmp_path, "made_up")


def axis() -> Axes:
    return Figure().subplots()


def test_the_codebook_draws_codes_in_use_the_most_used_first_with_share_and_name(tmp_path: Path) -> None:
    found = made_up(tmp_path)
    titles = [ax.get_title() for ax in code_figures.codebook(found).axes]
    counts = np.bincount(found.code.ravel(), minlength=CODES)
    used = [n for n in np.argsort(-counts, kind="stable") if counts[n]]
    share = 100 * counts / counts.sum()
    assert titles[: len(used)] == [f"{n}: {share[n]:.1f} %\n{CONCEPTS[n % 3]} .80" for n in used]
    assert not any(titles[len(used) :])
    line = code_figures.codebook(found).axes[0].lines[1]
    assert np.array_equal(line.get_ydata(), found.shape[used[0], 0])


def test_a_code_whose_concepts_are_about_equally_probable_has_no_name(tmp_path: Path) -> None:
    p = np.full((1, CODES, 3), [0.4, 0.3, 0.3])
    p[0, 1], p[0, 2] = [0.3, 0.5, 0.2], 0
    assert made_up(tmp_path, p=p).names() == {1: ("arm down", 0.5)}


def test_without_concepts_codes_have_no_names_and_joint_channels_have_a_line_each(tmp_path: Path) -> None:
    found = made_up(tmp_path, text=False, channels="joint")
    figure = code_figures.codebook(found)
    assert "\n" not in figure.axes[0].get_title()
    assert len(figure.axes[0].lines) == 1 + 2


@pytest.mark.parametrize(("by", "rows"), [("class", CLASSES), ("subject", ("subject 7", "subject 8"))])
def test_use_of_codes_is_in_percent_of_each_owners_tokens(
    tmp_path: Path, by: str, rows: tuple[str, ...]
) -> None:
    found = made_up(tmp_path)
    ax = code_figures.usage(found, by, axis())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(rows)
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(n) for n in found.order]
    values = np.asarray(ax.collections[0].get_array()).reshape(len(rows), -1)
    assert values.sum(1) == pytest.approx([100.0] * len(rows))
    if by == "class":  # class 0 uses codes 0 and 1, half and half
        assert dict(zip(found.order, values[0], strict=True)) == {0: 50, 1: 50, 2: 0, 3: 0}


def test_codes_stand_beside_others_of_the_same_sub_action(tmp_path: Path) -> None:
    found = made_up(tmp_path)
    ax = code_figures.sub_actions(found, "cooccurrence", axis())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CONCEPTS)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "3", "1", "2"]
    values = np.asarray(ax.collections[0].get_array()).reshape(len(CONCEPTS), -1)
    assert list(values[0]) == pytest.approx([0.8, 0.8, 0.1, 0.1])


def test_similarity_has_series_down_and_text_across(tmp_path: Path) -> None:
    ax = code_figures.similarity(made_up(tmp_path), axis())
    assert [text.get_text() for text in ax.texts][:5] == [".90", ".10", ".20", ".30", ".80"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("series of class", "text of class")


def test_tokens_lie_from_their_start_to_their_end_on_their_own_channel(tmp_path: Path) -> None:
    one = made_up(tmp_path / "independent")
    assert [span[:2] for span in series_figures.spans(one, 0, 1)] == [
        (0, 0.25),
        (0.25, 0.5),
        (0.5, 0.75),
        (0.75, 1),
    ]
    assert [code for _, _, code, _ in series_figures.spans(one, 1, 0)] == [1, 2, 1, 2]
    flat = made_up(tmp_path / "flatten", channels="flatten")
    assert [span[:2] for span in series_figures.spans(flat, 0, 0)] == [(0, 0.5), (0.5, 1)]
    assert [k for _, _, _, k in series_figures.spans(flat, 0, 1)] == [2, 3]


def test_spans_that_overlap_get_lanes_of_their_own_as_far_as_there_are_any() -> None:
    found = [(0.0, 0.5, 1, 0), (0.2, 0.6, 1, 1), (0.3, 0.7, 1, 2), (0.5, 0.9, 1, 3)]
    assert series_figures.lanes(found, 2) == [0, 1, -1, 0]


def test_a_picture_shows_a_window_of_each_class_on_its_liveliest_channel(tmp_path: Path) -> None:
    found = made_up(tmp_path)
    figure, left = series_figures.reconstructions(found, most=3)
    above = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title().split(",")[0] for ax in above] == list(CLASSES)
    assert left == 0
    series, reconstruction = above[1].lines
    m = series_figures.liveliest(found, 1)
    assert np.array_equal(series.get_ydata(), found.series[1, m])
    assert np.array_equal(reconstruction.get_ydata(), found.x_hat[1, m])  # type: ignore[index]
    below = figure.axes[4]
    assert [line.get_xdata()[0] for line in below.lines] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert [text.get_text() for text in below.texts] == ["1", "2", "1", "2"]


def test_codes_are_of_the_validation_best_trial_of_the_best_row_that_has_some(tmp_path: Path) -> None:
    score = {("a", 1, 0): 0.8, ("a", 0, 0): 0.7, ("none", 0, 0): 0.95, ("none", 1, 0): 0.95}
    metrics = lambda *key: {"test/macro_f1": 0.5, "val/macro_f1": score.get(key, 0.5)}  # noqa: E731
    write_ledger(
        tmp_path, rows=("a", "b", "none"), seeds=2, folds=1, unit="seed", reference=None, scores=metrics
    )
    for row in ("a", "b"):
        for seed in (0, 1):
            write_lexicon(tmp_path, signature(row, seed, 0), made_up_lexicon(text=row == "a"))
    source = Source(tmp_path, "made_up")
    found = dict(figures.draw(source, ["codebook", "code_usage", "text_similarity"]))
    usage = found["code_usage"]
    assert isinstance(usage, Drawn)
    whose = "Row a (number 2 on validation, the best with codes), its validation-best trial "
    assert whose + signature("a", 1, 0) in usage.caption
    pictures = found["text_similarity"]
    assert isinstance(pictures, Drawn)  # of row a alone: b reads no text
    assert [ax.get_title() for ax in pictures.figure.axes if ax.get_title()] == ["a"]


def test_where_trials_have_codes_that_nobody_read_off_the_verb_to_run_is_named(tmp_path: Path) -> None:
    metrics = lambda *key: {"val/macro_f1": 0.5, "codes/perplexity": 3.0}  # noqa: E731
    write_ledger(tmp_path, rows=("a",), seeds=1, folds=1, unit="seed", reference=None, scores=metrics)
    ((_, found),) = figures.draw(Source(tmp_path, "made_up"), ["text_similarity"])
    assert isinstance(found, Missing) and "run `shapelex codes sweeps/made_up.yaml` first" in str(found)


def test_a_torn_lexicon_is_no_figure_and_says_which_trial(tmp_path: Path) -> None:
    write_ledger(tmp_path, rows=("a",), seeds=1, folds=1, unit="seed", reference=None)
    path = lexicon.path(tmp_path, signature("a", 0, 0))
    for torn in (b"PK\x03\x04torn", b""):
        path.write_bytes(torn)
        ((_, found),) = figures.draw(Source(tmp_path, "made_up"), ["codebook"])
        assert isinstance(found, Missing) and signature("a", 0, 0) in str(found)
    write_lexicon(
        tmp_path, signature("a", 0, 0), {"shape": np.zeros(3), **dict.fromkeys(lexicon.TEXT, np.array(["x"]))}
    )
    ((_, found),) = figures.draw(Source(tmp_path, "made_up"), ["codebook"])
    assert isinstance(found, Missing) and "expected an array 'z'" in str(found)


def test_a_lexicon_of_another_try_is_no_figure_and_says_what_to_do(tmp_path: Path) -> None:
    write_ledger(tmp_path, rows=("a",), seeds=1, folds=1, unit="seed", reference=None)
    name = signature("a", 0, 0)
    write_lexicon(tmp_path, name, made_up_lexicon(result=np.array(["1", "1999-01-01T00:00:00Z #1"])))
    ((_, found),) = figures.draw(Source(tmp_path, "made_up"), ["codebook"])
    assert isinstance(found, Missing) and f"`shapelex codes {name}` reads it anew" in str(found)


def test_a_lexicon_that_pickles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        made_up(tmp_path, label=np.array([{}], dtype=object))
