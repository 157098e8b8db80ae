"""Effects of a grid's factors, on made-up numbers; statsmodels' analyses of variance are the oracle."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api
from ledger_fixture import write_ledger
from statsmodels.stats.anova import AnovaRM, anova_lm
from statsmodels.stats.multitest import multipletests

from analysis import factors, load, stats
from analysis.design import design

METRIC = "test/macro_f1"
LEVELS = {"model.channels": ["ind", "joint"], "model.keep_scale": [False, True], "model.codes": [16, 32, 64]}


def _grid(**levels: list[Any]) -> dict[str, dict[str, Any]]:
    """Row -> what it sets; the first factor is what variants are."""
    points = [dict(zip(levels, point, strict=True)) for point in product(*levels.values())]
    return {" ".join(f"{k.split('.')[-1]}={v}" for k, v in point.items()): point for point in points}


def _write(store: Path, rows: dict[str, dict[str, Any]], **ledger: Any) -> dict[str, Any]:
    """A ledger whose variants are the first setting's values."""
    ledger = {"reference": None, "fixed": (), "seeds": 2, "folds": 4} | ledger
    write_ledger(store, "grid", rows=list(rows), factors=rows, **ledger)
    path = store / "sweeps/grid/plan.json"
    plan = json.loads(path.read_text())
    for row in plan["rows"]:
        row["variant"] = str(next(iter(row["factors"].values()), row["name"]))
    path.write_text(json.dumps(plan))
    return dict(plan)


