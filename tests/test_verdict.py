"""The verdict says what the table's numbers allow, and no more."""

from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from ledger_fixture import write_ledger

from analysis import ablation_tables, choice, load, verdict
from analysis.table import Table

METRIC = "test/macro_f1"
VALUES = {  # row -> test macro-F1 of each fold or seed
    "plain": (0.70, 0.71, 0.69, 0.70, 0.72),
    "text": (0.80, 0.82, 0.79, 0.81, 0.80),
    "shuffled": (0.70, 0.70, 0.71, 0.68, 0.73),
    "alike": (0.70, 0.71, 0.69, 0.70, 0.72),
}
VALIDATION = {"plain": 0.6, "text": 0.9, "shuffled": 0.5, "alike": 0.4}


def said(store: Path, rows: tuple[str, ...] = ("plain", "text", "shuffled"), **ledger: Any) -> list[str]:
    plan, table = made(store, rows, **ledger)
    return verdict.sentences(plan, table, METRIC, ranked(store, plan))


def ranked(store: Path, plan: dict[str, Any]) -> list[str]:
    rows = [row["name"] for row in plan["rows"]]
    return choice.ranking(load.frame(store, plan["sweep"]), plan["unit"], rows)


def made(store: Path, rows: tuple[str, ...], **ledger: Any) -> tuple[dict[str, Any], Table]:
    given = {"seeds": 1, "folds": 5, "reference": "plain", "fixed": ()} | ledger

    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        place = fold if given["folds"] > 1 else seed or 0
        return {METRIC: VALUES[row][place], "val/macro_f1": VALIDATION[row], "codes/dead_frac": 0.1 * place}

    plan = write_ledger(store, "made_up", rows, scores=scores, **given)
    return plan, ablation_tables.build(load.frame(store, "made_up"), plan, given.get("metric", METRIC))


def test_the_row_best_on_validation_is_held_against_the_reference_with_the_tables_numbers(
    tmp_path: Path,
) -> None:
    first, second = said(tmp_path)
    test = scipy.stats.ttest_rel(VALUES["text"], VALUES["plain"])
    low, high = (f"{100 * end:+.1f}" for end in test.confidence_interval(0.95))
    assert test.pvalue * 2 < 0.001
    assert first == (
        f"text scores 10.0 points higher than plain in test macro-F1 (95 % interval {low} to {high}, "
        "p <.001, Holm-adjusted over 2, n = 5; the best of 2 rows on validation, against the reference)."
    )
    assert second.startswith("It rests on 5 subject folds") and "only large" not in second


def test_the_first_contrast_comes_before_the_reference_and_an_interval_that_holds_0_leaves_it_open(
    tmp_path: Path,
) -> None:
    first, second = said(tmp_path, contrasts=[("shuffled", "plain"), ("text", "plain")])
    assert first.startswith(
        "Whether shuffled and plain differ in test macro-F1 is open: shuffled scores 0.0 points"
    )
    assert (
        "the interval of the difference holds 0" in first and "the first of the sweep's 2 contrasts" in first
    )
    assert "only large differences show" in second


