"""What Optuna is asked: each answer hangs on its arguments alone, for every sampler and every pruner."""

import importlib.util
import math
from typing import Any

import pytest

from experiments.suggest import PRUNERS, SAMPLERS, Judge, Past, ask, importances

SPACE = {
    "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.codes": [32, 64, 128],
    "model.width": {"low": 32, "high": 128, "step": 32, "log": False},
    "model.guidance.into": [["mu", "z"], ["z"]],
}
FINITE = {name: found for name, found in SPACE.items() if name != "train.lr"}
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 3},
    "gp": {"n_startup_trials": 3},
    "nsgaii": {"population_size": 3},
    "nsgaiii": {"population_size": 3},
    "percentile": {"percentile": 50.0, "n_startup_trials": 2},
    "median": {"n_startup_trials": 2},
    "threshold": {"lower": -0.5},
    "patient": {"patience": 1},
}
AVAILABLE = [
    pytest.param(name, marks=pytest.mark.skipif(name == "cmaes" and not importlib.util.find_spec("cmaes"),
                                                reason="cmaes is not installed"))
    for name in SAMPLERS
]  # fmt: skip


def spec(sampler: str = "tpe", pruner: str = "none") -> dict[str, Any]:
    return {
        "sampler": {"name": sampler, "options": OPTIONS.get(sampler, {})},
        "pruner": {"name": pruner, "options": OPTIONS.get(pruner, {})},
        "parallel": 1,
        "seed": 0,
        "space": FINITE if sampler == "brute_force" else SPACE,
    }


def objective(params: dict[str, Any]) -> float:
    at = math.log10(params.get("train.lr", 1e-3)) + 3
    return params["model.codes"] / 256 - at * at - params["model.width"] / 1000


def history(asked: dict[str, Any], trials: int, study: str = "study") -> list[Past]:
    past: list[Past] = []
    common: dict[str, Any] = {}
    for number in range(trials):
        found = ask(asked, study, past, common)
        common, values = found.common, []
        trial = Past(found.params, "running", None, [], found.attributes)
        judge, state = Judge(asked, study, past, trial), "complete"
        for epoch in range(8):
            values.append((epoch, objective(found.params) + 0.05 * (1 - number % 3) * epoch))
            if judge.prunes(*values[-1]):
                state = "pruned"
                break
        past.append(Past(found.params, state, values[-1][1], values, found.attributes | judge.attributes))
    return past


@pytest.mark.parametrize("sampler", AVAILABLE)
def test_a_sampler_suggests_the_same_again_within_the_space(sampler: str) -> None:
    asked, trials = spec(sampler), 8 if sampler == "gp" else 12
    past = history(asked, trials)
    assert past == history(asked, trials)
    for trial in past:
        assert list(trial.params) == list(asked["space"])
        assert trial.params["model.codes"] in (32, 64, 128)
        assert trial.params["model.width"] in (32, 64, 96, 128)
        assert trial.params["model.guidance.into"] in (["mu", "z"], ["z"])
        assert 1e-4 <= trial.params.get("train.lr", 1e-3) <= 1e-2
    assert len({str(trial.params) for trial in past}) > trials / 2


@pytest.mark.parametrize("sampler", AVAILABLE)
def test_studies_of_different_names_do_not_try_the_same(sampler: str) -> None:
    if sampler == "qmc":
        pytest.skip("one sequence of points that fill the space, whatever the study")
    one, other = (history(spec(sampler), 3, study) for study in ("one", "other"))
    assert [trial.params for trial in one] != [trial.params for trial in other]


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pruner_says_the_same_again(pruner: str) -> None:
    past = history(spec("random", pruner), 10)
    assert past == history(spec("random", pruner), 10)
    assert any(trial.state == "pruned" for trial in past) == (pruner != "none")


def test_what_successive_halving_stored_with_earlier_trials_is_what_later_ones_meet() -> None:
    """Its rungs live in the trials' attributes: without them every trial would be the first of its rung."""
    asked = spec("random", "successive_halving")
    past = history(asked, 10)
    assert any(name.startswith("completed_rung") for trial in past for name in trial.attributes)
    late = next(n for n, trial in enumerate(past) if trial.state == "pruned")
    bare = [trial._replace(attributes={}) for trial in past[:late]]
    judge = Judge(asked, "study", bare, Past(past[late].params, "running", None, [], {}))
    assert not any(judge.prunes(*value) for value in past[late].intermediate)


def test_quasi_random_points_go_on_from_trial_to_trial() -> None:
    past = history(spec("qmc"), 9)
    assert len({trial.params["train.lr"] for trial in past}) == 9


def test_after_failures_alone_a_sequence_still_moves() -> None:
    past: list[Past] = []
    for _ in range(4):
        found = ask(spec("qmc"), "study", past, {})
        past.append(Past(found.params, "failed", None, [], found.attributes))
    assert len({trial.params["train.lr"] for trial in past}) == 4


def test_a_running_trial_keeps_the_next_one_away() -> None:
    """Constant liar: of two trials asked at the same past, the second knows where the first is."""
    past = history(spec(), 8)
    first = ask(spec(), "study", past, {})
    lie = Past(first.params, "running", None, [], first.attributes)
    second = ask(spec(), "study", [*past, lie], {})
    silent = ask(spec(), "study", [*past, lie._replace(state="failed")], {})
    assert second.params != first.params and second.params != silent.params


def test_importance_goes_to_what_moves_the_objective() -> None:
    past = history(spec("random"), 24)
    found = importances(spec("random"), "study", past)
    assert found is not None and found == importances(spec("random"), "study", past)
    assert max(found, key=lambda name: found[name]) == "train.lr"
    assert math.isclose(sum(found.values()), 1) and set(found) == set(SPACE)


def test_too_few_or_equal_trials_tell_no_importance() -> None:
    past = history(spec("random"), 8)
    assert importances(spec("random"), "study", past[:4]) is None
    assert importances(spec("random"), "study", [trial._replace(value=0.5) for trial in past]) is None
    assert importances(spec("random"), "study", [trial._replace(state="pruned") for trial in past]) is None
