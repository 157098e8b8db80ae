"""The word `search:`: what is refused, where, and what each row's search comes to."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from experiments import space, suggest
from experiments.ledger import Store, read_json
from experiments.plan import Sweep
from experiments.sweep import load
from experiments.yamlfile import FileError

SPACE = "space: {train.lr: [1e-3, 1e-2]}"


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    def plan(text: str) -> Sweep:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        return load(path, Store(tmp_path / "store"))

    return plan


def asked(**words: str) -> str:
    """A sweep file of one search, a word a line, in the order given."""
    words = {"trials": "4"} | words | ({} if "space" in words else {"space": "{train.lr: [1e-3, 1e-2]}"})
    return "search:\n" + "".join(f"  {word}: {value}\n" for word, value in words.items())


LR = "{train.lr: {low: 1e-4, high: 1e-2, log: true}}"
BROKEN = {
    "no mapping": ("search: 3", 1, "search is a mapping with trials and space"),
    "an unknown word": (asked(tirals="3"), 3, "did you mean 'trials'?"),
    "a setting outside the space": (asked(**{"train.lr": "[1, 2]"}), 3, "put it under `space:`"),
    "no trials": (f"search:\n  {SPACE}", 1, "search needs `trials:`"),
    "no space": ("seeds: 1\nsearch: {trials: 3}", 2, "search needs `space:`"),
    "no trial": (asked(trials="0"), 2, "trials is a whole number from 1, not 0"),
    "half a trial": (asked(trials="2.5"), 2, "trials is a whole number from 1, not 2.5"),
    "true workers": (asked(parallel="true"), 3, "parallel is a whole number from 1, not True"),
    "a seed below 0": (asked(seed="-1"), 3, "seed is a whole number from 0, not -1"),
    "an unknown sampler": (asked(sampler="tpa"), 3, "'tpa' is no sampler: did you mean 'tpe'?"),
    "an unknown pruner": (asked(pruner="{name: medain}"), 3, "did you mean 'median'?"),
    "a pruner without a name": (asked(pruner="{n_startup_trials: 3}"), 3, "its name: {name: median, ...}"),
    "an unknown option": (
        asked(pruner="{name: median, n_startup_trails: 3}"), 3,
        "pruner median has no setting 'n_startup_trails': did you mean 'n_startup_trials'?",
    ),
    "an option of another type": (
        asked(sampler="{name: tpe, n_startup_trials: many}"), 3, 'n_startup_trials: "many" does not fit'
    ),
    "an option that Optuna refuses": (
        asked(pruner="{name: median, n_startup_trials: -1}"), 3, "cannot be negative"
    ),
    "an option that Optuna takes no more": (
        asked(sampler="{name: tpe, consider_prior: true}"), 3, "consider_prior"
    ),
    "an option that is missing": (asked(pruner="percentile"), 3, "percentile needs its setting 'percentile'"),
    "a seed for the sampler": (asked(sampler="{name: tpe, seed: 1}"), 3, "tpe has no setting 'seed'"),
    "an empty space": (asked(space="{}"), 3, "the space is empty"),
    "an unknown setting": (asked(space="{train.lrr: {low: 1, high: 2}}"), 3, "did you mean 'train.lr'?"),
    "a setting of the sweep's": (asked(space="{seed: [1, 2]}"), 3, "set by the sweep's word `seeds`"),
    "the side of the search": (asked(space="{evaluate: [test, validation]}"), 3, "the sweep's word `search`"),
    "the kind of a row": (asked(space="{baseline: [none, fcn]}"), 3, "baseline is not searched"),
    "what changes no result": (asked(space="{figures: [true, false]}"), 3, "'figures' changes no result"),
    "the data set": (asked(space="{data.name: [spar, basic_motions]}"), 3, "rows are paired, so data.name"),
    "one value": (asked(space="{train.lr: 1e-3}"), 3, "needs a list of values or {low: ..., high: ...}"),
    "a list of one": (asked(space="{train.lr: [1e-3]}"), 3, "one alone belongs under `set:`"),
    "a value twice": (asked(space="{train.lr: [1e-3, 0.001]}"), 3, "'train.lr' has 0.001 twice"),
    "a wrong value": (asked(space="{train.lr: [1e-3, fast]}"), 3, 'train.lr: "fast" does not fit'),
    "a wrong end": (asked(space="{train.lr: {low: 0, high: 1}}"), 3, "greater than 0"),
    "an unknown bound": (asked(space="{train.lr: {low: 1, hihg: 2}}"), 3, "did you mean 'high'?"),
    "a missing bound": (asked(space="{train.lr: {low: 1}}"), 3, "'train.lr' needs `high:`"),
    "a range of words": (
        asked(space="{text.form: {low: keyword, high: sentence}}"), 3, "'text.form' has no range of numbers"
    ),
    "a range of yes and no": (
        asked(space="{model.keep_scale: {low: false, high: true}}"), 3, "has no range of numbers"
    ),
    "a range upside down": (asked(space="{train.lr: {low: 2, high: 1}}"), 3, "high 1 is not above low 2"),
    "log of zero": (asked(space="{losses.ce_series: {low: 0, high: 1, log: true}}"), 3, "low 0 has no log"),
    "log with a step": (
        asked(space="{model.codes: {low: 2, high: 8, step: 2, log: true}}"), 3, "a range with log has no step"
    ),
    "a word for log": (asked(space="{train.lr: {low: 1, high: 2, log: yes}}"), 3, "log is true or false"),
    "a step that misses": (
        asked(space="{model.width: {low: 32, high: 128, step: 36}}"), 3,
        "high 128 is not low 32 plus a multiple of step 36",
    ),
    "half a step": (
        asked(space="{model.width: {low: 32, high: 128, step: 0.5}}"), 3, "step is a whole number above 0"
    ),
    "a step that Optuna can't count with": (
        asked(space="{train.lr: {low: 1e-3, high: 1e-2, step: 1e-300}}"), 3, "Optuna takes no such range",
    ),
    "an option that Optuna meets later": (
        asked(pruner="{name: hyperband, max_resource: -3}"), 3, "pruner hyperband: ",
    ),
    "brute force without an end": (
        asked(sampler="brute_force", space="{train.lr: {low: 1, high: 2}}"), 4, "no end of them: give it a"
    ),
    "a value that goes with nothing": (
        asked(space="\n    model.width:\n      - 64\n      - 62"), 6,
        "model.width 62 in row 'base': model.heads 4 do not divide model.width 62",
    ),
    "a number within a range that goes with nothing": (
        asked(space="{model.width: {low: 32, high: 128, step: 6}}"), 3, "model.width 38 in row 'base'"
    ),
    "a searched setting that is set": (
        f"set:\n  train.lr: 1\n{asked()}", 2, "'train.lr' is set here and searched: keep one of the two"
    ),
    "a searched setting of a variant": (
        f"variants:\n  a: {{train.lr: 1}}\n{asked()}", 2, "'train.lr' is set here and searched"
    ),
    "a searched setting of the grid": (
        f"grid: {{train.lr: [1, 2]}}\n{asked()}", 1, "'train.lr' is in the grid and searched"
    ),
    "a searched setting of an exclusion": (
        f"variants: {{a: {{}}, b: {{}}}}\nexclude: [{{variant: a, train.lr: 0.001}}]\n{asked()}", 2,
        "'train.lr' is searched",
    ),
    "what no row reads": (
        asked(space="{train.lr: [1, 2], text.form: [keyword, sentence]}"), 3, "'text.form' has no effect"
    ),
    "a search of nothing": (
        f"set: {{baseline: statistics}}\n{asked()}", 4, "'train.lr' has no effect: every row switches it off"
    ),
    "too many trials": (asked(trials="10000"), 1, "10,001 cells are more than the limit of 10,000"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_search_is_one_line_with_its_place(plan: Any, name: str) -> None:
    text, line, message = BROKEN[name]
    with pytest.raises(FileError) as refused:
        plan(text)
    assert (refused.value.line, message in refused.value.message) == (line, True), str(refused.value)


def test_a_long_range_is_checked_at_its_ends_alone(plan: Any) -> None:
    sweep = plan(asked(space="{model.codes: {low: 8, high: 1000000000000}}"))
    assert sweep.searches[0].spec["space"]["model.codes"]["high"] == 10**12


def test_every_sampler_and_pruner_of_optuna_has_a_name_or_a_reason() -> None:
    samplers, pruners = optuna.samplers.__all__, optuna.pruners.__all__
    no_search = {"BaseSampler", "BaseGASampler", "GridSampler", "PartialFixedSampler", "nsgaii"}
    needs_independent_steps = {"WilcoxonPruner"}
    assert {made.__name__ for made in suggest.SAMPLERS.values()} == set(samplers) - no_search
    assert {made.__name__ for made in suggest.PRUNERS.values()} == (
        set(pruners) - {"BasePruner"} - needs_independent_steps
    )
    assert (tuple(suggest.SAMPLERS), tuple(suggest.PRUNERS)) == (space.SAMPLERS, space.PRUNERS)


def test_a_sampler_whose_package_is_missing_says_which(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.space.find_spec", lambda name: None)
    with pytest.raises(FileError, match="sampler cmaes needs the package cmaes: pip install cmaes"):
        plan(asked(sampler="cmaes"))


def test_options_of_samplers_and_pruners_are_taken_over(plan: Any) -> None:
    sweep = plan(
        asked(sampler="{name: tpe, multivariate: true}", pruner="{name: percentile, percentile: 25.0}")
    )
    (search,) = sweep.searches
    assert search.spec["sampler"] == {"name": "tpe", "options": {"multivariate": True}}
    assert search.spec["pruner"] == {"name": "percentile", "options": {"percentile": 25.0}}


def test_without_more_words_it_is_tpe_without_a_pruner_one_trial_at_a_time(plan: Any) -> None:
    spec = plan(asked()).searches[0].spec
    assert (spec["sampler"]["name"], spec["pruner"]["name"]) == ("tpe", "none")
    assert (spec["parallel"], spec["seed"], spec["trials"]) == (1, 0, 4)


def test_rows_search_what_they_read_and_rows_that_read_none_of_it_run_as_they_are(plan: Any) -> None:
    rows = """
