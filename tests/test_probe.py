"""The probe against scikit-learn's, fitted for each penalty, and against its equations solved densely."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from experiments import data, metrics, probe
from experiments.baselines import statistics
from experiments.config import DataConfig

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)


class Sides(NamedTuple):
    """Features (W, F) and labels of the windows fitted on and of others."""

    x: np.ndarray
    y: np.ndarray
    new_x: np.ndarray
    new_y: np.ndarray


def drawn(windows: int, features: int, classes: int) -> Sides:
    """Correlated features of unequal size, a constant one among them, that say a little of the class."""
    rng = np.random.default_rng(windows + features + classes)
    y = rng.permutation(np.arange(2 * windows) % classes)
    hidden = rng.standard_normal((2 * windows, 12)) + 0.5 * rng.standard_normal((classes, 12))[y]
    x = hidden @ rng.standard_normal((12, features)) + rng.standard_normal((2 * windows, features))
    x = 3 + x * np.exp(rng.standard_normal(features))
    x[:, 1] = 0.1
    return Sides(x[:windows], y[:windows], x[windows:], y[windows:])


def recorded(config: DataConfig, projections: int = 0) -> Sides:
    """Statistics of real windows, or random projections of the windows; new ones are validation's."""
    entry = data.DATASETS[config.name]
    windows, amount, _ = entry.read(entry.files(data.root()), config)
    train, val, _ = data.split(windows, amount, config)
    x = statistics(data.Side.of(windows, np.arange(len(windows.label)), "cpu"))
    if projections:
        flat = windows.series.reshape(len(x), -1)
        x = np.tanh(flat @ np.random.default_rng(0).standard_normal((flat.shape[1], projections)) / 30)
    return Sides(x[train], windows.label[train], x[val], windows.label[val])


SPAR = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")
CASES = {
    "tall": lambda: drawn(90, 20, 4),
    "wide": lambda: drawn(40, 300, 4),
    "square": lambda: drawn(50, 50, 3),
    "two_classes_tall": lambda: drawn(80, 10, 2),
    "two_classes_wide": lambda: drawn(30, 100, 2),
    "basic_motions_statistics": lambda: recorded(DataConfig()),
    "basic_motions_projected": lambda: recorded(DataConfig(), projections=200),
    "spar_statistics": lambda: recorded(SPAR),
    "spar_projected": lambda: recorded(SPAR, projections=300),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module", params=CASES)
def sides(request: pytest.FixtureRequest) -> Sides:
    return CASES[request.param]()


def sklearn(penalty: float, x: np.ndarray, y: np.ndarray) -> Pipeline:
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty)).fit(np.asarray(x, dtype=float), y)


def weights(x: probe.Blocks, y: np.ndarray) -> tuple[probe.RidgePath, dict[tuple[float, ...], np.ndarray]]:
    path = probe.RidgePath(x, y)
    return path, dict(path.weights([PENALTIES] * len(x)))


def test_one_block_is_scikit_learns_ridge_classifier_at_every_penalty(sides: Sides) -> None:
    path, found = weights([sides.x], sides.y)
    new = path.standardised([sides.new_x])
    assert list(found) == [(p,) for p in PENALTIES]
    for (penalty,), w in found.items():
        theirs = sklearn(penalty, sides.x, sides.y)
        coefficients = np.atleast_2d(theirs[-1].coef_).T  # two classes are one column
        np.testing.assert_allclose(w, coefficients, rtol=0, atol=1e-6 * np.abs(coefficients).max())
        decision = theirs.decision_function(sides.new_x.astype(float)).reshape(len(new), -1)
        ours = new @ w + path.intercept_Y
        np.testing.assert_allclose(ours, decision, rtol=0, atol=1e-6 * np.abs(decision).max())
        np.testing.assert_array_equal(path.predict(new, w), theirs.predict(sides.new_x.astype(float)))


@pytest.mark.parametrize("features", [8, 120], ids=["tall", "wide"])
def test_two_blocks_solve_the_primal_and_the_dual_equations_at_every_pair(features: int) -> None:
    drew, beside = drawn(60, features, 3), drawn(60, 12, 3)
    path, found = weights([drew.x, beside.x], drew.y)
    assert list(found) == list(product(PENALTIES, PENALTIES))
    scaled = [StandardScaler().fit_transform(x) for x in (drew.x, beside.x)]
    both, y = np.hstack(scaled), np.where(drew.y[:, None] == range(3), 1.0, -1.0)
    for (first, second), w in found.items():
        diagonal = np.diag([first] * features + [second] * 12)
        primal = np.linalg.solve(both.T @ both + diagonal, both.T @ (y - y.mean(0)))
        np.testing.assert_allclose(w, primal, rtol=0, atol=1e-6 * np.abs(primal).max())
        kernel = sum(x @ x.T / p for x, p in zip(scaled, (first, second), strict=True))
        dual = np.linalg.solve(kernel + np.eye(60), y - y.mean(0))
        np.testing.assert_allclose(
            path.standardised([drew.x, beside.x]) @ w, kernel @ dual, rtol=0, atol=1e-6
        )


def test_equal_penalties_make_two_blocks_one() -> None:
    drew, beside = drawn(60, 120, 3), drawn(60, 12, 3)
    _, pairs = weights([drew.x, beside.x], drew.y)
    _, alone = weights([np.hstack([drew.x, beside.x])], drew.y)
    for penalty in PENALTIES:
        np.testing.assert_allclose(pairs[penalty, penalty], alone[penalty,], rtol=0, atol=1e-9)


