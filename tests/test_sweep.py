import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from experiments.identity import signature
from experiments.ledger import Store, read_json
from experiments.plan import Sweep
from experiments.sweep import load
from experiments.yamlfile import FileError

SWEEPS = Path(__file__).parent.parent / "sweeps"
SPAR = "data: {name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}"
ALL = ("l", "mu", "sigma", "t", "z")
ISSUE = {
    "vqshape": {"model.guidance.attention": "none", "losses.ce_series": 0.0},
    "supervised": {"model.guidance.attention": "none"},
    "z_one_way": {"model.guidance.attention": "one_way", "model.guidance.into": ("z",)},
    "all_one_way": {"model.guidance.attention": "one_way", "model.guidance.into": ALL},
    "z_two_way": {"model.guidance.attention": "two_way", "model.guidance.into": ("z",)},
    "z_two_way_losses": {"losses.info_nce": 0.1, "losses.consistency": 0.1, "losses.text_recon": 0.1},
    "shuffled_samples": {"model.guidance.attention": "one_way", "text.control": "shuffled_samples"},
    "constant": {"model.guidance.attention": "one_way", "text.control": "constant"},
    "statistics": {"baseline": "statistics"},
}
TWO = """\
# Where?
#   smoke: 1 min
set: {model.guidance.attention: one_way, train: {lr: 1e-4, epochs: 3}}
seeds: 2
reference: z
contrasts: [[all, z]]
variants:
  all: {model.guidance.into: all}
  z: {model.guidance: {into: [z]}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def plan(tmp_path: Path, store: Store) -> Any:
    def plan(text: str, name: str = "x") -> Sweep:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return load(path, store)

    return plan


def setting(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def signatures(sweep: Sweep) -> dict[tuple[str, int | None, int], str]:
    return {(cell.row, cell.seed, cell.fold): cell.signature for cell in sweep.cells}


def test_a_small_number_in_powers_of_ten_is_a_number(plan: Any) -> None:
    sweep = plan(TWO)
    assert [config.train.lr for config in sweep.configs.values()] == [0.0001] * 4


def test_cells_come_seed_by_seed_then_fold_by_fold_the_reference_first(plan: Any) -> None:
    rows = "variants: {statistics: {baseline: statistics}, b: {}, a: {train.lr: 1}}\nreference: a\n"
    sweep = plan(f"set: {{{SPAR}}}\nseeds: [7, 3]\nfolds: [0, 2]\n{rows}")
    first = [(row, fold) for fold in (0, 2) for row in ("a", "statistics", "b")]
    found = [(cell.row, cell.seed, cell.fold) for cell in sweep.cells]
    assert found == [
        *[(row, None if row == "statistics" else 7, fold) for row, fold in first],
        *[(row, 3, fold) for row, fold in first if row != "statistics"],
    ]
    assert [row.name for row in sweep.rows] == ["statistics", "b", "a"]


def test_a_cells_config_has_its_seed_its_fold_and_the_primary_representation(plan: Any) -> None:
    sweep = plan(f"set: {{{SPAR}}}\nseeds: 2\nfolds: 3\nprimary: histogram\n")
    for cell in sweep.cells:
        config = sweep.configs[cell.signature]
        assert (config.seed, config.data.fold) == (cell.seed, cell.fold)
        assert config.probe.representation == "histogram"
    assert len(sweep.configs) == 6


def test_the_statistics_row_has_one_cell_a_fold_and_no_seed(plan: Any) -> None:
    sweep = plan(f"set: {{{SPAR}}}\nseeds: 4\nfolds: 2\nvariants: {{a: {{}}, s: {{baseline: statistics}}}}\n")
    assert [cell[2:4] for cell in sweep.cells if cell.row == "s"] == [(None, 0), (None, 1)]
    assert len(sweep.cells) == 2 * 4 + 2
    assert sweep.merged == 2 * 3


def test_equal_grid_points_of_one_variant_become_one_row_and_are_counted(plan: Any) -> None:
    into = "[all, [t, z, l, mu, sigma], [z, z], [z], [mu]]"
    sweep = plan(
        f"set: {{model.guidance.attention: one_way}}\nseeds: 3\ngrid: {{model.guidance.into: {into}}}"
    )
    assert [row.name for row in sweep.rows] == ["into=all", "into=[z, z]", "into=[mu]"]
    assert (sweep.merged, len(sweep.cells)) == (2 * 3, 3 * 3)


def test_grid_points_that_a_variant_switches_off_merge(plan: Any) -> None:
    variants = "{off: {model.guidance.attention: none}, on: {model.guidance.attention: one_way}}"
    sweep = plan(f"variants: {variants}\ngrid: {{model.guidance.into: [[z], [t]]}}\n")
    assert [row.name for row in sweep.rows] == ["off", "on into=[z]", "on into=[t]"]
    assert sweep.merged == 1


def test_a_setting_for_all_rows_that_no_row_reads_is_refused(plan: Any) -> None:
    with pytest.raises(FileError, match=r"'text.form' has no effect: every row switches it off"):
        plan("set: {text.form: keyword}\nvariants: {a: {}, b: {losses.ce_series: 0.1}}\n")
    plan("set: {text.form: keyword}\nvariants: {a: {}, b: {losses.text_recon: 0.1}}\n")


def test_the_texts_do_not_name_a_trial_that_reads_concepts_alone(plan: Any) -> None:
    alone = "{model.sub_actions: head, losses.sub_action: 0.1}"
    one = plan(f"variants: {{a: {alone}}}\n")
    other = plan(f"set: {{text.form: keyword}}\nvariants: {{a: {alone}, b: {{losses.text_recon: 0.1}}}}\n")
    assert one.cells[0].signature == other.cells[0].signature


def test_equal_rows_of_two_variants_stay_two_rows_of_one_trial(plan: Any) -> None:
    sweep = plan("variants: {a: {train.lr: 0.01}, b: {train: {lr: 1e-2}}}\n")
    assert [cell.row for cell in sweep.cells] == ["a", "b"]
    assert (len(sweep.configs), sweep.merged) == (1, 0)


def test_a_reference_that_merged_away_is_no_row(plan: Any) -> None:
    grid = "set: {model.guidance.attention: one_way}\ngrid: {model.guidance.into: [[z], [z, z]]}\n"
    with pytest.raises(FileError, match=r"no row is named 'into=\[z, z\]'"):
        plan(f'{grid}reference: "into=[z, z]"\n')
    assert plan(f'{grid}reference: "into=[z]"\n').reference == "into=[z]"


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ("{model.heads: 2}", ["a heads=4", "b heads=4"]),
        ("{variant: a, model.heads: 2}", ["a heads=4", "b heads=2", "b heads=4"]),
        ("{variant: a, model: {heads: 2}}", ["a heads=4", "b heads=2", "b heads=4"]),
        ("{train.lr: 0.01, model.heads: 2}", ["a heads=2", "a heads=4", "b heads=4"]),
        ("{train.lr: 1e-3}", ["b heads=2", "b heads=4"]),  # the default, which a has without saying so
        ("{model.guidance.into: [z, mu], model.heads: 2}", ["a heads=4", "b heads=4"]),
    ],
)
def test_exclude_drops_the_points_that_have_all_its_values_and_counts_them(
    plan: Any, tmp_path: Path, entry: str, left: list[str]
) -> None:
    (tmp_path / "b.yaml").write_text("model.guidance: {attention: one_way, into: [mu, z]}\n")
    text = "base: b.yaml\ngrid: {model.heads: [2, 4]}\n"
    sweep = plan(f"{text}seeds: 2\nvariants: {{a: {{}}, b: {{train.lr: 0.01}}}}\nexclude: [{entry}]\n")
    assert [row.name for row in sweep.rows] == left
    assert (sweep.excluded, sweep.merged) == (2 * (4 - len(left)), 0)


def test_exclude_drops_a_pair_of_options_that_would_be_refused(plan: Any) -> None:
    grid = "grid: {losses.consistency: [0, 1], model.guidance.attention: [none, one_way]}\n"
    sweep = plan(f"{grid}exclude: [{{losses.consistency: 1, model.guidance.attention: none}}]\n")
    assert (len(sweep.rows), sweep.excluded) == (3, 1)


def test_comments_forms_and_the_order_of_keys_change_no_signature(plan: Any) -> None:
    other = """