def test_what_holms_adjustment_takes_away_is_no_finding(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(VALUES, "text", (0.75, 0.72, 0.73, 0.705, 0.77))
    rows = ("plain", "text", "shuffled")
    assert scipy.stats.ttest_rel(VALUES["text"], VALUES["plain"]).pvalue < 0.05
    first, _ = said(tmp_path, rows)
    assert first.endswith("; adjusted for the 2 comparisons of the table this is no longer significant.")


def test_one_pair_and_no_pair_and_no_variation_give_no_interval(tmp_path: Path) -> None:
    first, second = said(tmp_path / "one", folds=1, unit="seed")
    assert first.startswith("In the one seed that has both, text scores 10.0 points higher than plain")
    assert second == "One pair gives no interval and no test: this is an observation, not a finding."
    missing = [("text", 0, fold) for fold in range(5)]
    nothing, none = said(tmp_path / "none", missing=missing, contrasts=[("text", "plain")])
    assert "can't be compared yet: no fold has a result of both" in nothing and none == "There is no verdict."
    same, _ = said(tmp_path / "same", ("plain", "alike"))
    assert same.startswith("alike and plain score alike in test macro-F1 in each of 5 folds")
    assert "which is better there" in same


def test_rows_that_tie_on_validation_are_not_called_the_best(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(VALIDATION, "shuffled", VALIDATION["text"])
    assert "one of 2 that tie for best of 2 rows on validation" in said(tmp_path / "with")[0]
    alone = said(tmp_path / "without", reference=None)[0]
    assert "text is one of 2 rows that tie for best on validation" in alone


@pytest.mark.parametrize(("unit", "folds", "n"), [("fold", 5, 5), ("seed", 1, 3)])
def test_without_a_reference_nothing_is_compared(tmp_path: Path, unit: str, folds: int, n: int) -> None:
    first, second = said(tmp_path, reference=None, unit=unit, folds=folds, seeds=3 if folds == 1 else 1)
    assert first.startswith(
        "The sweep names no reference and no contrasts, so that nothing is compared; text "
    )
    assert f"n = {n})" in first and f"{n} {'subject folds' if unit == 'fold' else 'seeds'}" in second


def test_validation_picks_one_row_for_tables_verdict_and_codes(tmp_path: Path) -> None:
    # Folds weigh the same, whatever is missing in them: cells alone would pick `often`.
    val = {"seldom": (0.5, 0.9), "often": (0.8, 0.55), "worse": (0.7, 0.6)}
    missing = [("seldom", seed, 1) for seed in (1, 2)] + [("often", seed, 1) for seed in (1, 2)]

    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        return {METRIC: 0.5, "val/macro_f1": val[row][fold], "codes/perplexity": 2.0}

    rows = ("worse", "often", "seldom")
    plan = write_ledger(
        tmp_path, "made_up", rows, seeds=3, folds=2, reference=None, missing=missing, fixed=(), scores=scores
    )
    frame = load.frame(tmp_path, "made_up")
    table, ranking = ablation_tables.build(frame, plan, METRIC), choice.ranking(frame, "fold", rows)
    assert ranking == ["seldom", "often", "worse"]
    assert [(place, mark) for place, _, mark in sorted(table.marks)] == [(1, "underline"), (2, "bold")]
    assert "; seldom is best on validation" in verdict.sentences(plan, table, METRIC, ranking)[0]
    coded = choice.best_coded(frame, "fold", rows)
    assert coded is not None and coded[0] == "seldom"


def test_rows_that_tie_on_validation_are_ranked_by_series_error(tmp_path: Path) -> None:
    error = {"a": 0.3, "b": 0.2}

    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        return {"val/macro_f1": 0.5} | ({"val/series_mse": error[row]} if row in error else {})

    rows = ("none", "a", "b")
    write_ledger(tmp_path, "made_up", rows, seeds=1, folds=2, reference=None, fixed=(), scores=scores)
    assert choice.ranking(load.frame(tmp_path, "made_up"), "fold", rows) == ["b", "a", "none"]


def test_a_metric_that_is_better_lower_says_so_and_grave_notes_stand_beside(tmp_path: Path) -> None:
    rows = ("plain", "text")
    plan, _ = made(tmp_path, rows, failed=[("text", 0, 4)])
    table = ablation_tables.build(load.frame(tmp_path, "made_up"), plan, "codes/dead_frac")
    first, _ = verdict.sentences(plan, table, "codes/dead_frac", ranked(tmp_path, plan))
    assert first.startswith("text and plain score alike in codes/dead_frac in each of 4 folds")
    incomplete, failed = verdict.warnings(table)
    assert incomplete.startswith("Incomplete: 9 of 10 cells") and failed.startswith("Failed cells, 1 of 10")


def test_rows_that_rebuild_nothing_are_named_gravely_and_trials_of_before_are_not(tmp_path: Path) -> None:
    r2 = {("flat", 0): -0.02, ("flat", 1): 0.1, ("half", 0): 0.02, ("half", 1): 0.6}

    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        return {"val/macro_f1": 0.5, METRIC: 0.5} | (
            {"val/series_r2": r2[row, fold]} if (row, fold) in r2 else {}
        )

    rows = ("before", "flat", "half")
    plan = write_ledger(tmp_path, "made_up", rows, seeds=1, folds=2, reference=None, fixed=(), scores=scores)
    table = ablation_tables.build(load.frame(tmp_path, "made_up"), plan)
    (said,) = verdict.warnings(table)
    assert said.startswith("Not rebuilt (mean val/series_r2 below 0.1): flat 0.04. ")
