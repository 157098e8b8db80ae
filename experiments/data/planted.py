"""Planted: made-up windows in which it is known what happens when, to judge what codes come to mean.

Eight motifs, each with a phrase, on the leg or on the arm; eight activities, each a sequence of four of them.
No two motifs are in the same activities, so that the texts of activities can tell which is which. People
differ in size, tempo and noise. W windows, M channels, T steps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import resize
from experiments.data.windows import DataSet, Raw, Windows, counted

STEPS, SUBJECTS, EACH = 128, 12, 3  # steps of a window; people; windows of each person and activity
CHANNELS = ("leg_acc_y",)
NOISE = 0.15


class Motif(NamedTuple):
    """A phrase, the channel that it is seen on, and its height at u from 0 to 1."""

    phrase: str
    channel: int
    height: Callable[[np.ndarray], np.ndarray]


MOTIFS = (
    Motif("leg up", 0, lambda u: 2 * np.sin(np.pi * u)),
    Motif("leg down", 0, lambda u: -2 * np.sin(np.pi * u)),
    Motif("lean forward", 0, lambda u: 4 * u - 2),
    Motif("lean back", 0, lambda u: 2 - 4 * u),
    Motif("step", 0, lambda u: 5 * np.exp(-(((u - 0.5) / 0.08) ** 2)) - 1),
    Motif("stamp", 0, lambda u: 1 - 5 * np.exp(-(((u - 0.5) / 0.08) ** 2))),
    Motif("swing the arm", 0, lambda u: 2 * np.sin(2 * np.pi * u)),
    Motif("shake the hand", 0, lambda u: 2 * np.sin(8 * np.pi * u)),
)
PHRASES = tuple(motif.phrase for motif in MOTIFS)


def _activities() -> dict[str, tuple[str, ...]]:
    """Twenty of the sequences of three motifs, each motif in seven or eight of them."""
    rng = np.random.default_rng(7)
    left = np.zeros(len(PHRASES))
    out: dict[tuple[int, ...], tuple[str, ...]] = {}
    while len(out) < 20:
        chosen = tuple(sorted(np.argsort(left + 0.9 * rng.random(len(left)))[:3]))
        if chosen in out:
            continue
        left[list(chosen)] += 1
        out[chosen] = tuple(PHRASES[i] for i in rng.permutation(chosen))
    return {f"activity {n + 1}": phrases for n, phrases in enumerate(out.values())}


ACTIVITIES = _activities()


def draw() -> tuple[np.ndarray, np.ndarray]:
    """series (W, M, T) float32, by person, then activity; motif (W, M, T) int8: which one is at each step,
    -1 for none."""
    rng = np.random.default_rng(20261130)
    count = SUBJECTS * len(ACTIVITIES) * EACH
    motif = np.full((count, len(CHANNELS), STEPS), -1, dtype=np.int8)
    series = np.empty(motif.shape, dtype=np.float32)
    w = 0
    for _ in range(SUBJECTS):
        size, tempo = rng.uniform(0.7, 1.3), rng.uniform(0.1, 0.25)
        for phrases in ACTIVITIES.values():
            for _ in range(EACH):
                series[w] = NOISE * rng.standard_normal(series.shape[1:])
                ends = np.cumsum(rng.uniform(1 - tempo, 1 + tempo, 3))
                ends = np.round(ends / ends[-1] * STEPS).astype(int)
                for phrase, first, end in zip(phrases, [0, *ends[:-1]], ends, strict=True):
                    i = PHRASES.index(phrase)
                    at = np.s_[w, MOTIFS[i].channel, first:end]
                    series[at] += (
                        size * rng.uniform(0.9, 1.1) * MOTIFS[i].height(np.linspace(0, 1, end - first))
                    )
                    motif[at] = i
                w += 1
    return series, motif


def _read(paths: list[Path], config: DataConfig) -> Raw:
    series, _ = draw()
    label = np.tile(np.repeat(np.arange(len(ACTIVITIES)), EACH), SUBJECTS)
    subject = np.repeat(np.arange(SUBJECTS), len(ACTIVITIES) * EACH)
    nothing = np.full(len(label), -1, dtype=np.int8)
    windows = Windows(resize(list(series), config), label, subject, np.arange(len(label)), nothing)
    return Raw(windows, counted(subject), {})


PLANTED = DataSet(
    name="planted",
    kind="windows",
    classes=tuple(ACTIVITIES),
    channels=CHANNELS,
    rate_hz=32,
    samples=STEPS,
    subjects=SUBJECTS,
    placement="sensors on one leg and one arm",
    units={"acc": "g"},
    licence="made up, free",
    citation="ShapeLex, experiments/data/planted.py",
    origin="this file",
    files=lambda root: [Path(__file__)],  # its digest is the data's
    read=_read,
    events=lambda: (PHRASES, draw()[1]),
)