def _long(frame: pd.DataFrame, rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A line a fold and row, seeds averaged, with its levels as a, b, c."""
    means = frame.groupby(["row", "fold"], sort=False)[METRIC].mean().reset_index(name="y")
    for letter, name in zip("abc", next(iter(rows.values())), strict=False):
        means[letter] = [str(rows[row][name]) for row in means["row"]]
    return means


@pytest.fixture
def three(tmp_path: Path) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    rows = _grid(**LEVELS)
    plan = _write(tmp_path, rows)
    frame = load.frame(tmp_path, "grid")
    return frame, plan, _long(frame, rows)


Three = tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]


def test_f_and_p_equal_those_of_a_repeated_measures_analysis_of_variance(three: Three) -> None:
    frame, plan, long = three
    found = factors.build(frame, plan).numeric
    expected = AnovaRM(long, "y", "fold", within=["a", "b", "c"]).fit().anova_table
    full = dict(zip("abc", LEVELS, strict=True))
    for term in ["a", "b", "c", "a:b", "a:c", "b:c"]:
        line = found.loc[" × ".join(full[letter] for letter in term.split(":"))]  # noqa: RUF001
        assert line["f"] == pytest.approx(expected.loc[term, "F Value"])
        assert line["p"] == pytest.approx(expected.loc[term, "Pr > F"])
    tested = found["p"].dropna()
    adjusted = multipletests(tested, method="holm")[1]
    assert list(found.loc[tested.index, "p_holm"]) == pytest.approx(list(adjusted))


def test_shares_equal_the_sums_of_squares_of_an_ordinary_analysis_and_sum_to_one(three: Three) -> None:
    frame, plan, long = three
    found = factors.build(frame, plan).numeric["eta2"]
    fitted = statsmodels.formula.api.ols("y ~ C(fold) + a * b * c", long).fit()
    squares = anova_lm(fitted)["sum_sq"].drop("C(fold)")
    expected = squares / squares.sum()
    assert found["model.codes"] == pytest.approx(expected["c"])
    assert found["model.channels × model.keep_scale"] == pytest.approx(expected["a:b"])  # noqa: RUF001
    assert found["higher interactions"] == pytest.approx(expected["a:b:c"])
    assert found["pairs × rows"] == pytest.approx(expected["Residual"])  # noqa: RUF001
    assert found.sum() == pytest.approx(1)


def test_an_effect_of_two_levels_is_found_in_each_fold_and_tested_over_folds(three: Three) -> None:
    frame, plan, long = three
    table = factors.build(frame, plan)
    means = long.groupby(["fold", "b"])["y"].mean().unstack()
    test = scipy.stats.ttest_rel(means["True"], means["False"])
    line = table.numeric.loc["model.keep_scale"]
    low, high = test.confidence_interval(0.95)
    assert (line["effect"], line["low"], line["high"], line["p"]) == pytest.approx(
        ((means["True"] - means["False"]).mean(), low, high, test.pvalue)
    )
    cells = long.groupby(["fold", "a", "b"])["y"].mean().unstack(["a", "b"])
    both = (cells["joint"]["True"] - cells["joint"]["False"]) - (cells["ind"]["True"] - cells["ind"]["False"])
    line = table.numeric.loc["model.channels × model.keep_scale"]  # noqa: RUF001
    low, high = scipy.stats.ttest_1samp(both, 0).confidence_interval(0.95)
    assert (line["effect"], line["low"], line["high"]) == pytest.approx((both.mean(), low, high))
    assert table.body[1][0] == "keep_scale: true \N{MINUS SIGN} false"


def test_an_effect_is_the_coefficient_of_an_effect_coded_regression_with_folds_as_blocks(
    three: Three,
) -> None:
    frame, plan, long = three
    coded = long.assign(a=(long["a"] == "joint") - 0.5, b=(long["b"] == "True") - 0.5)
    fitted = statsmodels.formula.api.ols("y ~ C(fold) + a * b * C(c, Sum)", coded).fit()
    effect = factors.build(frame, plan).numeric["effect"]
    assert effect["model.channels"] == pytest.approx(fitted.params["a"])
    assert effect["model.channels × model.keep_scale"] == pytest.approx(fitted.params["a:b"])  # noqa: RUF001


def test_each_level_is_compared_with_the_mean_of_levels(three: Three) -> None:
    frame, plan, long = three
    levels = dict(factors.build(frame, plan).below)["levels"]
    means = long.groupby(["fold", "c"])["y"].mean().unstack()
    off = means["32"] - means.mean(axis=1)
    line = levels.numeric.loc[("model.codes", "32")]
    low, high = scipy.stats.ttest_1samp(off, 0).confidence_interval(0.95)
    assert (line["difference/mean"], line["difference/low"], line["difference/high"]) == pytest.approx(
        (off.mean(), low, high)
    )
    assert line[f"{METRIC}/mean"] == pytest.approx(means["32"].mean())
    assert [cells[:2] for cells in levels.body][-3:] == [("codes", "16"), ("codes", "32"), ("codes", "64")]


def test_a_failed_trial_takes_its_seed_and_fold_from_every_row_and_it_is_said(tmp_path: Path) -> None:
    rows = _grid(**LEVELS)
    plan = _write(tmp_path, rows, failed=[(next(iter(rows)), 1, 2)])
    frame = load.frame(tmp_path, "grid")
    table = factors.build(frame, plan)
    whole = frame[(frame["seed"] != 1) | (frame["fold"] != 2)]
    means = _long(whole, rows).groupby(["fold", "b"])["y"].mean().unstack()
    effect = (means["True"] - means["False"]).mean()
    assert table.numeric.loc["model.keep_scale", "effect"] == pytest.approx(effect)
    assert any("Effects rest on the seeds and folds" in line for line in table.notes)


def test_n_is_that_of_the_effects_where_a_row_lacks_folds(tmp_path: Path) -> None:
    rows = _grid(**LEVELS)
    plan = _write(tmp_path, rows, missing=[(next(iter(rows)), seed, 2) for seed in range(2)])
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    folds = len({cell["fold"] for cell in plan["cells"]}) - 1
    assert f"intervals over {folds} folds" in table.caption
    assert any(line.startswith(f"n = {folds} subject folds") for line in table.notes)
    assert not any("both of its rows" in line for line in table.notes)


def test_an_excluded_point_takes_the_level_out_that_lacks_most_and_a_baseline_was_never_in(
    tmp_path: Path,
) -> None:
    rows = _grid(**LEVELS)
    del rows["channels=joint keep_scale=True codes=64"]
    rows["statistics"] = {"baseline": "statistics"}
    plan = _write(tmp_path, rows)
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    levels = dict(table.below)["levels"].numeric.loc["model.codes"]
    assert list(levels.index) == ["16", "32"] and "over the 8 rows" in table.caption
    notes = "\n".join(table.notes)
    lost = [row for row in rows if row.endswith("codes=64")]
    assert f"Not in it, as codes=64 is not crossed with all else: {', '.join(lost)}." in notes
    assert "Not in it, as the grid makes no difference there: statistics." in notes


def test_a_row_of_which_nothing_is_done_counts_as_excluded(tmp_path: Path) -> None:
    rows = _grid(**LEVELS)
    lost = [("channels=joint keep_scale=True codes=64", seed, fold) for seed in range(2) for fold in range(4)]
    plan = _write(tmp_path, rows, failed=lost)
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    assert "over the 8 rows" in table.caption
    assert any("there is no result: channels=joint keep_scale=True codes=64" in line for line in table.notes)


def test_variants_that_set_different_things_are_a_factor_by_their_names(tmp_path: Path) -> None:
    own = {"plain": {}, "wide": {"model.width": 64, "model.heads": 8}}
    rows = {f"{v} codes={c}": {**own[v], "model.codes": c} for v in own for c in (16, 32)}
    plan = _write(tmp_path, rows)
    for row in plan["rows"]:
        row["variant"] = row["name"].split()[0]
    found = design(plan, list(rows))
    assert found is not None and list(found.levels) == ["variant", "model.codes"]
    assert list(found.levels["variant"]) == ["plain", "plain", "wide", "wide"]


def test_variants_alone_are_factors_where_they_cross_settings_that_all_name(tmp_path: Path) -> None:
    rows = {f"{a}{b}": {"losses.vq": a, "losses.shape": b} for a in (0, 1) for b in (0, 1)}
    rows["statistics"] = {"baseline": "statistics"}
    plan = _write(tmp_path, rows)
    for row in plan["rows"]:
        row["variant"] = row["name"]
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    assert [line[0] for line in table.body][:3] == ["vq: 1 − 0", "shape: 1 − 0", "vq × shape"]  # noqa: RUF001


def test_a_sweep_without_factors_says_so(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path)
    with pytest.raises(factors.NoFactors, match="made_up: its rows cross no settings"):
        factors.build(load.frame(tmp_path, "made_up"), plan)


def test_equal_scores_have_neither_test_nor_nan(tmp_path: Path) -> None:
    plan = _write(tmp_path, _grid(**LEVELS), scores=lambda *_: {METRIC: 0.3})
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    assert table.body[1][1] == "+0.0 (no variation)" and table.body[2][1] == "-"
    assert "nan" not in table.to_markdown() + table.to_csv()


def test_one_pair_has_effects_without_intervals(tmp_path: Path) -> None:
    plan = _write(tmp_path, _grid(**LEVELS), folds=1, seeds=1, unit="seed")
    table = factors.build(load.frame(tmp_path, "grid"), plan)
    assert "(n = 1, no interval)" in table.body[0][1] and table.numeric["p"].isna().all()


def test_large_grids_take_no_matrix_of_all_their_cells(tmp_path: Path) -> None:
    levels = {"a": list(range(20)), "b": list(range(10)), "c": [0, 1]}
    plan = {"rows": [{"name": n, "variant": "v", "factors": f} for n, f in _grid(**levels).items()]}
    found = design(plan, [row["name"] for row in plan["rows"]])
    assert found is not None
    y = np.random.default_rng(0).random((5, 400))
    pairs = pd.DataFrame(y, columns=found.levels.index, index=pd.Index(range(5), name="fold"))
    terms, left = factors.effects(pairs, found)
    assert [term.d for term in terms] == [19, 9, 1, 171, 19, 9]
    assert sum(term.eta2 for term in terms) + sum(left.values()) == pytest.approx(1)


def test_importances_are_a_table_of_rows_and_settings(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path)
    assert load.importances(tmp_path, "made_up") == {}
    rows = {"vqshape": {"train.lr": 0.75, "model.codes": 0.25}, "z_one_way": {"train.lr": 1.0}}
    path = tmp_path / "sweeps/made_up/importances.json"
    path.write_text(json.dumps({"schema": 1, "studies": [], "rows": rows}))
    table = factors.importances(load.importances(tmp_path, "made_up"), plan)
    assert table.header == ("row", "lr", "codes")
    assert table.body == (("vqshape", "75.0", "25.0"), ("z_one_way", "100.0", "-"))
    path.write_text("{")
    assert load.importances(tmp_path, "made_up") == {}


def test_many_contrasts_at_once_equal_each_by_itself(three: Three) -> None:
    frame, plan, _ = three
    rows = [row["name"] for row in plan["rows"]]
    two = [(rows[0], rows[1]), (rows[2], rows[0])]
    assert stats.contrasts(frame, METRIC, "fold", two) == [
        stats.contrast(frame, METRIC, "fold", a, b) for a, b in two
    ]
