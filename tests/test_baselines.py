"""Rows that are not the core: FCN and MiniRocket."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments import fcn
from experiments.attempt import Attempt, Clock
from experiments.baselines import minirocket
from experiments.config import RunConfig, TrainConfig
from experiments.data.side import Side
from experiments.data.windows import Windows
from experiments.fcn import FCN, Training, Validation, predict
from experiments.lease import claim
from experiments.schedule import factor
from model.streams import generator

ROOT = Path(__file__).parent.parent
CLASSES, CHANNELS, STEPS = 3, 2, 20


def side(windows: int, seed: int, channels: int = CHANNELS, steps: int = STEPS, shift: float = 5.0) -> Side:
    """Noise around sines, one frequency a class, at a level and a size of each channel's own."""
    rng = np.random.default_rng(seed)
    label_W = np.arange(windows) % CLASSES
    phase_WM1 = rng.uniform(0, 2 * np.pi, (windows, channels, 1))
    turn_WMT = 2 * np.pi * (label_W + 1)[:, None, None] * np.arange(steps) / steps + phase_WM1
    x_WMT = np.sin(turn_WMT) + 0.1 * rng.normal(size=turn_WMT.shape)
    x_WMT = (shift + 100 * x_WMT * (1 + np.arange(channels))[:, None]).astype(np.float32)
    return made(x_WMT, label_W)


def made(x_WMT: np.ndarray, label_W: np.ndarray) -> Side:
    nobody, rows = np.full(len(x_WMT), -1), np.arange(len(x_WMT))
    windows = Windows(x_WMT, label_W.astype(np.int64), nobody, rows, nobody.astype(np.int8))
    return Side.of(windows, rows, "cpu")


def series(source: Side) -> np.ndarray:
    """A copy of a side's windows."""
    return source.at(np.arange(len(source))).numpy().copy()


def config(seed: int = 0, **train: Any) -> RunConfig:
    asked = {"epochs": 2, "batch_size": 8, **train}
    return RunConfig.model_validate({"train": asked, "seed": seed})


def trained(
    asked: RunConfig, train: Side | None = None, val: Side | None = None, lines: list[Any] | None = None
) -> tuple[FCN, int]:
    """Undisturbed; `lines` gets those of metrics.jsonl."""
    train, val = train or side(24, 0), val or side(9, 1)
    with TemporaryDirectory() as folder:
        attempt = Attempt(claim(Path(folder)), "identity", Clock(0.0))
        found = Training(asked, train, CLASSES, attempt).fit(val)
        if lines is not None:
            lines += map(json.loads, attempt.lines)
        return found


def same(a: FCN, b: FCN) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# FCN: its layers.


def test_layers_keep_the_steps_and_parameters_are_as_counted_by_hand() -> None:
    model = FCN(6, 7, 0).eval()
    h = torch.randn(4, 6, 50)
    for block, maps in zip(model.blocks, (128, 256, 128), strict=True):
        h = block(h)
        assert h.shape == (4, maps, 50) and h.min() >= 0
    assert model(torch.randn(4, 6, 50)).shape == (4, 7)
    convolutions = 6 * 128 * 8 + 128 * 256 * 5 + 256 * 128 * 3
    norms = 2 * (128 + 256 + 128)
    assert sum(p.numel() for p in model.parameters()) == convolutions + norms + 128 * 7 + 7


@pytest.mark.parametrize(("kernel", "before"), [(8, 3), (5, 2), (3, 1)])
def test_a_block_pads_with_zeros_as_keras_does(kernel: int, before: int) -> None:
    block = fcn.Block(1, 1, kernel).eval()
    nn.init.ones_(block.conv.weight)
    x = torch.rand(1, 1, 12)
    padded = np.concatenate([np.zeros(before), x[0, 0].numpy(), np.zeros(kernel - 1 - before)])
    sums = np.lib.stride_tricks.sliding_window_view(padded, kernel).sum(1) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(block(x)[0, 0].detach().numpy(), sums, rtol=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_short_windows_pass(steps: int) -> None:
    assert FCN(1, 2, 0)(torch.randn(3, 1, steps)).shape == (3, 2)


def test_initial_weights_hang_on_the_seed_and_on_no_global_generator() -> None:
    torch.manual_seed(1)
    first = FCN(2, 3, 0)
    after = torch.rand(())
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(()))  # nothing was taken from it
    torch.manual_seed(2)
    assert same(first, FCN(2, 3, 0))
    assert not same(first, FCN(2, 3, 1))


