"""Test windows disturbed on purpose, for a trained classifier to read: how fast does it get worse?

What is drawn hangs on the kind and the window's number alone, and strength scales it: every variant, seed and
strength meets the same disturbance of a window, so that rows compare in pairs and a curve is one of its own.
W windows, M channels, T steps, P placements.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.augment import rotation
from experiments.classifier import Classifier
from experiments.data.side import Side
from experiments.metrics import macro_f1
from model.streams import stream

PART = 1024  # windows at a time, a multiple of any classifier's pass: each pass is as it was in the trial


class Sensors(NamedTuple):
    """std (M,): of each channel in training. triads: for each placement, the places of x, y and z of each of
    its sensors."""

    std: np.ndarray
    triads: list[list[list[int]]]


class Kind(NamedTuple):
    """draw: what a window meets, from (its generator, M, T, P). apply: to windows (W, M, T), with what each
    drew, at one strength."""

    strengths: tuple[float, ...]
    draw: Callable[[np.random.Generator, int, int, int], Any]
    apply: Callable[[np.ndarray, list[Any], float, Sensors], np.ndarray]


def noise(x_WMT: np.ndarray, drawn: list[Any], strength: float, sensors: Sensors) -> np.ndarray:
    """White noise; strength is its deviation, in each channel's own deviation in training."""
    return x_WMT + strength * sensors.std[:, None] * np.stack(drawn)


def scale(x_WMT: np.ndarray, drawn: list[Any], strength: float, sensors: Sensors) -> np.ndarray:
    """All of a window by 1 + strength or by 1 - strength: a sensor of another gain."""
    return x_WMT * (1 + strength * np.array(drawn, dtype=float))[:, None, None]


def rotate(x_WMT: np.ndarray, drawn: list[Any], strength: float, sensors: Sensors) -> np.ndarray:
    """Each placement by `strength` degrees about an axis of its own, evenly drawn."""
    out, axis_WP3 = x_WMT.astype(float), torch.from_numpy(np.stack(drawn))
    angle_W = torch.full((len(x_WMT),), math.radians(strength), dtype=torch.float64)
    for p, triads in enumerate(sensors.triads):
        turn_W33 = rotation(axis_WP3[:, p], angle_W).numpy()
        for places in triads:
            out[:, places] = turn_W33 @ out[:, places]
    return out


def drop(x_WMT: np.ndarray, drawn: list[Any], strength: float, sensors: Sensors) -> np.ndarray:
    """That part of a window's steps never arrives, on no channel: the last one that did is held; before the
    first, the first."""
    steps = x_WMT.shape[2]
    kept_WT = np.stack(drawn) >= min(round(strength * steps), steps - 1)
    held_WT = np.maximum.accumulate(np.where(kept_WT, np.arange(steps), -1), axis=1)
    held_WT = np.where(held_WT < 0, kept_WT.argmax(1)[:, None], held_WT)
    return np.take_along_axis(x_WMT, held_WT[:, None], 2)


KINDS: dict[str, Kind] = {
    "noise": Kind((0.1, 0.2, 0.4, 0.8, 1.6), lambda rng, m, t, p: rng.standard_normal((m, t)), noise),
    "scale": Kind((0.05, 0.1, 0.2, 0.3, 0.5), lambda rng, m, t, p: rng.choice((-1, 1)), scale),
    "rotation": Kind((5, 10, 20, 45, 90), lambda rng, m, t, p: rng.standard_normal((p, 3)), rotate),
    "dropped": Kind((0.1, 0.2, 0.4, 0.6, 0.8), lambda rng, m, t, p: rng.permutation(t), drop),
}


def kinds(sensors: Sensors) -> list[str]:
    """Those that these channels can meet: only x, y and z of one sensor turn."""
    return [name for name in KINDS if name != "rotation" or sensors.triads]


def disturbed(
    kind: str, x_WMT: np.ndarray, window_W: np.ndarray, strengths: tuple[float, ...], sensors: Sensors
) -> list[np.ndarray]:
    """The windows (W, M, T) float32 at each strength; window_W: their numbers in the data set."""
    _, channels, steps = x_WMT.shape
    draw, apply = KINDS[kind].draw, KINDS[kind].apply
    seeds = ([stream("robustness", kind), int(window)] for window in window_W)
    drawn = [draw(np.random.default_rng(seed), channels, steps, len(sensors.triads)) for seed in seeds]
    return [apply(x_WMT, drawn, strength, sensors).astype(np.float32) for strength in strengths]


def curves(found: Classifier, test: Side, window_W: np.ndarray, sensors: Sensors) -> dict[str, float]:
    """`robust/<kind>/<strength>/macro_f1` on the test windows, whose numbers in the data set are window_W."""
    predicted: dict[str, list[np.ndarray]] = {}
    for first, x in zip(range(0, len(test), PART), test.split(PART), strict=True):
        x_WMT, windows = x.cpu().numpy(), window_W[first : first + PART]
        for kind in kinds(sensors):
            strengths = KINDS[kind].strengths
            for strength, changed in zip(
                strengths, disturbed(kind, x_WMT, windows, strengths, sensors), strict=True
            ):
                predicted.setdefault(f"robust/{kind}/{strength:g}/macro_f1", []).append(
                    found.predict(changed, test.device)
                )
    return {name: macro_f1(test.label, np.concatenate(parts)) for name, parts in predicted.items()}