variants:
  plain: {}
  text: {model.guidance.attention: one_way}
  fcn: {baseline: fcn}
  statistics: {baseline: statistics}
"""
    found = plan(asked(space="{train.lr: [1e-3, 1e-2], text.form: [keyword, sentence]}") + rows)
    assert {one.row: list(one.spec["space"]) for one in found.searches} == {
        "plain": ["train.lr"],
        "text": ["text.form", "train.lr"],
        "fcn": ["train.lr"],
    }
    (statistics,) = [cell for cell in found.cells if cell.row == "statistics"]
    (alone,) = plan("variants: {statistics: {baseline: statistics}}").cells
    assert statistics.signature == alone.signature not in found.waiting


def test_a_setting_that_only_another_searched_one_switches_on_is_searched(plan: Any) -> None:
    text = "set: {text.form: keyword}\n" + asked(
        space="{losses.text_recon: [0, 0.1], text.tokens: [native, 3]}"
    )
    with pytest.raises(FileError, match=r"'text.tokens' has no effect"):
        plan(text)
    both = "{losses.info_nce: [0, 0.1], text.tokens: [native, 3]}"
    (search,) = plan(f"set: {{text.form: keyword}}\n{asked(space=both)}").searches
    assert list(search.spec["space"]) == ["losses.info_nce", "text.tokens"]


def test_rows_that_the_first_values_make_equal_stay_two(plan: Any) -> None:
    grid = "grid: {text.form: [keyword, sentence]}\n"
    sweep = plan(grid + asked(space="{losses.text_recon: [0, 0.1]}"))
    assert len({one.key for one in sweep.searches}) == len(sweep.rows) == 2


def test_values_that_go_with_some_others_are_no_fault_of_the_file(plan: Any) -> None:
    both = "{model.quantizer: [fsq, standard], model.codes: [40, 32]}"
    (search,) = plan(asked(space=both)).searches
    search.trial({"model.quantizer": "standard", "model.codes": 40})
    with pytest.raises(ValueError, match="fsq can't have 40 codes"):
        search.trial({"model.quantizer": "fsq", "model.codes": 40})


def test_heads_of_guidance_that_were_set_stay_as_heads_of_the_model_are_searched(plan: Any) -> None:
    rows = "set: {model.guidance: {attention: one_way, heads: 4}}\n"
    (search,) = plan(rows + asked(space="{model.heads: [4, 8]}")).searches
    assert search.trial({"model.heads": 8}).model.guidance.heads == 4


def test_the_plan_says_what_is_searched_and_rows_do_not_differ_in_it(plan: Any, tmp_path: Path) -> None:
    sweep = plan(asked(space=LR) + "variants: {a: {}, b: {losses.ce_series: 0.1}}\n")
    store = Store(tmp_path / "store")
    sweep.save(store, tmp_path / "x.yaml")
    saved = read_json(store.sweep("x") / "plan.json")
    assert saved["search"] == {
        "trials": 4,
        "sampler": {"name": "tpe", "options": {}},
        "pruner": {"name": "none", "options": {}},
        "parallel": 1,
        "seed": 0,
        "space": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "studies": [{"row": one.row, "fold": 0, "study": one.key} for one in sweep.searches],
        "chosen": [],
    }
    assert saved["differs"] == ["losses.ce_series"]
    assert "search" not in plan("variants: {a: {}}\n").plan()


def test_planning_a_search_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(asked())
    code = "import sys; from pathlib import Path; from experiments.ledger import Store\n"
    code += "from experiments.sweep import load; load(Path('x.yaml'), Store(Path('s')))\n"
    code += "print({'torch', 'sklearn', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