# FCN: its training.


def test_it_learns_an_easy_problem_to_the_last_window() -> None:
    train, val = side(60, 0), side(30, 1)
    model, _ = trained(config(epochs=6), train, val)
    assert (predict(model, train) == train.label).all()
    assert (predict(model, val) == val.label).mean() > 0.9


def test_a_seed_gives_the_same_bits_and_another_seed_other_ones() -> None:
    torch.manual_seed(1)
    first, _ = trained(config())
    torch.manual_seed(2)
    assert same(first, trained(config())[0])
    assert not same(first, trained(config(seed=1))[0])


def test_windows_come_in_the_order_of_the_seed_and_the_epoch() -> None:
    train = side(20, 0)

    def seen(seed: int, epoch: int) -> list[float]:
        batches = list(fcn.epoch_batches(config(seed=seed), train, epoch))
        assert [len(x) for x, _ in batches] == [8, 8, 4]
        x_WMT, label_W = (torch.cat(parts) for parts in zip(*batches, strict=True))
        places = [int((train.at(np.arange(20)) == x).all((1, 2)).nonzero()) for x in x_WMT]
        assert sorted(places) == list(range(20)) and label_W.tolist() == train.label[places].tolist()
        return [float(place) for place in places]

    assert seen(0, 0) == seen(0, 0)
    assert seen(0, 0) != seen(0, 1) and seen(0, 0) != seen(1, 0)


def test_moments_are_those_of_training_windows() -> None:
    train = side(24, 0)
    models = [trained(config(), train, val)[0] for val in (side(9, 1), side(9, 2, shift=1e4))]
    assert same(*models)  # with select: last, validation moves nothing
    x_WMT = train.at(np.arange(24))
    torch.testing.assert_close(models[0].offset[:, 0], x_WMT.mean((0, 2)))
    torch.testing.assert_close(models[0].scale[:, 0], x_WMT.std((0, 2), correction=0))


def test_a_channel_that_never_moves_is_only_shifted() -> None:
    train = side(24, 0)
    x_WMT = series(train)
    x_WMT[:, 1] = 0.1
    model, _ = trained(config(), made(x_WMT, train.label))
    assert float(model.scale[1]) == 1
    assert float(model.scale[0]) > 10


def test_a_last_batch_of_one_window_trains() -> None:
    model, _ = trained(config(batch_size=8), side(17, 0))
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_prediction_does_not_depend_on_the_windows_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = trained(config())
    val = side(9, 1)
    model.train()  # a caller may hand it over so
    together = predict(model, val)
    assert together.shape == (9,) and not model.training
    monkeypatch.setattr(fcn, "PART", 1)
    assert (predict(model, val) == together).all()


def test_validation_is_looked_at_every_so_often_and_at_the_last() -> None:
    lines: list[dict[str, float]] = []
    trained(config(epochs=5, validate_every=2), lines=lines)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["epoch"] for line in lines if "val/macro_f1" in line] == [1, 3, 4]
    assert all(set(line) - {"val/macro_f1"} == {"epoch", "train/loss", "time_s"} for line in lines)


def test_looking_at_validation_changes_no_training() -> None:
    often, rarely = (trained(config(epochs=3, validate_every=n))[0] for n in (1, 3))
    assert same(often, rarely)


