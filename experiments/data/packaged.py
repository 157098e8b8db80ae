"""Small sets that aeon carries, beside BasicMotions: for tests and for shapes in general.

PickupGestureWiimoteZ's classes are the ten people who make one and the same gesture, JapaneseVowels' the nine
men who speak: a text made from such a label would only number them, so these sets have no bank.
"""

from functools import partial
from typing import Any

from experiments.data.archive import CITATION, inside_aeon, read_ts
from experiments.data.windows import DataSet


def _entry(
    name: str, aeon_name: str, classes: tuple[str, ...], labels: tuple[str, ...], **facts: Any
) -> DataSet:
    return DataSet(
        name=name,
        classes=classes,
        subjects=0,
        official=True,
        licence="UEA and UCR archives, free for research",
        origin="package aeon",
        files=lambda root: inside_aeon(aeon_name),
        read=partial(read_ts, labels),
        **facts,
    )


def _numbered(word: str, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes, and the labels of the file: 1 to `count`."""
    labels = tuple(str(i + 1) for i in range(count))
    return tuple(f"{word}_{label}" for label in labels), labels


PICKUP_GESTURE = _entry(
    "pickup_gesture",
    "PickupGestureWiimoteZ",
    *_numbered("person", 10),
    kind="series",
    channels=("acc_z",),
    rate_hz=100.0,
    placement="a remote control in the hand",
    citation=f"Guna et al. 2012, Intuitive gesture based user identification system; {CITATION}",
)
JAPANESE_VOWELS = _entry(
    "japanese_vowels",
    "JapaneseVowels",
    *_numbered("speaker", 9),
    kind="series",
    channels=tuple(f"lpc_{i + 1}" for i in range(12)),
    rate_hz=156.25,
    citation=f"Kudo et al. 1999, Multidimensional curve classification; {CITATION}",
)
GUN_POINT = _entry(
    "gun_point",
    "GunPoint",
    ("gun_draw", "point"),
    ("1", "2"),
    kind="windows",
    channels=("hand_x",),
    rate_hz=30.0,
    samples=150,
    citation=f"Ratanamahatana and Keogh 2004, Making time-series classification more accurate; {CITATION}",
)