def test_a_small_block_counts_beside_a_large_one_that_says_nothing() -> None:
    rng = np.random.default_rng(0)
    y, noise = np.arange(400) % 3, rng.standard_normal((400, 900))
    scale = rng.standard_normal((3, 12))[y] + 1.5 * rng.standard_normal((400, 12))

    def f1(split: probe.Blocks) -> float:
        halves = [x[:200] for x in split], [x[200:] for x in split]
        return probe.tune(halves[0], y[:200], halves[1], y[200:], PENALTIES).val_macro_f1

    alone, appended, separate = f1([scale]), f1([np.hstack([noise, scale])]), f1([noise, scale])
    assert separate >= alone - 0.02 and alone > appended + 0.1


def test_ties_go_to_the_largest_penalties_and_the_first_block_before_the_second() -> None:
    y = np.arange(40) % 2
    easy, other = np.random.default_rng(0).standard_normal((2, 40, 3)) + 9 * y[:, None]
    one = probe.tune([easy], y, [easy], y, PENALTIES[::-1])
    assert one == ((10000.0,), 1.0)
    two = probe.tune([easy, other], y, [easy, other], y, PENALTIES)
    assert two == ((10000.0, 10000.0), 1.0)


def test_the_choice_and_the_test_scores_are_those_of_a_loop_over_scikit_learn(sides: Sides) -> None:
    x = (sides.x, sides.new_x[::2], sides.new_x[1::2])
    y = (sides.y, sides.new_y[::2], sides.new_y[1::2])
    tested = probe.test(([x[0]], [x[1]], [x[2]]), y, PENALTIES)

    def val(penalty: float) -> float:
        return metrics.macro_f1(y[1], sklearn(penalty, x[0], y[0]).predict(x[1].astype(float)))

    best = max(PENALTIES, key=lambda p: (val(p), p))
    both = sklearn(best, np.concatenate(x[:2]), np.concatenate(y[:2]))
    np.testing.assert_array_equal(tested.predicted, both.predict(x[2].astype(float)))
    assert tested.metrics["val/penalty"] == best and tested.metrics["val/macro_f1"] == val(best)
    assert tested.metrics["test/accuracy"] == np.mean(tested.predicted == y[2])


def test_the_second_penalty_is_reported_where_there_is_a_second_block() -> None:
    drew, beside = drawn(60, 120, 3), drawn(60, 12, 3)
    x = [[drew.x, beside.x], [drew.new_x[:30], beside.new_x[:30]], [drew.new_x[30:], beside.new_x[30:]]]
    y = (drew.y, drew.new_y[:30], drew.new_y[30:])
    two = probe.test((x[0], x[1], x[2]), y, PENALTIES).metrics
    one = probe.test((x[0][:1], x[1][:1], x[2][:1]), y, PENALTIES).metrics
    assert two.keys() - one.keys() == {"val/penalty_scale"} and one.keys() <= two.keys()
    tuned = probe.tune(x[0], y[0], x[1], y[1], PENALTIES)
    assert (two["val/penalty"], two["val/penalty_scale"]) == tuned.penalties


def test_scale_joins_every_representation_as_a_block_and_is_none_itself() -> None:
    tokens, histogram, scale = (np.full((4, n), n) for n in (7, 5, 2))
    found = probe.blocks({"tokens": tokens, "scale": scale, "histogram": histogram})
    assert {name: [x.shape[1] for x in blocks] for name, blocks in found.items()} == {
        "tokens": [7, 2],
        "histogram": [5, 2],
    }
    assert [len(blocks) for blocks in probe.blocks({"tokens": tokens}).values()] == [1]


@pytest.mark.parametrize("present", [(0, 2, 3), (1, 3), (2,)])
def test_a_class_that_no_fitted_window_has_is_never_predicted(present: tuple[int, ...]) -> None:
    drew = drawn(80, 30, 4)
    rows = np.isin(drew.y, present)
    path, found = weights([drew.x[rows]], drew.y[rows])
    for (penalty,), w in found.items():
        predicted = path.predict(path.standardised([drew.new_x]), w)
        assert set(predicted) <= set(present)
        theirs = sklearn(penalty, drew.x[rows], drew.y[rows])
        np.testing.assert_array_equal(predicted, theirs.predict(drew.new_x))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["x", "new_x"])
def test_a_feature_that_is_not_finite_is_refused(bad: float, side: str) -> None:
    drew = drawn(30, 10, 2)
    getattr(drew, side)[3, 4] = bad
    with pytest.raises(ValueError, match="infs or NaNs"):
        probe.tune([drew.x], drew.y, [drew.new_x], drew.new_y, PENALTIES)


def test_test_scores_by_hand() -> None:
    """A feature that is the class, but for the test windows whose class is said to be another."""
    y = np.arange(60) % 3
    x = [np.eye(3)[y]]
    said = y.copy()
    said[y == 0] = np.where(np.arange(20) < 15, 0, 1)  # of 20 windows of class 0, 5 are said to be 1
    found = probe.test((x, x, x), (y, y, said), (1.0,))
    assert (found.predicted == y).all()
    f1 = [2 * 15 / (15 + 20), 2 * 20 / (25 + 20), 1.0]
    assert found.metrics["test/macro_f1"] == pytest.approx(np.mean(f1))
    assert found.metrics["test/accuracy"] == pytest.approx(55 / 60)
    assert found.metrics["test/balanced_accuracy"] == pytest.approx((1 + 20 / 25 + 1) / 3)
