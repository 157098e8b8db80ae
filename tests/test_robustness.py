"""Disturbed windows, by hand."""

import math

import numpy as np
import pytest
import torch

from experiments import robustness
from experiments.classifier import Classifier
from experiments.data.side import Side
from experiments.robustness import KINDS, Sensors, curves, disturbed, kinds

# Two sensors of one placement, and a channel that is none's axis.
SENSORS = Sensors(np.array([1, 2, 4, 1, 1, 1, 0.5], dtype=np.float32), [[[0, 1, 2], [3, 4, 5]]])
RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (40, 7, 50)).astype(np.float32)
WINDOWS = np.arange(40) * 7 % 40


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_leaves_every_bit(kind: str) -> None:
    (found,) = disturbed(kind, X, WINDOWS, (0.0,), SENSORS)
    assert found.dtype == X.dtype and np.array_equal(found, X)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_meets_the_same_whatever_stands_beside_it(kind: str) -> None:
    strengths = KINDS[kind].strengths
    assert len(strengths) == 5 and list(strengths) == sorted(strengths)
    together = disturbed(kind, X, WINDOWS, strengths, SENSORS)
    some = np.array([31, 2, 17])
    apart = disturbed(kind, X[some], WINDOWS[some], strengths, SENSORS)
    for whole, part in zip(together, apart, strict=True):
        assert np.array_equal(whole[some], part)
    again = disturbed(kind, X, WINDOWS + 40, strengths, SENSORS)
    assert not np.array_equal(again[-1], together[-1])


def test_noise_has_the_part_of_each_channels_deviation_and_one_shape_at_all_strengths() -> None:
    weak, strong = (
        (found - X) / SENSORS.std[:, None] for found in disturbed("noise", X, WINDOWS, (0.1, 0.8), SENSORS)
    )
    assert strong == pytest.approx(8 * weak, abs=1e-5)
    assert strong.std((0, 2)) == pytest.approx(np.full(7, 0.8), rel=0.05)
    assert np.abs(strong.mean((0, 2))).max() < 0.07


def test_a_window_is_scaled_up_or_down_as_a_whole() -> None:
    (found,) = disturbed("scale", X, WINDOWS, (0.25,), SENSORS)
    factor_W = (found / X).mean((1, 2))
    assert found == pytest.approx(X * factor_W[:, None, None], rel=1e-6)
    assert {round(float(f), 5) for f in factor_W} == {0.75, 1.25}


def test_sensors_of_a_placement_turn_together_by_the_angle_and_nothing_else_does() -> None:
    x = X.copy()
    x[:, :3, :3] = x[:, 3:6, :3] = np.eye(3)
    (found,) = disturbed("rotation", x, WINDOWS, (30.0,), SENSORS)
    turn_W33 = found[:, :3, :3]
    assert np.trace(turn_W33, axis1=1, axis2=2) == pytest.approx(1 + 2 * math.cos(math.radians(30)), abs=1e-5)
    assert np.linalg.det(turn_W33) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found[:, 3:6, :3], turn_W33)
    assert found[:, :3] == pytest.approx(turn_W33 @ x[:, :3], abs=1e-4)
    assert np.array_equal(found[:, 6], x[:, 6])
    assert len({turn.tobytes() for turn in turn_W33}) == len(X)


def test_steps_that_never_arrive_hold_the_last_that_did() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 6)
    dropped = [np.array([0, 3, 1, 5, 2, 4])]  # the first, the third and the fifth are the first three to go
    assert robustness.drop(x, dropped, 0.5, SENSORS).tolist() == [[[1, 1, 1, 3, 3, 5], [7, 7, 7, 9, 9, 11]]]
    assert robustness.drop(x, dropped, 1.0, SENSORS).tolist() == [[[3] * 6, [9] * 6]]


def test_more_steps_go_where_fewer_went_already() -> None:
    few, many = disturbed("dropped", X, WINDOWS, (0.2, 0.6), SENSORS)
    gone_few, gone_many = (np.diff(found, axis=2)[:, 0] == 0 for found in (few, many))
    assert (gone_many | ~gone_few).mean() > 0.99  # but where a first step waits for the first that arrives
    assert gone_few.mean() == pytest.approx(0.2, abs=0.02)
    assert gone_many.mean() == pytest.approx(0.6, abs=0.02)


def test_only_three_axes_of_a_sensor_turn() -> None:
    assert kinds(SENSORS) == list(KINDS)
    assert kinds(SENSORS._replace(triads=[])) == ["noise", "scale", "dropped"]


def test_a_curve_is_the_macro_f1_of_disturbed_windows_and_labels_only_score_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(robustness, "PART", 16)
    seen = []

    def score(side: Side) -> np.ndarray:
        """By the sign of the last channel's mean, which noise alone moves."""
        seen.append((side.label, side.subject))
        mean_W = side.at(np.arange(len(side)))[:, 6].mean(-1).numpy()
        return np.stack([-mean_W, mean_W], axis=1)

    label = (X[:, 6].mean(-1) > 0).astype(int)
    x = X - X.mean(-1, keepdims=True) + (label[:, None, None] * 2 - 1) * 0.05

    def found(label: np.ndarray) -> dict[str, float]:
        side = Side(torch.from_numpy(x), np.arange(len(x)), label, label, "cpu")
        return curves(Classifier(("low", "high"), score), side, WINDOWS, SENSORS)

    right = found(label)
    assert right["robust/scale/0.5/macro_f1"] == right["robust/rotation/90/macro_f1"] == 1
    assert right["robust/noise/0.1/macro_f1"] > right["robust/noise/1.6/macro_f1"] > 0
    assert len(right) == 20
    assert found(1 - label)["robust/scale/0.5/macro_f1"] == 0
    assert all((shown == -1).all() for both in seen for shown in both)
