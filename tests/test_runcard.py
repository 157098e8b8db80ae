"""What a row's run says: its numbers are the table's, its best trial is validation's."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mirror_fixture import PLAN, plan_of

from analysis import stats
from experiments import board, runcard
from experiments.config import RunConfig
from experiments.plan import _read
from experiments.runcard import Cards, Cell
from experiments.watch import Result


def cell_of(seed: int, fold: int = 0) -> Cell:
    return Cell("row", str(seed), str(fold), f"{seed}{fold}")


def done(**metrics: float) -> Result:
    return Result(
        "mark", "stamp", "done", {name.replace("__", "/"): value for name, value in metrics.items()}
    )


@pytest.mark.parametrize("unit", ["seed", "fold"])
@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_a_parents_mean_deviation_and_interval_are_the_tables(unit: Any, pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    folds, seeds = (1, pairs) if unit == "seed" else (pairs, 3)
    results = [
        (cell_of(seed, fold), done(test__macro_f1=rng.random(), constant=0.3, odd=rng.random()))
        for fold in range(folds)
        for seed in range(seeds)
    ]
    del results[-1][1].metrics["odd"]
    lines = [
        {"row": "row", "seed": int(c.seed), "fold": int(c.fold), "status": "done", **result.metrics}
        for c, result in results
    ]
    frame = pd.DataFrame(lines).astype({"seed": "Int64"})
    found = runcard.summary(results, unit == "fold")
    for name in frame.columns[4:]:
        told = stats.summary(frame, name, unit).loc["row"]
        assert found.get(f"{name}/n", found["n"]) == told["n"]
        keys = {"mean": name, "sd": f"{name}/sd", "low": f"{name}/ci_low", "high": f"{name}/ci_high"}
        for column, key in keys.items():
            assert (key in found) == bool(np.isfinite(told[column]))  # one pair has a mean, and no more
            if key in found:
                assert found[key] == pytest.approx(told[column], rel=1e-10, abs=1e-12)


def test_the_best_trial_is_validations_then_the_better_reconstruction_then_the_first() -> None:
    scores = [(0.5, 0.1, 1.0), (0.7, 0.3, 0.0), (0.7, 0.2, 0.0), (0.7, 0.2, 0.9)]
    results = [
        (cell_of(seed), done(val__macro_f1=val, val__series_mse=mse, test__macro_f1=test))
        for seed, (val, mse, test) in enumerate(scores)
    ]
    results.append((cell_of(9), Result("mark", "stamp", "failed", {})))
    assert runcard.best(results) == cell_of(2)
    assert runcard.best(results[:2]) == cell_of(1) and runcard.best(results[4:]) is None


def test_a_row_tells_the_settings_that_it_reads_of_those_that_differ() -> None:
    names = ["model.guidance.into", "losses.ce_series", "baseline"]
    settings = {"model": {"guidance": {"attention": "one_way", "into": ["z"]}}, "losses": {"ce_series": 1}}
    core = RunConfig.model_validate(settings)
    told = {"model.guidance.into": ["z"], "losses.ce_series": 1.0, "baseline": "none"}
    assert _read(core, names) == told
    assert _read(RunConfig(baseline="fcn"), names) == {"baseline": "fcn"}
    assert _read(RunConfig(), names) == {"losses.ce_series": 0.0, "baseline": "none"}


def test_the_uis_view_fits_into_a_tag_whatever_rows_differ_in() -> None:
    assert "params.`into`" in board.view(Cards(PLAN))
    wide = plan_of(*((row, 0, 0, "1") for row in "abc"))
    for row in wide["rows"]:
        row["differs"] = {f"model.some_long_name_{i}": row["name"] for i in range(300)}
    assert 4000 < len(board.view(Cards(wide))) <= board.MOST
