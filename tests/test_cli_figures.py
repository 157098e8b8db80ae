"""`shapelex figures`, of results that were made up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.cli import app
from experiments.ledger import Store
from experiments.sweep import load

SWEEP = (
    "# Which?\nseeds: 2\nreference: fcn\nvariants:\n  fcn: {baseline: fcn}\n  other: {baseline: minirocket}\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sweep of two rows and two seeds, all of which have their result."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP)
    for i, name in enumerate(load(path, Store(tmp_path)).configs):
        folder = tmp_path / "trials" / name
        folder.mkdir(parents=True)
        metrics = {"test/macro_f1": 0.5 + i / 10, "val/macro_f1": 0.5, "robust/noise/0.1/macro_f1": 0.4}
        result = {"signature": name, "status": "done", "error": None, "metrics": metrics}
        (folder / "result.json").write_text(json.dumps(result))
    return path


def figures(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["figures", *map(str, arguments)])


def test_what_a_ledger_can_give_is_drawn_and_what_not_is_named_with_the_reason_and_without_torch(
    file: Path,
) -> None:
    code = "import sys; from experiments.cli import app\napp(sys.argv[1:], standalone_mode=False)\n"
    code += "print(sorted({'torch', 'mlflow', 'optuna'} & set(sys.modules)))"
    command = [sys.executable, "-P", "-c", code, "figures", file.name, "--store", ".", "--out", "paper"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True)
    first, second, captions, *others, imported = done.stdout.splitlines()
    assert (
        first == "paper/scores.pdf .png  Test macro-F1 in percent of tiny: pairs, mean and 95 % t interval."
    )
    assert second.startswith("paper/robustness.pdf .png  Test macro-F1 against the strength")
    assert captions.startswith("paper/captions.md")
    assert "no main_effects, interactions: the rows cross no settings: the sweep has no grid" in others
    assert "no learning_curves: no trial logs epochs" in others
    assert (
        "no codebook, code_usage, reconstruction, text_similarity, sub_actions: no trial has learned codes"
        in others
    )
    assert others[-1].startswith("no critical_difference: ranks need several data sets")
    assert imported == "[]"
    files = {path.name for path in (file.parent / "paper").iterdir()}
    assert files == {
        "captions.md",
        *(f"{n}.{end}" for n in ("scores", "robustness") for end in ("pdf", "png")),
    }
    assert "n = 2 seeds on one split" in (file.parent / "paper/captions.md").read_text()


def test_only_what_is_asked_for_is_drawn_and_unknown_names_get_the_nearest(file: Path) -> None:
    where = ("--store", file.parent, "--out", file.parent / "paper")
    assert (
        figures(file, *where, "--only", "confusion").stdout
        == "no confusion: no result has a confusion matrix\n"
    )
    assert not (file.parent / "paper").exists()
    wrong = figures(file, *where, "--only", "confusions")
    assert (wrong.exit_code, wrong.stderr) == (2, "--only confusions: did you mean 'confusion'?\n")
    wrong = figures(file, *where, "--metric", "test/macrof1")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "no metric 'test/macrof1' in tiny: did you mean 'test/macro_f1'?\n",
    )


def test_several_sweeps_have_a_folder_each_and_nothing_done_yet_is_said(file: Path) -> None:
    other = file.with_name("empty.yaml")
    other.write_text(SWEEP.replace("seeds: 2", "seeds: [7]"))
    where = ("--store", file.parent, "--out", file.parent / "paper")
    assert figures(other, *where).stdout == "empty: no cell is done yet.\n"
    said = figures(file, other, *where, "--only", "scores").stdout.splitlines()
    assert said[0].startswith(f"{file.parent}/paper/tiny/scores.pdf")
    assert said[-1] == "no scores: no cell is done yet"
