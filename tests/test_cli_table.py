"""`shapelex table`, of results that were made up."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ledger_fixture import made_up_scores
from mirror_fixture import empty, runs
from typer.testing import CliRunner, Result

from experiments.cli import app
from experiments.ledger import Store
from experiments.mlflow_ids import run_ids
from experiments.sweep import load

__all__ = ["empty"]  # a fixture
GRID = """# Does it grow?
seeds: 2
reference: plain vq=0.5
grid: {losses.vq: [0.5, 1]}
variants:
  plain: {model.guidance.attention: none}
  labels: {model.guidance.attention: none, losses.ce_series: 0.1}
"""
FCN = "# Which?\nseeds: 3\nvariants:\n  fcn: {baseline: fcn}\n"


def write(store: Path, name: str, text: str, **more: Any) -> Path:
    """A sweep file beside its store, all of its cells done."""
    file = store / f"{name}.yaml"
    file.write_text(text)
    for cell in load(file, Store(store)).cells:
        folder = store / "trials" / cell.signature
        folder.mkdir(parents=True, exist_ok=True)
        result = {
            "signature": cell.signature,
            "status": "done",
            "finished_at": "2026-11-21T21:00:00Z",
            "data": {"name": "basic_motions"},
            "metrics": made_up_scores(cell.row, cell.seed, cell.fold),
            "per_class_f1": {"running": 0.75, "walking": 0.25},
            **more,
        }
        (folder / "result.json").write_text(json.dumps(result))
    return file


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return write(tmp_path, "grid", GRID)


def table(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["table", str(file), "--store", str(file.parent), *options])


def test_of_several_metrics_the_first_is_tested_and_the_others_are_beside(grid: Path) -> None:
    done = table(grid, "--metric", "test/accuracy", "--metric", "test/tokens/macro_f1")
    head = next(line for line in done.stdout.splitlines() if line.startswith("| row"))
    assert [name.strip() for name in head.split("|")[1:-1]] == [
        *("row", "n", "acc.", "tokens", "vs plain vq=0.5", "p", "val")
    ]
    unknown = table(grid, "--metric", "test/acuracy")
    assert (unknown.exit_code, unknown.stderr) == (
        2,
        "no metric 'test/acuracy' in grid: did you mean 'test/accuracy'?\n",
    )


def test_a_metric_of_evaluations_names_their_command(grid: Path) -> None:
    refused = table(grid, "--metric", "robust/noise/0.4/macro_f1")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "no metric 'robust/noise/0.4/macro_f1' in grid yet: `shapelex evaluate` measures it\n",
    )


def test_several_sweeps_are_one_table_with_a_leaderboard(grid: Path, tmp_path: Path) -> None:
    other = write(tmp_path, "other", GRID.replace("seeds: 2", "seeds: 3"))
    done = table(grid, str(other), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    assert (
        "basic_motions (grid) (n = 2 seeds)" in done.stdout and "Leaderboard over 2 data sets" in done.stdout
    )
    ends = (".md", ".csv", ".tex", "-standalone.tex", "-differences.csv", "-leaderboard.csv")
    assert {f"grid-other-by-dataset{end}" for end in ends} == set(os.listdir(tmp_path / "out"))
    assert table(grid, str(other)).stdout == table(grid, str(other), str(grid)).stdout
    assert "nothing to rank" in table(grid, "--by", "dataset").stdout


def test_a_csv_of_all_cells_has_every_metric(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert table(grid, "--out", str(out)).stdout.endswith(f"wrote {out / 'grid-cells.csv'}\n")
    with (out / "grid-cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert len({cell["signature"] for cell in cells}) == len(cells) == 8
    told = made_up_scores(cells[0]["row"], int(cells[0]["seed"]), 0)
    assert {name: float(cells[0][name]) for name in told} == told and cells[0]["status"] == "done"


def test_factors_of_a_grid_and_none_where_there_is_none(grid: Path, tmp_path: Path) -> None:
    done = table(grid, "--rows", "factors")
    assert (
        "| vq: 1 \N{MINUS SIGN} 0.5" in done.stdout
        and "over the 4 rows that cross variant (2)" in done.stdout
    )
    lone = table(write(tmp_path, "lone", FCN), "--rows", "factors")
    assert lone.stdout.startswith("lone: its rows cross no settings") and len(lone.stdout.splitlines()) == 1
    found = {"schema": 1, "studies": [], "rows": {"fcn": {"train.lr": 1.0}}}
    (tmp_path / "sweeps/lone/importances.json").write_text(json.dumps(found))
    assert "| fcn | 100.0 |" in table(tmp_path / "lone.yaml", "--rows", "factors").stdout


def test_classes_are_shown_and_what_is_not_there_is_refused(grid: Path) -> None:
    assert "| plain vq=0.5  |    75.0 |    25.0 | 50.0 |" in table(grid, "--by", "class").stdout
    subject = table(grid, "--by", "subject")
    assert (subject.exit_code, subject.stderr) == (1, "grid: no done cell has values by subject\n")
    metric = table(grid, "--by", "class", "--metric", "test/accuracy")
    assert (metric.exit_code, metric.stderr) == (
        2,
        "--by class has a score of its own: it takes no --metric\n",
    )


def test_options_that_ask_for_different_tables_are_refused(grid: Path) -> None:
    done = table(grid, "--by", "class", "--rows", "factors")
    assert done.exit_code == 2
    assert done.stderr == "--by class and --rows factors are different tables: ask for one\n"


def test_an_unknown_row_is_told_its_nearest(grid: Path) -> None:
    done = table(grid, "--explain", "plain vq=0.6")
    assert done.exit_code == 2
    assert done.stderr.startswith("no row 'plain vq=0.6' in grid: did you mean 'plain vq=0.5'")


def test_a_sweep_of_which_nothing_is_done_has_no_table_of_any_kind(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    for options in ((), ("--rows", "factors"), ("--by", "class"), ("--by", "dataset")):
        done = table(file, *options)
        assert (done.exit_code, done.stdout) == (0, "grid: no cell is done yet.\n")
    assert table(file, "--explain", "plain vq=1").stdout.count("| missing |") == 2


def test_the_trials_of_a_row_have_their_runs_in_mlflow(empty: Path) -> None:
    file = write(empty, "lone", FCN)
    assert run_ids(empty, "lone", "fcn") == {}
    CliRunner().invoke(app, ["sync", str(file), "--store", str(empty)])
    shown = runs(empty, "lone")
    found = table(file, "--explain", "fcn").stdout
    for seed in range(3):
        run = shown[f"fcn s{seed}"]
        assert run_ids(empty, "lone", "fcn")[run.data.tags["shapelex.signature"]] == run.info.run_id
        assert run.info.run_id in found
    (empty / "mlflow.db").write_text("no database")
    assert run_ids(empty, "lone", "fcn") == {}
