"""Augmentations, each by hand and alone."""

import math

import numpy as np
import pytest
import torch
from guided_fixture import side

from experiments.augment import Augment, rotation, warped
from experiments.config import AugmentConfig, RunConfig
from experiments.lit import TrainingSet
from experiments.texts import Text

TRIADS = [[[0, 1, 2], [3, 4, 5]], [[7, 8, 9]]]
X = torch.randn(16, 10, 50, generator=torch.Generator().manual_seed(1)) + 3


def changed(seed: int = 0, **settings: float) -> torch.Tensor:
    mean, std = X.mean((0, 2)), torch.arange(1.0, 11)
    augment = Augment(AugmentConfig(**settings), mean, std, TRIADS)
    before = X.clone()
    found = augment(X, torch.Generator().manual_seed(seed))
    assert torch.equal(X, before), "the windows themselves stay as they are"
    return found


@pytest.mark.parametrize("name", AugmentConfig.model_fields)
def test_each_augmentation_alone_changes_windows_and_is_drawn_by_its_generator(name: str) -> None:
    found = changed(**{name: 0.3})
    assert found.shape == X.shape and not torch.equal(found, X)
    assert torch.equal(changed(**{name: 0.3}), found) and not torch.equal(changed(1, **{name: 0.3}), found)


def test_jitter_is_white_noise_in_each_channels_own_deviation() -> None:
    noise = changed(jitter=0.1) - X
    assert noise.std((0, 2)) == pytest.approx(0.1 * torch.arange(1.0, 11), rel=0.12)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)


def test_scaling_multiplies_each_channel_of_each_window_by_one_number() -> None:
    ratio = changed(scaling=0.2) / X
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4)
    assert float(ratio[..., 0].std()) == pytest.approx(0.2, rel=0.2)


def test_rotation_turns_all_sensors_of_a_placement_alike_and_nothing_else() -> None:
    found = changed(rotation_deg=60.0)
    assert torch.equal(found[:, 6], X[:, 6])
    for places in ([0, 1, 2], [3, 4, 5], [7, 8, 9]):
        assert torch.allclose(found[:, places].norm(dim=1), X[:, places].norm(dim=1), rtol=1e-4)
        assert not torch.allclose(found[:, places], X[:, places])
    turns = [
        torch.linalg.lstsq(X[0, p].T, found[0, p].T).solution.T for p in ([0, 1, 2], [3, 4, 5], [7, 8, 9])
    ]
    assert torch.allclose(turns[0], turns[1], atol=1e-4) and not torch.allclose(turns[0], turns[2], atol=1e-2)
    angles = torch.acos(((turns[0].trace() - 1) / 2).clamp(-1, 1))
    assert 0 < math.degrees(float(angles)) <= 60


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    turn = rotation(torch.tensor([[0.0, 0, 5]]), torch.tensor([math.pi / 2]))[0]
    assert torch.allclose(turn @ torch.tensor([1.0, 2, 3]), torch.tensor([-2.0, 1, 3]), atol=1e-6)


def test_time_warp_keeps_the_ends_and_runs_as_fast_as_it_says() -> None:
    ramp = torch.arange(50.0).expand(1, 2, 50)
    assert torch.allclose(warped(ramp, torch.zeros(1, 4)), ramp, atol=1e-4)
    slow_then_fast = warped(ramp, torch.tensor([[-0.5, -0.5, 0.5, 0.5]]))[0, 0]
    assert slow_then_fast[[0, -1]].tolist() == pytest.approx([0, 49], abs=1e-4)
    assert (slow_then_fast.diff() > 0).all()
    assert slow_then_fast.diff()[-1] / slow_then_fast.diff()[0] == pytest.approx(3, rel=0.01)


def test_channel_drop_leaves_the_training_mean_where_it_strikes() -> None:
    found, mean = changed(channel_drop=0.4), X.mean((0, 2))
    dropped = (found != X).all(2)
    assert torch.equal(found[~dropped], X[~dropped])
    assert torch.equal(found[dropped], mean[:, None].expand_as(X)[dropped])
    assert 0.25 < float(dropped.float().mean()) < 0.55


def test_training_windows_change_anew_each_epoch_on_a_stream_of_their_own() -> None:
    config = RunConfig.model_validate({"train": {"batch_size": 5}, "data": {"augment": {"jitter": 0.1}}})
    windows = side(X, np.arange(16) % 3)
    augment = Augment(config.data.augment, X.mean((0, 2)), X.std((0, 2)), [])
    plain, other = TrainingSet(config, windows, Text()), TrainingSet(config, windows, Text(), augment)
    for epoch in (0, 1):
        pairs = zip(plain.epoch(epoch), other.epoch(epoch), strict=True)
        for (one, _), (two, _) in pairs:
            assert torch.equal(one.keep, two.keep) and torch.equal(one.label, two.label)
            assert not torch.equal(one.x, two.x) and float((one.x - two.x).abs().max()) < 1
    first, again, later = (torch.cat([s.batch.x for s in other.epoch(e)]) for e in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)
