"""Rows by class and by subject, and the trials behind a row, on made-up numbers."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_fixture import ROWS, signature, write_ledger

from analysis import ablation_tables, breakdown, explain, load
from analysis.table import Table

CLASSES = ("walk", "run", "stand")


def _f1(row: str, seed: int | None, fold: int) -> dict[str, Any]:
    """F1 by class, of which fold 1 has no "stand"; two subjects a fold."""
    draws = np.random.default_rng([*row.encode(), 99 if seed is None else seed, fold])
    f1 = dict(zip(CLASSES, draws.random(3).tolist(), strict=True))
    if fold == 1:
        del f1["stand"]
    return {"per_class_f1": f1, "per_subject_macro_f1": {str(2 * fold + i): draws.random() for i in range(2)}}


def _table(store: Path, by: load.By, **ledger: Any) -> Table:
    ledger = {"parts": _f1, "seeds": 2, "folds": 3} | ledger
    plan = write_ledger(store, **ledger)
    return breakdown.build(load.per(store, "made_up", by), load.frame(store, "made_up"), plan, by)


def _line(table: Table, row: str) -> dict[str, str]:
    return next(dict(zip(table.header, line, strict=True)) for line in table.body if line[0] == row)


def test_classes_are_means_over_folds_of_means_over_seeds(tmp_path: Path) -> None:
    table = _table(tmp_path, "class")
    scores = [[_f1("z_one_way", s, f)["per_class_f1"]["walk"] for s in range(2)] for f in range(3)]
    folds = np.mean(scores, axis=1)
    numbers = table.numeric.loc[("z_one_way", "walk")]
    assert (numbers["mean"], numbers["sd"], numbers["n"]) == pytest.approx(
        (folds.mean(), folds.std(ddof=1), 3)
    )
    line = _line(table, "z_one_way")
    assert line["walk (n = 3)"] == f"{100 * folds.mean():.1f}"
    means = [table.numeric.loc[("z_one_way", name), "mean"] for name in CLASSES]
    assert line["mean"] == f"{100 * np.mean(means):.1f}"
    assert [row[0] for row in table.body] == list(ROWS)


def test_n_is_shown_where_it_varies_and_only_there(tmp_path: Path) -> None:
    header = _table(tmp_path / "a", "class").header
    assert header == ("row", "walk (n = 3)", "run (n = 3)", "stand (n = 2)", "mean")
    whole = {"per_class_f1": dict.fromkeys(CLASSES, 0.5)}
    assert _table(tmp_path / "b", "class", parts=lambda *_: whole).header == ("row", *CLASSES, "mean")
    lost = [("vqshape", seed, 2) for seed in range(2)]
    line = _line(_table(tmp_path / "c", "class", failed=lost), "vqshape")
    assert line["walk"].endswith(" (n = 2)") and line["stand"].endswith(" (n = 1)")


def test_subjects_have_a_mean_and_sd_over_them(tmp_path: Path) -> None:
    table = _table(tmp_path, "subject")
    means = table.numeric.loc["z_one_way", "mean"]
    assert list(means.index) == [str(i) for i in range(6)]
    assert _line(table, "z_one_way")["mean"] == f"{100 * means.mean():.1f} ± {100 * means.std(ddof=1):.1f}"
    expected = np.mean([_f1("z_one_way", seed, 2)["per_subject_macro_f1"]["5"] for seed in range(2)])
    assert means["5"] == pytest.approx(expected)
    assert "± sd over them" in table.caption and "seeds averaged" in table.caption


def test_many_classes_stand_on_their_side_so_that_a_terminal_holds_them(tmp_path: Path) -> None:
    names = [f"activity number {i}" for i in range(18)]
    table = _table(tmp_path, "class", parts=lambda *_: {"per_class_f1": dict.fromkeys(names, 0.5)})
    assert table.header == ("class", *ROWS)
    assert [line[0] for line in table.body] == [*names, "mean"]
    assert max(map(len, table.to_markdown().splitlines()[2:22])) <= 120


def test_rows_and_values_that_are_not_there_are_said(tmp_path: Path) -> None:
    def parts(row: str, seed: int | None, fold: int) -> dict[str, Any]:
        only = {"per_class_f1": {"walk": 0.5}} if row == "supervised" else {}
        return {} if row == "vqshape" else _f1(row, seed, fold) | only

    table = _table(tmp_path, "class", parts=parts)
    assert "No values for classes in vqshape." in table.notes
    assert any("The mean of supervised is of the other classes alone" in line for line in table.notes)
    assert _line(table, "supervised")["stand (n = 2)"] == "-"


def test_with_seeds_as_pairs_a_row_without_randomness_changes_no_n(tmp_path: Path) -> None:
    whole = {"per_class_f1": dict.fromkeys(CLASSES, 0.5)}
    table = _table(tmp_path, "class", folds=1, unit="seed", parts=lambda *_: whole)
    assert table.header == ("row", *CLASSES, "mean")
    assert table.numeric.loc[("statistics", "walk"), "n"] == 1


def test_a_ledger_without_such_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made_up: no done cell has values by subject"):
        _table(tmp_path, "subject", parts=lambda *_: {})


def test_random_windows_are_marked_in_the_caption(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path, parts=_f1) | {"split": "leaky_random"}
    frame = load.frame(tmp_path, "made_up")
    parts = breakdown.build(load.per(tmp_path, "made_up", "class"), frame, plan, "class")
    for table in (parts, explain.build(frame, plan, "vqshape")):
        assert "made_up_data (LEAKY: random windows)" in table.caption


def test_the_csv_has_a_line_a_row_and_class(tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(_table(tmp_path, "class").to_csv())))
    assert len(lines) == len(ROWS) * 3 and list(lines[0]) == ["row", "class", "mean", "sd", "n"]


def test_the_trials_of_a_row_are_listed_with_what_became_of_them(tmp_path: Path) -> None:
    lost = ("z_one_way", 1, 1)
    plan = write_ledger(
        tmp_path,
        seeds=2,
        folds=2,
        failed=[lost],
        failures={lost: "diverged"},
        missing=[("z_one_way", 0, 1)],
        factors={"z_one_way": {"losses.ce_series": 0.1}},
    )
    frame = load.frame(tmp_path, "made_up")
    run = {signature("z_one_way", 0, 0): "abc123"}
    table = explain.build(frame, plan, "z_one_way", ("test/accuracy",), run)
    shown = [(line[0], line[1], line[3], line[-1]) for line in table.body]
    assert shown == [
        ("0", "0", "done", "abc123"),
        ("0", "1", "missing", "-"),
        ("1", "0", "done", "-"),
        ("1", "1", "diverged", "-"),
    ]
    assert table.header == ("seed", "fold", "signature", "status", "acc.", "val", "finished", "MLflow run")
    assert table.body[0][2] == signature("z_one_way", 0, 0)
    assert "It sets losses.ce_series=0.1." in table.notes
    assert f"{signature(*lost)}: RuntimeError: loss is not finite" in table.notes
    with pytest.raises(ValueError, match="no row 'nobody'"):
        explain.build(frame, plan, "nobody")


def test_rows_trained_for_other_numbers_of_epochs_are_named(tmp_path: Path) -> None:
    def parts(row: str, seed: int | None, fold: int) -> dict[str, Any]:
        epochs = 60 if row == "vqshape" else 20
        best = None if row == "statistics" else epochs - 1
        return {"config": {"train": {"epochs": epochs}}, "best_epoch": best}

    plan = write_ledger(tmp_path, seeds=1, folds=2, parts=parts)
    notes = ablation_tables.build(load.frame(tmp_path, "made_up"), plan).notes
    said = [line for line in notes if line.startswith("Mixed budgets")]
    assert said == [
        "Mixed budgets, epochs: 20 (10 cells); 60 (2 cells: all of vqshape). Rows may differ for this reason."
    ]


def test_rows_named_by_their_epochs_are_no_mixture(tmp_path: Path) -> None:
    rows = ("plain epochs=20", "plain epochs=60")
    plan = write_ledger(
        tmp_path,
        rows=rows,
        reference=None,
        parts=lambda row, *_: {"config": {"train": {"epochs": int(row[-2:])}}, "best_epoch": 1},
    )
    notes = ablation_tables.build(load.frame(tmp_path, "made_up"), plan).notes
    assert not [line for line in notes if line.startswith("Mixed")]


def test_rows_that_were_not_searched_are_named_beside_those_that_were(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path)
    studies = [{"row": row, "fold": fold, "study": "s"} for row in ROWS[:-1] for fold in range(5)]
    searched = plan | {"search": {"trials": 20, "studies": studies}}
    notes = ablation_tables.build(load.frame(tmp_path, "made_up"), searched).notes
    assert any(
        line.startswith("Mixed budgets, search: 20 trials a fold for 6 rows, none for statistics")
        for line in notes
    )
