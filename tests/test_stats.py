"""The ledger's frame and the paired statistics over it, on made-up numbers."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ledger_fixture import made_up_scores, signature, write_ledger
from statsmodels.stats.multitest import multipletests

from analysis import load, stats

METRIC = "test/macro_f1"


def _read(store: Path) -> pd.DataFrame:
    return load.frame(store, "made_up")


def _fold_means(row: str) -> np.ndarray:
    """Computed past analysis: mean over five seeds for each of five folds."""
    scores = [[made_up_scores(row, seed, fold)[METRIC] for seed in range(5)] for fold in range(5)]
    return np.asarray(scores).mean(axis=1)


def test_the_frame_has_one_line_per_cell_in_plan_order(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path, failed=[("z_one_way", 1, 2)], missing=[("vqshape", 0, 0)])
    frame = _read(tmp_path)
    assert list(frame["signature"]) == [cell["signature"] for cell in plan["cells"]]
    assert dict(frame["status"].value_counts()) == {"done": len(frame) - 2, "failed": 1, "missing": 1}
    assert list(frame.loc[frame["status"] == "failed", "error"]) == ["RuntimeError: loss is not finite"]
    assert list(frame.loc[frame["status"] == "failed", "failure"]) == ["failed"]
    assert set(frame.loc[frame["status"] != "failed", "failure"]) == {""}
    assert str(frame["seed"].dtype) == "Int64"
    assert set(frame.loc[frame["seed"].isna(), "row"]) == {"statistics"}
    assert frame["cost/train_s"].dtype == "float64"
    assert set(frame["env/threads"].dropna()) == {"1"}


def test_a_missing_plan_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run `shapelex plan sweeps/quick.yaml` first"):
        load.frame(tmp_path, "quick")


@pytest.mark.parametrize(
    "text", ['{"schema": 1, "sta', "[]", '{"status": "done", "signature": "of another"}']
)
def test_an_unreadable_or_foreign_result_counts_as_missing(tmp_path: Path, text: str) -> None:
    write_ledger(tmp_path)
    (tmp_path / "trials" / signature("vqshape", 0, 0) / "result.json").write_text(text)
    frame = _read(tmp_path)
    lost = frame[frame["status"] == "missing"]
    assert list(lost["signature"]) == [signature("vqshape", 0, 0)]
    assert lost[METRIC].isna().all()


def test_a_pruned_trial_is_never_in_a_frame(tmp_path: Path) -> None:
    cell = ("vqshape", 0, 0)
    write_ledger(tmp_path, missing=[cell])
    whole = _read(tmp_path)
    unplanned, planned = (tmp_path / "trials" / name for name in ("f" * 16, signature(*cell)))
    for folder in (unplanned / "attempt-1", planned / "attempt-2"):
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"epoch": 0, "val/macro_f1": 0.99}\n')
    told = {"signature": signature(*cell), "status": "pruned", "metrics": {METRIC: 0.99}}
    (planned / "result.json").write_text(json.dumps(told))
    pd.testing.assert_frame_equal(_read(tmp_path), whole)
    curves = load.curves(tmp_path, "made_up")
    assert 0.99 not in set(curves["val/macro_f1"])


def test_threads_are_read_from_a_trials_configuration(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    path = tmp_path / "trials" / signature("vqshape", 0, 0) / "result.json"
    result = json.loads(path.read_text())
    del result["environment"]["threads"]
    path.write_text(json.dumps(result | {"config": {"threads": 4}}))
    frame = _read(tmp_path)
    assert dict(frame["env/threads"].value_counts()) == {"1": len(frame) - 1, "4": 1}


def test_curves_skip_a_truncated_last_line_and_take_the_later_of_two_equal_epochs(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    path = tmp_path / "trials" / signature("vqshape", 3, 1) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 2, "train/loss": 7.5}\n{"epoch": 3, "train/lo')
    curves = load.curves(tmp_path, "made_up")
    mine = curves[(curves["row"] == "vqshape") & (curves["seed"] == 3) & (curves["fold"] == 1)]
    assert list(mine["epoch"]) == [0, 1, 2]
    assert mine["train/loss"].iloc[-1] == 7.5
    assert "statistics" not in set(curves["row"])


def _by_class(row: str, seed: int | None, fold: int) -> dict[str, Any]:
    """F1s of classes a and b, of which fold 1 has only a; a subject a fold; a matrix of the cell."""
    f1 = {"a": 0.1 * fold + 0.01 * (seed or 0), "b": 0.5}
    return {
        "data": {"name": "made_up_data", "validation": "subjects", "classes": ["a", "b"]},
        "per_class_f1": {k: v for k, v in f1.items() if k == "a" or fold != 1},
        "per_subject_macro_f1": {str(fold + 10): 0.4 + 0.1 * (seed or 0)},
        "confusion": [[3, seed or 0], [fold, 4]],
    }


def test_values_by_class_and_subject_have_a_line_each_of_done_cells_alone(tmp_path: Path) -> None:
    rows = ("vqshape", "statistics")
    plan = write_ledger(
        tmp_path, rows=rows, seeds=2, folds=2, failed=[("vqshape", 1, 0)], reference=None, parts=_by_class
    )
    classes, subjects = load.per(tmp_path, "made_up", "class"), load.per(tmp_path, "made_up", "subject")
    keys = [tuple(cell[k] for k in ("row", "seed", "fold")) for cell in plan["cells"]]
    expected = [
        (row, seed, fold, name, value)
        for row, seed, fold in keys
        if (row, seed, fold) != ("vqshape", 1, 0)
        for name, value in _by_class(row, seed, fold)["per_class_f1"].items()
    ]
    found = classes.astype({"seed": "object"}).where(classes.notna(), None)
    assert list(found.itertuples(index=False, name=None)) == expected
    assert list(classes) == ["row", "seed", "fold", "class", "value"]
    assert list(subjects["subject"].unique()) == ["10", "11"] and str(subjects["seed"].dtype) == "Int64"
    with pytest.raises(ValueError, match="expected by 'class' or 'subject', found 'fold'"):
        load.per(tmp_path, "made_up", "fold")  # type: ignore[arg-type]


def test_results_of_before_there_were_values_by_class_give_an_empty_frame(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    assert load.per(tmp_path, "made_up", "class").empty and load.confusions(tmp_path, "made_up") == {}


def test_confusion_matrices_are_summed_over_a_rows_done_cells(tmp_path: Path) -> None:
    failed, broken = ("vqshape", 1, 0), ("vqshape", 0, 1)

    def parts(row: str, seed: int | None, fold: int) -> dict[str, Any]:
        cut = {"confusion": [[1, 2, 3]]} if (row, seed, fold) == broken else {}
        return _by_class(row, seed, fold) | cut

    rows = ("vqshape", "statistics")
    write_ledger(tmp_path, rows=rows, seeds=2, folds=2, failed=[failed], reference=None, parts=parts)
    found = load.confusions(tmp_path, "made_up")
    assert [(row, classes) for row, (classes, _) in found.items()] == [(row, ["a", "b"]) for row in rows]
    assert found["vqshape"][1].tolist() == [[6, 1], [1, 8]]
    assert found["statistics"][1].tolist() == [[6, 0], [1, 8]]
    assert found["vqshape"][1].dtype == np.int64


def test_epochs_are_known_where_epochs_are_trained(tmp_path: Path) -> None:
    config = {"config": {"train": {"epochs": 30}}}
    write_ledger(
        tmp_path,
        seeds=1,
        folds=1,
        parts=lambda row, *_: config | {"best_epoch": None if row == "statistics" else 29},
    )
    frame = _read(tmp_path)
    assert dict(frame.groupby("row")["budget/epochs"].max().dropna()) == {
        row: 30 for row in frame["row"] if row != "statistics"
    }
    assert set(frame["finished"]) == {"2026-11-21T21:00:00Z"}


def test_five_folds_of_five_seeds_are_five_pairs_and_equal_scipy(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    table = stats.summary(_read(tmp_path), METRIC, "fold")
    for row in ("supervised", "z_two_way"):
        means = _fold_means(row)
        expected = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
        found = table.loc[row]
        assert (found["n"], found["done"]) == (5, 25)
        assert found["mean"] == pytest.approx(means.mean())
        assert found["sd"] == pytest.approx(means.std(ddof=1))
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_a_difference_equals_scipys_paired_t_test_on_fold_means(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    found = stats.contrast(_read(tmp_path), METRIC, "fold", "z_one_way", "shuffled_samples")
    test = scipy.stats.ttest_rel(_fold_means("z_one_way"), _fold_means("shuffled_samples"))
    expected = test.confidence_interval(0.95)
    assert (found.n, found.remark) == (5, "")
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_folds_times_seeds_cannot_be_pooled(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    frame = _read(tmp_path)
    with pytest.raises(ValueError, match="pseudo-replication"):
        stats.per_pair(frame, METRIC, "seed")
    with pytest.raises(ValueError, match="expected unit 'fold' or 'seed', found 'cell'"):
        stats.per_pair(frame, METRIC, "cell")  # type: ignore[arg-type]
    pooled = frame.set_index(["fold", "seed"])[METRIC]
    with pytest.raises(ValueError, match="columns of per_pair"):
        stats.difference(pooled, pooled)
    repeated = frame.set_index("fold")[METRIC]
    with pytest.raises(ValueError, match="columns of per_pair"):
        stats.difference(repeated, repeated)


def test_a_row_without_seed_stands_for_every_seed(tmp_path: Path) -> None:
    write_ledger(tmp_path, folds=1, unit="seed")
    frame = _read(tmp_path)
    pairs = stats.per_pair(frame, METRIC, "seed")
    value = made_up_scores("statistics", None, 0)[METRIC]
    assert list(pairs["statistics"]) == [value] * 5
    drawn = [made_up_scores("z_one_way", seed, 0)[METRIC] for seed in range(5)]
    found = stats.contrast(frame, METRIC, "seed", "z_one_way", "statistics")
    assert (found.n, found.p) == (5, pytest.approx(scipy.stats.ttest_1samp(drawn, value).pvalue))
    own = stats.summary(frame, METRIC, "seed").loc["statistics"]
    assert own["mean"] == value and own[["sd", "low", "high"]].isna().all()


def test_a_difference_uses_only_the_cells_that_both_rows_have(tmp_path: Path) -> None:
    lost = [("z_one_way", 4, 0), *(("vqshape", seed, 3) for seed in range(5))]
    write_ledger(tmp_path, failed=lost)
    found = stats.contrast(_read(tmp_path), METRIC, "fold", "z_one_way", "vqshape")
    seeds_by_fold = {0: range(4), 1: range(5), 2: range(5), 4: range(5)}
    expected = [
        np.mean(
            [
                made_up_scores("z_one_way", seed, fold)[METRIC]
                - made_up_scores("vqshape", seed, fold)[METRIC]
                for seed in seeds
            ]
        )
        for fold, seeds in seeds_by_fold.items()
    ]
    assert (found.n, found.mean) == (4, pytest.approx(np.mean(expected)))


def test_equal_columns_have_no_variation_and_no_nan_and_no_warning(tmp_path: Path) -> None:
    write_ledger(
        tmp_path, scores=lambda row, seed, fold: {METRIC: 0.1 + 0.1 * fold + (row == "vqshape") / 10}
    )
    frame = _read(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = stats.contrast(frame, METRIC, "fold", "z_one_way", "supervised")
        shifted = stats.contrast(frame, METRIC, "fold", "vqshape", "supervised")
        table = stats.summary(frame[frame["fold"] == 0], METRIC, "fold")
    assert same == stats.Difference(0.0, None, None, None, 5, "no variation")
    assert (shifted.mean, shifted.p, shifted.remark) == (pytest.approx(0.1), None, "no variation")
    assert set(table["n"]) == {1}


def test_one_pair_has_a_mean_but_no_interval_and_no_pair_has_nothing(tmp_path: Path) -> None:
    write_ledger(tmp_path, folds=1, missing=[("vqshape", seed, 0) for seed in range(5)])
    frame = _read(tmp_path)
    one = stats.contrast(frame, METRIC, "fold", "z_one_way", "supervised")
    assert one.mean is not None
    assert (one.low, one.p, one.n, one.remark) == (None, None, 1, "n = 1, no interval")
    none = stats.contrast(frame, METRIC, "fold", "vqshape", "supervised")
    assert none == stats.Difference(None, None, None, None, 0, "no common pair")
    spread = stats.summary(frame, METRIC, "fold")[["sd", "low", "high"]]
    assert spread.isna().all(axis=None)


def test_holm_adjusts_what_is_known_and_leaves_none_alone() -> None:
    assert stats.holm([None, None]) == [None, None]
    found = stats.holm([0.03, None, 0.01, 0.02])
    expected = multipletests([0.03, 0.01, 0.02], method="holm")[1]
    assert found == [expected[0], None, expected[1], expected[2]]
    assert found[2] == pytest.approx(0.03)


def test_an_unknown_metric_names_the_nearest_known_one(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'test/macro_f1'"):
        stats.per_pair(_read(tmp_path), "test/macrof1", "fold")


def test_notes_say_what_n_allows() -> None:
    folds = " ".join(stats.note(5, "fold"))
    assert "share training data" in folds and "0.0625: no star would be honest" in folds
    assert "no star would be honest" not in " ".join(stats.note(6, "fold"))
    seeds = " ".join(stats.note(5, "seed", validation="stratified part", done=3, planned=7))
    assert "training randomness only" in seeds and "stratified part" in seeds
    assert "Incomplete: 3 of 7 cells done" in seeds
    assert "no interval" in " ".join(stats.note(1, "fold"))
    assert "Incomplete" not in " ".join(stats.note(5, "fold", done=7, planned=7))


def test_loading_the_ledger_imports_nothing_heavy() -> None:
    heavy = [
        "scipy",
        "statsmodels",
        "seaborn",
        "matplotlib",
        "torch",
        "mlflow",
        "optuna",
        "model",
        "experiments",
    ]
    script = "import json, sys, analysis.load; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    )
    assert "analysis.load" in loaded
    assert not set(heavy) & set(loaded)