contrasts: [[all, z]]   # Holm
variants:
  z: {model: {guidance.into: [z, z]}}
  all: {model.guidance.into: [t, mu, l, z, sigma]}
reference: z
seeds: [0, 1]
set:
  train.epochs: 3
  model: {guidance: {attention: one_way}}
  train.lr: 0.0001   # 1e-4
"""
    assert signatures(plan(TWO)) == signatures(plan(other))


def test_the_base_file_gives_what_the_sweep_does_not_set(plan: Any, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("train: {lr: 1e-2, epochs: 3}\nmodel.guidance.attention: one_way\n")
    text = TWO.replace(
        "set: {model.guidance.attention: one_way, train: {lr: 1e-4, epochs: 3}}", "base: b.yaml"
    )
    assert {config.train.lr for config in plan(text).configs.values()} == {0.01}
    assert signatures(plan(f"{text}set: {{train.lr: 1e-4}}\n")) == signatures(plan(TWO))


def test_editing_a_sweep_adds_and_removes_cells_and_leaves_the_others(plan: Any) -> None:
    before = signatures(plan(TWO))
    more = TWO.replace("seeds: 2", "seeds: 3") + "  t: {model.guidance.into: [t]}\n"
    after = signatures(plan(more))
    assert after.items() > before.items()
    assert after.keys() - before.keys() == {("z", 2, 0), ("all", 2, 0), ("t", 0, 0), ("t", 1, 0), ("t", 2, 0)}
    fewer = signatures(plan(TWO.replace("seeds: 2", "seeds: [1]")))
    assert fewer == {key: value for key, value in before.items() if key[1] == 1}


def test_two_files_of_one_name_do_not_share_a_plan(plan: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "where.yaml").touch()
    sweep = plan(TWO, "where")
    sweep.save(store, tmp_path / "a/where.yaml")
    with pytest.raises(FileError, match=r"b/where.yaml: in this store 'where' is .*a/where.yaml: rename"):
        sweep.save(store, tmp_path / "b/where.yaml")
    (tmp_path / "a/where.yaml").rename(tmp_path / "moved.yaml")
    sweep.save(store, tmp_path / "b/where.yaml")


def test_the_saved_plan_holds_what_analysis_and_tracking_need(plan: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    sweep = plan(f"{TWO}  s: {{baseline: statistics}}\n", "where")
    sweep.save(store, tmp_path / "where.yaml")
    every, z = (
        {"model.guidance.into": into, "baseline": "none"} for into in (["l", "mu", "sigma", "t", "z"], ["z"])
    )
    fixed = {"baseline": "statistics"}
    assert read_json(store.sweep("where") / "plan.json") == {
        "schema": 1,
        "file": str((tmp_path / "where.yaml").resolve()),
        "sweep": "where",
        "question": "Where?\n  smoke: 1 min",
        "primary": "tokens",
        "reference": "z",
        "contrasts": [["all", "z"]],
        "dataset": "basic_motions",
        "split": "official",
        "unit": "seed",
        "rows": [
            {"name": "all", "variant": "all", "factors": {"model.guidance.into": "all"}, "differs": every},
            {"name": "z", "variant": "z", "factors": {"model.guidance.into": ["z"]}, "differs": z},
            {"name": "s", "variant": "s", "factors": fixed, "differs": fixed},
        ],
        "differs": ["model.guidance.into", "baseline"],
        "cells": [cell._asdict() for cell in sweep.cells],
    }
    assert [cell["row"] for cell in sweep.plan()["cells"]] == ["z", "all", "s", "z", "all"]


def test_with_subject_folds_the_pairs_of_a_comparison_are_folds(plan: Any) -> None:
    planned = plan(f"set: {{{SPAR}}}\nfolds: 2\nprimary: histogram\n").plan()
    assert (planned["unit"], planned["dataset"], planned["primary"]) == ("fold", "spar", "histogram")
    assert plan("set: {baseline: statistics}\n").plan()["primary"] == "statistics"


def test_a_grid_of_a_million_millions_is_refused_before_it_is_enumerated(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("itertools.product", lambda *_: pytest.fail("enumerated"))
    ten = json.dumps([i / 100 for i in range(10)])
    names = [
        f"model.{n}" for n in ("dropout", "mask_frac", "codebook_weight", "entropy_weight", "entropy_gamma")
    ]
    names += [
        f"losses.{n}" for n in ("series", "shape", "vq", "spread", "info_nce", "text_recon", "ce_series")
    ]
    rows = "\n".join(f"  {name}: {ten}" for name in names)
    with pytest.raises(FileError, match="1,000,000,000,000 cells are more than the limit of 10,000"):
        plan(f"grid:\n{rows}\n")


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    script = "import sys; from experiments.cli import app; import atexit\n"
    script += "atexit.register(lambda: print('MODULES', *sys.modules)); app()"
    words = ["plan", str(SWEEPS / "quick.yaml"), "--store", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.partition("MODULES")
    assert "25 cells, 25 trials: 0 done, 0 failed, 25 waiting. 2 equal points merged" in printed
    assert "experiments.sweep" in modules.split()
    loaded = {module.split(".")[0] for module in modules.split()}
    assert not loaded & {
        "torch",
        "lightning",
        "transformers",
        "aeon",
        "mlflow",
        "optuna",
        "sklearn",
        "pandas",
    }
    assert os.listdir(tmp_path / "sweeps") == ["quick"]


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_file_plans_and_asks_a_question(path: Path, store: Store) -> None:
    sweep = load(path, store)
    assert sweep.question.splitlines()[0].endswith((".", "?"))
    assert sweep.reference is not None and sweep.cells


@pytest.mark.parametrize(
    ("name", "seeds", "folds", "label"), [("quick", 3, 1, 0.1), ("fusion_spar", 1, 5, 0.3)]
)
def test_the_first_sweeps_have_the_variants_and_cells_that_the_question_needs(
    store: Store, name: str, seeds: int, folds: int, label: float
) -> None:
    sweep = load(SWEEPS / f"{name}.yaml", store)
    first = {cell.row: sweep.configs[cell.signature] for cell in reversed(sweep.cells)}
    for row, expected in ISSUE.items():
        assert {dotted: setting(first[row], dotted) for dotted in expected} == expected
    labelled = {first[row].losses.ce_series for row in ISSUE.keys() - {"vqshape", "statistics"}}
    assert labelled == {label}
    cells = {(cell.row, cell.seed, cell.fold) for cell in sweep.cells}
    trained = set(product(ISSUE.keys() - {"statistics"}, range(seeds), range(folds)))
    assert cells == trained | {("statistics", None, fold) for fold in range(folds)}
    assert len(sweep.configs) == len(cells)
    assert sweep.reference == "supervised" and ["z_one_way", "shuffled_samples"] in sweep.contrasts


def test_signatures_do_not_hang_on_the_order_of_rows_that_read_more_or_less_text(tmp_path: Path) -> None:
    """Sub-actions alone read no text of a class, with guidance they do: two digests under one `text`."""
    rows = ["  guided: {model.guidance.attention: one_way}", "  alone: {model.guidance.attention: none}"]
    found = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "x.yaml"
        path.write_text(
            "\n".join(["set: {model.sub_actions: decoder, losses.sub_action: 0.1}", "variants:", *order])
        )
        found.append({cell.row: cell.signature for cell in load(path, Store(tmp_path / "store")).cells})
    assert found[0] == found[1] and len(set(found[0].values())) == 2


def test_every_cell_has_the_signature_of_its_config_at_its_seed_and_fold(plan: Any) -> None:
    rows = "variants: {guided: {model.guidance.attention: one_way}, statistics: {baseline: statistics}}\n"
    sweep = plan(f"set: {{{SPAR}}}\nseeds: [4, 2]\nfolds: 3\n{rows}")
    for cell in sweep.cells:
        config = sweep.configs[cell.signature]
        assert cell.signature == signature(config, sweep.digests[cell.signature])
        assert (config.seed, config.data.fold) == (4 if cell.seed is None else cell.seed, cell.fold)
