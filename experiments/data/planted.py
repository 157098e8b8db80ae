"""Planted: made-up windows in which it is known what happens when, to judge what codes come to mean.

Eight motifs, each with a phrase; twenty activities, each three of them in an order of its own. No two motifs
are in the same activities, so that texts of activities can tell which is which. People differ in size and
tempo. W windows, T steps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import DataConfig
from experiments.data.cut import resize
from experiments.data.windows import DataSet, Raw, Windows, counted

STEPS, SUBJECTS, EACH = 64, 12, 4  # steps of a window; people; windows of each person and activity
NOISE = 0.1
SEED = 20261130


class Motif(NamedTuple):
    """A phrase, and the height of its series at u from 0 to 1."""

    phrase: str
    height: Callable[[np.ndarray], np.ndarray]


MOTIFS = (
    Motif("leg up", lambda u: 2 * np.sin(np.pi * u)),
    Motif("leg down", lambda u: -2 * np.sin(np.pi * u)),
    Motif("lean forward", lambda u: 4 * u - 2),
    Motif("lean back", lambda u: 2 - 4 * u),
    Motif("step", lambda u: 5 * np.exp(-(((u - 0.5) / 0.08) ** 2)) - 1),
    Motif("stamp", lambda u: 1 - 5 * np.exp(-(((u - 0.5) / 0.08) ** 2))),
    Motif("swing the arm", lambda u: 2 * np.sin(2 * np.pi * u)),
    Motif("shake the hand", lambda u: 2 * np.sin(8 * np.pi * u)),
)
PHRASES = tuple(motif.phrase for motif in MOTIFS)


def _activities() -> dict[str, tuple[str, ...]]:
    """Sets of three motifs, each motif in seven or eight of them, and an order for each."""
    rng = np.random.default_rng(7)
    used = np.zeros(len(PHRASES))
    out: dict[tuple[int, ...], tuple[str, ...]] = {}
    while len(out) < 20:
        chosen = tuple(sorted(np.argsort(used + 0.9 * rng.random(len(used)))[:3].tolist()))
        if chosen not in out:
            used[list(chosen)] += 1
            out[chosen] = tuple(PHRASES[i] for i in rng.permutation(chosen))
    return {f"activity_{n + 1}": phrases for n, phrases in enumerate(out.values())}


ACTIVITIES = _activities()


def draw() -> tuple[np.ndarray, np.ndarray]:
    """series (W, 1, T) float32, by person, then activity; motif (W, 1, T) int8: which one is at each step."""
    rng = np.random.default_rng(SEED)
    count = SUBJECTS * len(ACTIVITIES) * EACH
    motif = np.empty((count, 1, STEPS), dtype=np.int8)
    series = np.empty((count, 1, STEPS), dtype=np.float32)
    w = 0
    for _ in range(SUBJECTS):
        size, uneven = rng.uniform(0.7, 1.3), rng.uniform(0.1, 0.25)
        for phrases in ACTIVITIES.values():
            for _ in range(EACH):
                ends = np.cumsum(rng.uniform(1 - uneven, 1 + uneven, 3))
                ends = np.round(ends / ends[-1] * STEPS).astype(int)
                for phrase, first, end in zip(phrases, [0, *ends[:-1]], ends, strict=True):
                    i = PHRASES.index(phrase)
                    height = MOTIFS[i].height(np.linspace(0, 1, end - first))
                    series[w, 0, first:end] = size * rng.uniform(0.9, 1.1) * height
                    motif[w, 0, first:end] = i
                series[w] += NOISE * rng.standard_normal((1, STEPS))
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
    channels=("acc_y",),
    rate_hz=16,
    samples=STEPS,
    subjects=SUBJECTS,
    placement="a made-up sensor",
    units={"acc": "g"},
    licence="made up, free",
    citation="ShapeLex, experiments/data/planted.py",
    origin="this file",
    files=lambda root: [Path(__file__)],  # its digest is the data's
    read=_read,
    events=lambda: (PHRASES, draw()[1]),
)