def test_the_logged_loss_is_the_mean_over_windows() -> None:
    train = side(17, 0)
    lines: list[dict[str, float]] = []
    asked = config(epochs=1, lr=1e-12, lr_min=0)  # the weights stay
    trained(asked, train, lines=lines)
    model = FCN(CHANNELS, CLASSES, 0)
    model.standardize(train.moments)
    with torch.no_grad():
        total = sum(
            float(nn.functional.cross_entropy(model(x), y, reduction="sum"))
            for x, y in fcn.epoch_batches(asked, train, 0)
        )
    assert lines[0]["train/loss"] == pytest.approx(total / 17, rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.2, 1.0), (0.6, 1.0), (0.4, 0.1)], 1),
        ([(0.6, 1.0), (0.6, 0.5), (0.6, 0.7)], 1),  # a tie goes to the lower loss
        ([(0.6, 1.0), (0.6, 1.0), (0.6, 1.0)], 0),  # and then to the earlier epoch
    ],
)
def test_select_validation_keeps_the_better_epoch(
    monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, float]], best: int
) -> None:
    given, states = iter(scores), []

    def validate(model: FCN, val: Side) -> Validation:
        states.append({k: v.clone() for k, v in model.eval().state_dict().items()})
        return Validation(*next(given))

    monkeypatch.setattr(fcn, "validate", validate)
    model, epoch = trained(config(epochs=3, select="validation"))
    assert epoch == best and not model.training
    assert all(torch.equal(value, states[best][name]) for name, value in model.state_dict().items())


def test_select_last_keeps_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    full, epoch = trained(config(epochs=3))
    assert epoch == 2 and not full.training
    given = iter([0.9, 0.5, 0.1])
    monkeypatch.setattr(fcn, "validate", lambda *_: Validation(next(given), 0.0))
    assert same(full, trained(config(epochs=3))[0])


def test_validation_scores_the_models_own_predictions() -> None:
    model, val = FCN(CHANNELS, CLASSES, 0), side(9, 1)
    right = made(series(val), predict(model, val))
    assert fcn.validate(model, right).macro_f1 == 1
    logits = model(val.at(np.arange(9))).detach()
    loss = -(logits.log_softmax(1)[np.arange(9), val.label]).mean()
    assert fcn.validate(model, val).loss == pytest.approx(float(loss), rel=1e-5)


def test_divergence_is_named() -> None:
    train = side(24, 0)
    x_WMT = series(train)
    x_WMT[3, 0, 4] = np.nan
    with pytest.raises(FloatingPointError, match=r"^diverged: the loss is not finite in epoch 0$"):
        trained(config(), made(x_WMT, train.label))


# The schedule.


def test_the_rate_warms_up_in_a_line_and_falls_along_a_cosine_to_its_floor() -> None:
    train = TrainConfig(lr=0.1, lr_min=0.01, warmup_frac=0.2)
    rates = [factor(step, train, total=10) for step in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.1 + 0.9 / 2)  # half-way between warm-up and end
    assert rates[4] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[10:] == pytest.approx([0.1, 0.1])
    assert factor(0, TrainConfig(warmup_frac=0.0), total=10) == 1


def test_the_rate_by_hand() -> None:
    train = TrainConfig(lr=1.0, lr_min=0.2, warmup_frac=0.2)
    assert [factor(step, train, 10) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 1, 1, 0.6, 0.2])


def test_the_optimiser_is_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.lit import Lit

    made: list[torch.optim.AdamW] = []
    real = torch.optim.AdamW

    def spy(*args: Any, **kwargs: Any) -> torch.optim.AdamW:
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    asked = config(lr=3e-3, weight_decay=0.3)
    trained(asked)
    data: Any = SimpleNamespace(steps=3)
    attempt: Any = SimpleNamespace(saved=None)
    core: Any = nn.Linear(1, 1)
    Lit(asked, core, data, None, attempt, print, print).configure_optimizers()
    ours, cores = ({k: v for k, v in one.defaults.items()} for one in made)
    assert ours == cores


