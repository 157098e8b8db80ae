"""Several sweeps as one table, and rows ranked over them, on made-up numbers; scipy is the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ledger_fixture import ROWS, made_up_scores, write_ledger
from statsmodels.stats.multitest import multipletests

from analysis import datasets, leaderboard, load
from analysis.table import Table, save

METRIC = "test/macro_f1"
Three = list[datasets.Sweep]


def _sweeps(store: Path, lacks: tuple[int, str] | None = None, **more: Any) -> list[datasets.Sweep]:
    """Three sweeps on three sets, of 2, 3 and 4 folds; `lacks`: the row that one of them doesn't have."""
    found = []
    for i in range(3):
        write_ledger(
            store,
            f"sweep{i}",
            rows=[row for row in ROWS if (i, row) != lacks],
            dataset=f"set{i}",
            seeds=2,
            folds=2 + i,
            scores=lambda row, seed, fold, i=i: made_up_scores(f"{row}{i}", seed, fold),
            **more,
        )
        found.append(datasets.Sweep(load.plan(store, f"sweep{i}"), load.frame(store, f"sweep{i}")))
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Three:
    return _sweeps(tmp_path_factory.mktemp("three"))


def _below(table: Table, word: str) -> Table:
    return dict(table.below)[word]


def _scores(n: int, seed: int = 0) -> pd.DataFrame:
    draws = np.random.default_rng(seed).random((n, 4)) + np.linspace(0, 0.5, 4)
    return pd.DataFrame(draws, columns=list("abcd"), index=[f"set{i}" for i in range(n)])


def test_data_sets_are_columns_with_mean_sd_and_n_of_each(three: Three) -> None:
    table = datasets.build(three)
    assert table.header == ("row", *(f"set{i} (n = {2 + i} folds)" for i in range(3)))
    means = [np.mean([made_up_scores("z_one_way2", s, f)[METRIC] for s in range(2)]) for f in range(4)]
    line = {line[0]: line for line in table.body}["z_one_way"]
    assert line[3] == f"{100 * np.mean(means):.1f} ± {100 * np.std(means, ddof=1):.1f}"
    assert table.numeric.loc[("z_one_way", "set2", "sweep2"), "n"] == 4
    assert "mean ± sd" in table.caption
    assert any(line.startswith("set2: n = 4 subject folds") for line in table.notes)


def test_a_row_that_a_sweep_lacks_is_shown_but_not_ranked_and_named(tmp_path: Path) -> None:
    table = datasets.build(_sweeps(tmp_path, lacks=(1, "z_two_way")))
    assert {line[0]: line[2] for line in table.body}["z_two_way"] == "not in it"
    board = _below(table, "leaderboard")
    assert board.body[-1][:2] == ("z_two_way", "not ranked")
    assert "Not ranked, as they have no score somewhere: z_two_way (none on set1)." in board.notes
    assert "z_two_way" not in board.numeric.index


def test_best_and_second_are_marked_by_validation_on_each_data_set(three: Three) -> None:
    sweeps = three
    table = datasets.build(sweeps)
    for column, sweep in enumerate(sweeps, start=1):
        validation = sweep.frame.groupby(["row", "fold"])["val/macro_f1"].mean().groupby("row").mean()
        bold = [i for i, j, mark in table.marks if j == column and mark == "bold"]
        assert [table.body[i][0] for i in bold] == [validation.idxmax()]


def test_differences_are_holm_adjusted_over_all_data_sets(three: Three) -> None:
    sweeps = three
    found = _below(datasets.build(sweeps), "differences").numeric
    raw = []
    for row, dataset in found.index:
        frame = sweeps[int(dataset[-1])].frame
        means = frame.groupby(["row", "fold"])[METRIC].mean()
        raw.append(scipy.stats.ttest_rel(means[row], means["supervised"]).pvalue)
    assert list(found["p"]) == pytest.approx(raw)
    assert list(found["p_holm"]) == pytest.approx(list(multipletests(raw, method="holm")[1]))
    assert len(found) == 18


def test_sweeps_that_name_other_references_have_no_table_of_differences(three: Three) -> None:
    first, *others = three
    other = datasets.Sweep({**first.plan, "reference": "vqshape"}, first.frame)
    assert [word for word, _ in datasets.build([other, *others]).below] == ["leaderboard"]


def test_one_data_set_has_nothing_to_rank_rows_over(three: Three) -> None:
    table = datasets.build(three[:1])
    assert [word for word, _ in table.below] == ["differences"]
    assert "One data set: nothing to rank rows over." in table.notes


def test_sweeps_on_one_data_set_are_told_apart_and_said_to_be_no_two_sets(three: Three) -> None:
    sweeps = [datasets.Sweep({**s.plan, "dataset": "spar"}, s.frame) for s in three]
    table = datasets.build(sweeps)
    assert table.header[1].startswith("spar (sweep0) (n = 2")
    assert any("Sweeps on one data set (spar)" in line for line in _below(table, "leaderboard").notes)


def test_a_sweep_that_is_there_twice_is_refused(three: Three) -> None:
    with pytest.raises(ValueError, match="expected different sweeps, found one twice"):
        datasets.build([three[0], three[0]])


