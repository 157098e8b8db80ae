"""The ablation table and its three formats, on made-up numbers."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ledger_fixture import ROWS, made_up_scores, signature, write_ledger

from analysis import ablation_tables, load, stats
from analysis.table import Table, save, tex
from analysis.wording import higher_is_better

METRIC = "test/macro_f1"
GLOSSARY = Path(__file__).parent.parent / "docs/metrics.md"


def _table(store: Path, **ledger: Any) -> Table:
    write_ledger(store, **ledger)
    return ablation_tables.build(load.frame(store, "made_up"), load.plan(store, "made_up"))


def _column(table: Table, name: str) -> dict[str, str]:
    header, body, _ = table.cells()
    return {line[0]: line[header.index(name)] for line in body}


def _fixed(value: Callable[[str], float]) -> Callable[[str, int | None, int], dict[str, float]]:
    return lambda row, seed, fold: {METRIC: value(row) + fold / 100, "val/macro_f1": 0.5}


def test_rows_stand_in_the_files_order_and_show_mean_sd_and_n(tmp_path: Path) -> None:
    table = _table(tmp_path)
    means = [
        np.mean([made_up_scores("z_one_way", seed, fold)[METRIC] for seed in range(5)]) for fold in range(5)
    ]
    assert list(_column(table, "row")) == list(ROWS)
    assert _column(table, "n")["z_one_way"] == "5"
    shown = f"{100 * np.mean(means):.1f} ± {100 * np.std(means, ddof=1):.1f}"
    assert _column(table, "macro-F1")["z_one_way"] == shown
    assert _column(table, "hist.")["statistics"] == "-"
    assert _column(table, "vs supervised")["supervised"] == "reference"


def test_p_values_are_holm_adjusted_over_the_differences_of_the_table(tmp_path: Path) -> None:
    table = _table(tmp_path)
    frame = load.frame(tmp_path, "made_up")
    others = [row for row in ROWS if row != "supervised"]
    pairs = stats.per_pair(frame, METRIC, "fold")
    raw = {row: scipy.stats.ttest_rel(pairs[row], pairs["supervised"]).pvalue for row in others}
    assert table.numeric.loc[others, "difference/p"].to_dict() == pytest.approx(raw)
    smallest = min(raw, key=lambda row: raw[row])
    assert table.numeric.loc[smallest, "difference/p_holm"] == pytest.approx(6 * raw[smallest])


def test_bold_follows_validation_even_where_another_row_is_better_on_test(tmp_path: Path) -> None:
    validation = {"z_two_way": 0.9, "all_one_way": 0.8}
    test = {"vqshape": 0.99, "z_two_way": 0.5, "all_one_way": 0.4}
    table = _table(
        tmp_path,
        scores=lambda row, seed, fold: {
            METRIC: test.get(row, 0.6) + fold / 1000,
            "val/macro_f1": validation.get(row, 0.7) + fold / 1000,
        },
    )
    header, body, marks = table.cells()
    marked = {(body[i][0], header[j]): mark for i, j, mark in marks}
    assert marked == {("z_two_way", "macro-F1"): "bold", ("all_one_way", "macro-F1"): "underline"}
    assert "**50.2 ± 0.2**" in table.to_markdown() and "<u>40.2 ± 0.2</u>" in table.to_markdown()
    assert (
        r"\textbf{50.2 $\pm$ 0.2}" in table.to_latex() and r"\underline{40.2 $\pm$ 0.2}" in table.to_latex()
    )
    assert "Best means best on validation" in table.caption


def test_rows_equal_on_validation_are_marked_alike_and_have_no_variation(tmp_path: Path) -> None:
    table = _table(tmp_path, rows=("supervised", "vqshape"), scores=_fixed(lambda row: 0.5))
    assert {(i, mark) for i, _, mark in table.marks} == {(0, "bold"), (1, "bold")}
    assert _column(table, "vs supervised")["vqshape"] == "+0.0 (no variation)"
    assert _column(table, "p")["vqshape"] == "-"
    assert "nan" not in table.to_markdown() + table.to_latex() + table.to_csv()


def test_nothing_is_marked_where_validation_chooses_nobody(tmp_path: Path) -> None:
    table = _table(tmp_path, scores=_fixed(lambda row: 0.5))
    assert not table.cells()[2]
    assert "More than two rows tie for best on validation: none is marked." in table.notes


def test_failed_and_missing_cells_are_shown_and_counted(tmp_path: Path) -> None:
    table = _table(
        tmp_path,
        failed=[("z_one_way", 1, 2), *(("vqshape", seed, fold) for seed in range(5) for fold in range(5))],
        missing=[("z_two_way", 4, fold) for fold in range(5)],
    )
    assert _column(table, "failed") == dict.fromkeys(ROWS, "0") | {"z_one_way": "1", "vqshape": "25"}
    assert _column(table, "macro-F1")["vqshape"] == "-"
    assert _column(table, "n") == dict.fromkeys(ROWS, "5") | {"vqshape": "0"}
    notes = "\n".join(table.notes)
    assert "Failed cells, 26 of 155:" in notes and "vqshape 25 failed" in notes
    assert "Missing cells, 5 of 155: z_two_way 5." in notes
    assert "Incomplete: 124 of 155 cells done" in notes
    assert "loss is not finite" in notes
    assert list(table.numeric["missing"]) == [5 if row == "z_two_way" else 0 for row in ROWS]


def test_a_complete_sweep_has_no_failed_column_and_no_such_note(tmp_path: Path) -> None:
    table = _table(tmp_path)
    assert "failed" not in table.header
    assert not [line for line in table.notes if "ncomplete" in line or "Failed" in line or "Mixed" in line]


def test_a_sweep_of_which_nothing_ran_is_a_table_of_gaps(tmp_path: Path) -> None:
    everything = [(row, seed, fold) for row in ROWS for seed in (None, *range(5)) for fold in range(5)]
    table = _table(tmp_path, missing=everything)
    assert set(_column(table, "macro-F1").values()) == {"-"}
    assert not table.marks
    assert "Incomplete: 0 of 155 cells done" in table.notes[0]


def test_failures_say_how_row_by_row_in_every_format(tmp_path: Path) -> None:
    words = ["diverged", "out of memory", "diverged", "crashed", None]
    lost = {("z_one_way", seed, 2): word for seed, word in enumerate(words)} | {
        ("vqshape", 0, 0): "timed out"
    }
    table = _table(tmp_path, failed=list(lost), failures={cell: word for cell, word in lost.items() if word})
    how = "2 diverged, 1 out of memory, 1 crashed, 1 failed"
    assert f"Failed cells, 6 of 155: vqshape 1 timed out; z_one_way {how}." in table.notes
    assert how in table.to_markdown() and how in table.to_latex()
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(table.to_csv()))}
    assert {row: line["failures"] for row, line in lines.items() if line["failures"]} == {
        "vqshape": "1 timed out",
        "z_one_way": how,
    }
    assert (lines["z_one_way"]["failed"], _column(table, "failed")["z_one_way"]) == ("5", "5")


def test_the_csv_has_the_same_columns_whatever_failed(tmp_path: Path) -> None:
    whole = _table(tmp_path / "whole")
    broken = _table(tmp_path / "broken", failed=[("vqshape", 0, 0)], failures={("vqshape", 0, 0): "crashed"})
    assert list(whole.numeric) == list(broken.numeric)


def test_of_many_errors_the_most_frequent_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    cells = [("vqshape", seed, fold) for seed in range(5) for fold in range(5)]
    plan = write_ledger(tmp_path, failed=cells)
    frame = load.frame(tmp_path, "made_up")
    failed = frame["status"] == "failed"
    frame.loc[failed, "error"] = [f"ValueError: {max(i, 5):02d}" for i in range(25)]
    notes = [n for n in stats.notes(frame, plan, METRIC) if n.startswith("Failed with")]
    assert notes[0] == "Failed with 'ValueError: 05': vqshape."
    assert notes[-1] == "Failed with 15 other errors: 15 cells." and len(notes) == 6


Environment = Callable[[str, int | None, int], dict[str, Any]]


def _mixed(store: Path, environment: Environment) -> list[str]:
    found = _table(store, environment=environment).notes
    return [note for note in found if note.startswith(("Mixed", "Uncommitted"))]


def test_mixed_devices_are_flagged_with_their_counts_and_rows(tmp_path: Path) -> None:
    notes = _mixed(tmp_path, lambda row, seed, fold: {"device": "cuda"} if seed == 0 else {})
    end = "Rows may differ for this reason."
    assert notes == [f"Mixed device: cpu (125 cells); cuda (30 cells: some of 6 of 7 rows). {end}"]
    cells = [("vqshape", 0, 0), ("z_one_way", 0, 0), ("z_one_way", 1, 0)]
    notes = _mixed(tmp_path, lambda *cell: {"device": "cuda"} if cell in cells else {})
    where = "1 of 25 of vqshape, 2 of 25 of z_one_way"
    assert notes == [f"Mixed device: cpu (152 cells); cuda (3 cells: {where}). {end}"]


def test_a_row_of_other_code_is_named_and_its_commit_stands_beside(tmp_path: Path) -> None:
    old, new = {"code": "c0ffee", "commit": "a" * 40}, {"code": "decade", "commit": "b" * 40}
    notes = _mixed(tmp_path, lambda row, seed, fold: new if row == "z_one_way" else old)
    assert notes == [
        f"Mixed code, commit: code c0ffee, commit {'a' * 12} (130 cells); code decade, commit {'b' * 12} "
        "(25 cells: all of z_one_way). Rows may differ for this reason."
    ]


def test_machines_that_differ_in_much_are_one_note(tmp_path: Path) -> None:
    other = {"cpu": "a" * 30 + " 2", "torch": "2.12.0", "threads": 4}
    notes = _mixed(tmp_path, lambda *cell: other if cell[2] == 1 else {"cpu": "a" * 30 + " 1"})
    assert notes == [
        f"Mixed cpu, threads, torch: cpu {'a' * 30} 1, threads 1, torch 2.13.0 (124 cells); "
        f"cpu {'a' * 30} 2, threads 4, torch 2.12.0 (31 cells: some of every row). "
        "Rows may differ for this reason."
    ]


def test_another_commit_with_the_same_sources_is_told_from_other_code(tmp_path: Path) -> None:
    notes = _mixed(tmp_path, lambda row, seed, fold: {"commit": "b" * 40} if seed == 4 else {"commit": None})
    assert len(notes) == 1 and notes[0].startswith("Mixed commit: unknown (125 cells)")
    assert notes[0].endswith("The sources that make numbers are the same.")


def test_uncommitted_code_is_said_even_where_every_cell_ran_it(tmp_path: Path) -> None:
    end = "code.patch in a trial's folder has it."
    some = _mixed(tmp_path / "some", lambda row, seed, fold: {"dirty": row == "vqshape"})
    assert some == [f"Uncommitted code in 25 of 155 cells (all of vqshape): {end}"]
    assert _mixed(tmp_path / "all", lambda *cell: {"dirty": True}) == [
        f"Uncommitted code in 155 of 155 cells (every row): {end}"
    ]
    assert _mixed(tmp_path / "none", lambda *cell: {"dirty": False}) == []


def test_many_kinds_of_code_are_counted_past_the_most_frequent(tmp_path: Path) -> None:
    notes = _mixed(tmp_path, lambda row, seed, fold: {"code": f"{fold}{seed}"})
    assert len(notes) == 1 and notes[0].count(": ") == 5
    assert "; 25 more (125 cells)." in notes[0]


def test_cells_without_a_result_mix_nothing(tmp_path: Path) -> None:
    cell = ("vqshape", 0, 0)
    table = _table(tmp_path, failed=[cell], environment=lambda *c: {"device": "cuda"} if c == cell else {})
    assert not [note for note in table.notes if note.startswith("Mixed")]


def test_rows_of_equal_configuration_are_named(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    plan = load.plan(tmp_path, "made_up")
    frame = load.frame(tmp_path, "made_up")
    twins = frame["row"].isin(["z_one_way", "z_two_way"])
    frame.loc[twins, "signature"] = [signature("twin", None, fold) for fold in frame.loc[twins, "fold"]]
    notes = ablation_tables.build(frame, plan).notes
    assert "Equal configurations, one set of trials shown more than once: z_one_way, z_two_way." in notes


def test_with_seeds_as_pairs_a_row_without_randomness_has_no_sd(tmp_path: Path) -> None:
    table = _table(tmp_path, folds=1, unit="seed", validation="stratified part")
    value = made_up_scores("statistics", None, 0)[METRIC]
    assert _column(table, "macro-F1")["statistics"] == f"{100 * value:.1f}"
    notes = "\n".join(table.notes)
    assert "No randomness in statistics" in notes and "stratified part" in notes


def test_random_windows_are_marked_wherever_the_table_goes(tmp_path: Path) -> None:
    honest = _table(tmp_path)
    plan = load.plan(tmp_path, "made_up") | {"split": "leaky_random"}
    leaky = ablation_tables.build(load.frame(tmp_path, "made_up"), plan)
    for form in (leaky.to_markdown(), leaky.to_latex()):
        assert "LEAKY: random windows" in form and "LEAKY: windows were split at random" in form
        assert "random folds" in form and "subject folds" not in form
    assert "LEAKY" not in honest.to_markdown() and "subject folds" in honest.to_markdown()


def test_contrasts_are_a_second_table_with_holm_of_its_own(tmp_path: Path) -> None:
    contrasts = [("z_one_way", "shuffled_samples"), ("z_two_way", "z_one_way")]
    table = _table(tmp_path, contrasts=contrasts)
    small = dict(table.below)["contrasts"]
    pairs = stats.per_pair(load.frame(tmp_path, "made_up"), METRIC, "fold")
    raw = [scipy.stats.ttest_rel(pairs[a], pairs[b]).pvalue for a, b in contrasts]
    assert list(small.numeric["p"]) == pytest.approx(raw)
    assert min(small.numeric["p_holm"]) == pytest.approx(2 * min(raw))
    assert [line[0] for line in small.body] == [f"{a} \N{MINUS SIGN} {b}" for a, b in contrasts]
    assert small.body[0][3] == "5"
    assert small.body[0][0] in table.to_markdown()


def test_latex_escapes_what_latex_would_eat(tmp_path: Path) -> None:
    table = _table(tmp_path, rows=("supervised", "50%_a&b", "x<y|z"), contrasts=[("50%_a&b", "supervised")])
    latex = table.to_latex(label="tab:made_up")
    assert r"50\%\_a\&b &" in latex and r"x$<$y\textbar{}z &" in latex
    assert r"numbers \& 100 \% of\_them" in latex and r"\label{tab:made_up}" in latex
    assert r"50\%\_a\&b $-$ supervised" in latex
    assert "50%" not in latex and "±" not in latex and "\N{MINUS SIGN}" not in latex
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrrrrrr}"):
        assert part in latex
    assert r"x\<y\|z" in table.to_markdown()


def test_markdown_fits_a_terminal(tmp_path: Path) -> None:
    table = _table(tmp_path, rows=(*ROWS, "minirocket", "fcn"))
    grid = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len(grid) == 11
    assert len({len(line) for line in grid}) == 1
    assert len(grid[0]) <= 105


def test_csv_has_a_line_a_row_and_numbers_in_full_precision(tmp_path: Path) -> None:
    table = _table(tmp_path)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [line["row"] for line in lines] == list(ROWS)
    assert [float(line["test/macro_f1/mean"]) for line in lines] == list(table.numeric["test/macro_f1/mean"])


def test_metrics_that_are_no_fractions_are_not_shown_in_percent(tmp_path: Path) -> None:
    write_ledger(tmp_path, scores=lambda row, seed, fold: {"codes/perplexity": 12.3456 + fold})
    frame, plan = load.frame(tmp_path, "made_up"), load.plan(tmp_path, "made_up")
    table = ablation_tables.build(frame, plan, metric="codes/perplexity")
    assert _column(table, "codes/perplexity")["vqshape"] == "14.35 ± 1.581"
    assert "acc." not in table.header and "percent" not in table.caption


def test_validation_may_be_the_primary_metric(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    frame, plan = load.frame(tmp_path, "made_up"), load.plan(tmp_path, "made_up")
    table = ablation_tables.build(frame, plan, metric="val/macro_f1")
    assert table.header[:4] == ("row", "n", "val", "acc.")
    best = next(i for i, _, mark in table.marks if mark == "bold")
    assert ROWS[best] == table.numeric["val/macro_f1/mean"].idxmax()


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    def written(store: Path, out: Path) -> dict[str, bytes]:
        table = _table(store, contrasts=[("z_one_way", "vqshape")], failed=[("z_one_way", 1, 2)])
        return {path.name: path.read_bytes() for path in save(table, out, "made_up")}

    first = written(tmp_path / "a", tmp_path / "one")
    assert set(first) == {
        *(f"made_up{end}" for end in (".md", ".csv", ".tex", "-standalone.tex", "-contrasts.csv"))
    }
    assert first == written(tmp_path / "b", tmp_path / "two")
    assert {path.name for path in (tmp_path / "one").iterdir()} == set(first)


def test_figures_draw_on_the_axis_they_are_given_and_show_every_row(tmp_path: Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from analysis import figures

    write_ledger(tmp_path, failed=[("vqshape", seed, fold) for seed in range(5) for fold in range(5)])
    plan = load.plan(tmp_path, "made_up")
    _, axes = plt.subplots(1, 2)
    strip = figures.strip_and_interval(load.frame(tmp_path, "made_up"), plan, axes[0])
    curves = figures.learning_curves(load.curves(tmp_path, "made_up"), plan, axes[1])
    assert (strip, curves) == tuple(axes)
    assert [label.get_text() for label in strip.get_yticklabels()] == list(ROWS)
    points = np.asarray(strip.collections[0].get_offsets())
    expected = [
        100 * np.mean([made_up_scores("z_two_way", seed, fold)[METRIC] for seed in range(5)])
        for fold in range(5)
    ]
    level = points[np.round(points[:, 1]) == ROWS.index("z_two_way")]
    assert list(level[:, 0]) == pytest.approx(expected)
    names = [text.get_text() for text in curves.get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == [row for row in ROWS if row != "statistics"]
    plt.close("all")


def test_a_row_named_in_brackets_or_stars_is_no_argument_of_latex_and_no_emphasis(tmp_path: Path) -> None:
    plan = write_ledger(tmp_path, rows=("supervised", "[red]", "*star*", "**bold**"))
    built = ablation_tables.build(load.frame(tmp_path, "made_up"), plan)
    body = built.to_latex().split(r"\midrule")[1]
    assert "\n{}[red] &" in body and "\n{}*star* &" in body
    assert r"| \*star\* " in built.to_markdown() and r"\*\*bold\*\*" in built.to_markdown()


def test_markdown_shows_captions_notes_and_cells_literally() -> None:
    words = "<script>x</script> [a](http://x) _u_ a_b [1, 2]"
    shown = Table(pd.DataFrame(), words, (f"{words}\nnext line",), ("row",), ((words,),)).to_markdown()
    literal = r"\<script>x\</script> [a\](http://x) \_u\_ a_b [1, 2]"
    assert shown.startswith(f"{literal}\n") and shown.count(literal) == 3
    assert shown.endswith(f"- {literal} next line\n")


def test_a_letter_that_latex_lacks_is_its_number() -> None:
    assert tex("≥ Δ 中 e\u0301") == r"$\geq$ $\Delta$ U+4E2D é"


def test_captions_claim_the_series_only_path_where_it_was_gone(tmp_path: Path) -> None:
    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        names = ("test/macro_f1", "test/histogram/macro_f1", "test/series_mse", "diag/retrieval_accuracy")
        return dict.fromkeys(names, 0.5)

    plan = write_ledger(tmp_path, scores=scores)
    frame = load.frame(tmp_path, "made_up")
    said = {name: ablation_tables.build(frame, plan, name).caption for name in scores("a", 0, 0)}
    assert "; series-only path, primary representation: tokens." in said["test/macro_f1"]
    assert "; series-only path." in said["test/histogram/macro_f1"] + said["test/series_mse"]
    assert "path" not in said["diag/retrieval_accuracy"] and "representation" not in said["test/series_mse"]
    assert all("best" not in caption for caption in said.values())  # no row has a validation score


def test_only_a_row_with_the_metric_is_marked(tmp_path: Path) -> None:
    def scores(row: str, seed: int | None, fold: int) -> dict[str, float]:
        val = {"a": 0.9, "b": 0.8, "c": 0.7}[row]
        return {"val/macro_f1": val} | ({} if row == "a" else {"recon/fcn_macro_f1": 0.1})

    plan = write_ledger(tmp_path, rows=("a", "b", "c"), reference=None, fixed=(), scores=scores)
    table = ablation_tables.build(load.frame(tmp_path, "made_up"), plan, "recon/fcn_macro_f1")
    assert sorted(table.marks) == [(1, 2, "bold"), (2, 2, "underline")]


HOSTILE = (
    "supervised",
    "50%_a&b",
    "x<y|z",
    r"back\slash{}",
    "~^#$",
    "a--b---c",
    "σ and µ × 2",  # noqa: RUF001
    "[red]",
    "≥ Δ 中",
)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles_alone_whatever_rows_are_called(tmp_path: Path) -> None:
    table = _table(tmp_path, rows=HOSTILE, fixed=(), contrasts=[HOSTILE[1:3]], failed=[(HOSTILE[3], 0, 0)])
    save(table, tmp_path / "out", "made_up")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "made_up-standalone.tex"]
    ran = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (tmp_path / "out/made_up-standalone.pdf").stat().st_size > 1000


def test_metrics_are_ranked_by_the_side_that_the_glossary_calls_better() -> None:
    lines = re.findall(r"^\| `([^`]+)` \| (up|down|) *\|", GLOSSARY.read_text(), flags=re.MULTILINE)
    assert len(lines) > 40
    for name, better in lines:
        assert higher_is_better(name) == {"up": True, "down": False, "": None}[better], name