def test_training_is_the_plain_loop_with_the_cores_order_and_rates() -> None:
    asked, train = config(seed=3, epochs=3, batch_size=10, lr=0.01), side(24, 0)
    model = FCN(CHANNELS, CLASSES, 3)
    model.standardize(train.moments)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1.0, weight_decay=asked.train.weight_decay, fused=True)
    done = 0
    for epoch in range(3):
        order = torch.randperm(24, generator=generator(3, epoch, "order")).numpy()
        for at in (order[:10], order[10:20], order[20:]):
            loss = nn.functional.cross_entropy(model(train.at(at)), torch.tensor(train.label[at]))
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = slope
            nn.utils.clip_grad_norm_(weights, asked.train.clip)
            optimizer.param_groups[0]["lr"] = 0.01 * factor(done, asked.train, 9)
            optimizer.step()
            done += 1
    assert same(model, trained(asked, train)[0])


def test_gradients_are_clipped_by_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        parts = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(parts).norm()))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trained(config(clip=1e-3))
    assert len(norms) == 2 * 3 and norms == pytest.approx([1e-3] * 6, rel=1e-2)


# MiniRocket.


@pytest.fixture(scope="module")
def rocketed() -> list[np.ndarray]:
    return minirocket(side(24, 0), [side(9, 1), side(1, 2)], 0)


def test_minirocket_gives_features_of_each_side(rocketed: list[np.ndarray]) -> None:
    assert [x_WF.shape for x_WF in rocketed] == [(24, 9996), (9, 9996), (1, 9996)]
    for x_WF in rocketed:
        assert x_WF.dtype == np.float32
        assert x_WF.min() >= 0 and x_WF.max() <= 1
    assert np.ptp(rocketed[0], axis=0).max() > 0.5


def test_a_sides_features_depend_on_no_other_side_but_training(rocketed: list[np.ndarray]) -> None:
    train, val = minirocket(side(24, 0), [side(9, 1)], 0)
    assert (train == rocketed[0]).all() and (val == rocketed[1]).all()
    _, _, again = minirocket(side(24, 0), [side(30, 5, shift=1e4), side(9, 1)], 0)
    assert (again == rocketed[1]).all()
    _, other = minirocket(side(24, 7), [side(9, 1)], 0)
    assert (other != rocketed[1]).any()


def test_windows_are_transformed_one_by_one(
    monkeypatch: pytest.MonkeyPatch, rocketed: list[np.ndarray]
) -> None:
    monkeypatch.setattr("experiments.baselines.PART", 4)
    parts = minirocket(side(24, 0), [side(9, 1)], 0)
    assert all((a == b).all() for a, b in zip(parts, rocketed, strict=False))


def test_minirocket_hangs_on_the_seed_and_leaves_numpys_generator_alone(rocketed: list[np.ndarray]) -> None:
    np.random.seed(3)
    again = minirocket(side(24, 0), [], 0)
    after = np.random.rand()
    np.random.seed(3)
    assert after == np.random.rand()
    assert (again[0] == rocketed[0]).all()
    assert (minirocket(side(24, 0), [], 1)[0] != rocketed[0]).any()


def test_minirocket_takes_one_channel_and_nine_steps() -> None:
    assert minirocket(side(6, 0, channels=1, steps=9), [], 0)[0].shape == (6, 9996)
    with pytest.raises(ValueError, match="must be >= 9"):
        minirocket(side(6, 0, steps=8), [], 0)


def test_numba_is_loaded_by_the_transform_alone() -> None:
    code = "import sys, experiments.baselines, experiments.fcn; print({'aeon', 'numba'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


FORKS = """
import multiprocessing, sys
sys.path.insert(0, "tests")
from test_baselines import digest_of_features

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        forked = pool.apply(digest_of_features)
    print(forked, digest_of_features())
"""


def digest_of_features() -> str:
    features = minirocket(side(24, 0), [side(9, 1), side(1, 2)], 0)
    return hashlib.sha256(b"".join(x_WF.tobytes() for x_WF in features)).hexdigest()


def test_a_forked_process_gives_the_same_bits(rocketed: list[np.ndarray]) -> None:
    """The fork server's parent has not used it, as its docstring asks."""
    command = [sys.executable, "-c", FORKS]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    ours = hashlib.sha256(b"".join(x_WF.tobytes() for x_WF in rocketed)).hexdigest()
    assert out.stdout.split() == [ours, ours], out.stderr