def test_ranks_wins_and_p_values_equal_scipys() -> None:
    scores = _scores(9)
    found = leaderboard.rank(scores, higher=True, against="a")
    ranks = scipy.stats.rankdata(-scores.to_numpy(), axis=1).mean(axis=0)
    assert found.ranks.to_dict() == pytest.approx(dict(zip(scores, ranks, strict=True)))
    assert list(found.ranks) == sorted(found.ranks)
    assert found.table["wins"].to_dict() == {
        n: int((scores.idxmax(axis=1) == n).sum()) for n in found.ranks.index
    }
    raw = {row: scipy.stats.wilcoxon(scores[row], scores["a"]).pvalue for row in "bcd"}
    assert found.table["p"].dropna().to_dict() == pytest.approx(raw)
    adjusted = dict(zip(raw, multipletests(list(raw.values()), method="holm")[1], strict=True))
    assert found.table["p_holm"].dropna().to_dict() == pytest.approx(adjusted)
    friedman = scipy.stats.friedmanchisquare(*(scores[row] for row in scores)).pvalue
    assert found.friedman == pytest.approx(friedman)


def test_pairwise_p_values_equal_scikit_posthocs() -> None:
    scikit_posthocs = pytest.importorskip("scikit_posthocs")
    scores = _scores(8, seed=3)
    found = leaderboard.rank(scores, higher=True).pairs
    melted = scores.melt(var_name="row", value_name="score")
    expected = scikit_posthocs.posthoc_wilcoxon(melted, val_col="score", group_col="row", p_adjust="holm")
    pd.testing.assert_frame_equal(found.loc[expected.index, expected.columns], expected, check_names=False)


def test_where_lower_is_better_the_lowest_is_first() -> None:
    scores = _scores(6)
    found = leaderboard.rank(scores, higher=False)
    ranks = scipy.stats.rankdata(scores.to_numpy(), axis=1).mean(axis=0)
    assert found.ranks.to_dict() == pytest.approx(dict(zip(scores, ranks, strict=True)))
    assert found.table.loc["d", "worse"] == (scores["d"] > scores[found.against]).sum()


def test_rows_that_are_equal_everywhere_share_rank_and_have_no_test() -> None:
    scores = _scores(6).assign(b=lambda s: s["a"] + 1e-15)
    found = leaderboard.rank(scores, higher=True, against="a")
    assert found.ranks["a"] == found.ranks["b"]
    assert pd.isna(found.table.loc["b", "p"]) and found.table.loc["b", "equal"] == 6
    assert found.pairs.loc["a", "b"] == 1


def test_gaps_and_single_rows_are_refused() -> None:
    scores = _scores(3)
    with pytest.raises(ValueError, match="found gaps or fewer rows"):
        leaderboard.rank(scores.mask(scores > 1.2), higher=True)
    with pytest.raises(ValueError, match="found gaps or fewer rows"):
        leaderboard.rank(scores[["a"]], higher=True)
    with pytest.raises(ValueError, match=r"expected a row of .*, found 'e'"):
        leaderboard.rank(scores, higher=True, against="e")


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (5, "nothing can be significant below six data sets"),
        (6, "with so many rows, none can be told from"),
        (8, "after Holm over 3 rows 0.02344."),
    ],
)
def test_notes_say_what_so_many_data_sets_allow(n: int, said: str) -> None:
    assert said in leaderboard.notes(leaderboard.rank(_scores(n), higher=True))[-1]


def test_a_metric_without_a_better_side_has_no_leaderboard(tmp_path: Path) -> None:
    write_ledger(tmp_path, "a", dataset="one", scores=lambda *_: {"val/penalty": 1.0, METRIC: 0.5})
    write_ledger(tmp_path, "b", dataset="two", scores=lambda *_: {"val/penalty": 1.0, METRIC: 0.5})
    sweeps = [datasets.Sweep(load.plan(tmp_path, n), load.frame(tmp_path, n)) for n in ("a", "b")]
    table = datasets.build(sweeps, "val/penalty")
    assert "No leaderboard: val/penalty does not say which way is better." in table.notes


def test_random_windows_are_marked_in_their_column(three: Three) -> None:
    first, *others = three
    table = datasets.build([datasets.Sweep({**first.plan, "split": "leaky_random"}, first.frame), *others])
    assert table.header[1].startswith("set0 LEAKY")
    assert any(line.startswith("set0: LEAKY: windows were split at random") for line in table.notes)


def test_the_same_ledgers_give_the_same_bytes(tmp_path: Path) -> None:
    def written(name: str) -> dict[str, bytes]:
        out = tmp_path / name / "out"
        sweeps = _sweeps(tmp_path / name, lacks=(1, "z_two_way"), failed=[("z_one_way", 1, 0)])
        return {path.name: path.read_bytes() for path in save(datasets.build(sweeps), out, "by-dataset")}

    first = written("a")
    ends = (".md", ".csv", ".tex", "-standalone.tex", "-differences.csv", "-leaderboard.csv")
    assert set(first) == {f"by-dataset{end}" for end in ends}
    assert first == written("b")
