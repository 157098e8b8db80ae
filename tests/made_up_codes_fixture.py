"""A made-up lexicon.npz in the real format, to test what is drawn of it. No number in it was measured."""

from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("bend", "lift", "turn")
CHANNELS = ("acc_x", "acc_y")
CONCEPTS = ("arm up", "arm down", "hold")
WINDOWS, TOKENS, CODES, SHAPE, STEPS = 12, 4, 6, 16, 50


def made_up_lexicon(
    channels: str = "independent", text: bool = True, **changes: Any
) -> dict[str, np.ndarray]:
    """Arrays by name: code n is n + 1 half waves; class y uses codes y and y + 1, none uses codes 4 and 5.

    channels: independent (a series a channel), joint (one series of two axes) or flatten (one, end to end).
    """
    rng = np.random.default_rng(0)
    series = len(CHANNELS) if channels == "independent" else 1
    axes = len(CHANNELS) if channels == "joint" else 1
    label = np.arange(WINDOWS) % len(CLASSES)
    places = (WINDOWS, series, TOKENS)
    t = np.broadcast_to(np.arange(TOKENS) / TOKENS, places)
    shape = np.sin(np.pi * np.outer(np.arange(1, CODES + 1), np.linspace(0, 1, SHAPE)))
    p = np.full((2 * text, CODES, len(CONCEPTS)), 0.1)
    for n in range(CODES - 1):
        p[:, n, n % len(CONCEPTS)] = 0.8
    drawn = np.arange(6)
    x = rng.normal(size=(len(drawn), len(CHANNELS), STEPS)).cumsum(-1)
    x[:, 1] *= 0.1
    return {
        "shape": np.repeat(shape[:, None], axes, axis=1).astype(np.float32),
        "z": rng.normal(size=(CODES, 3)),
        "window": np.arange(WINDOWS) + 100,
        "label": label,
        "subject": np.arange(WINDOWS) % 2 + 7,
        "predicted": label,
        "code": (label[:, None, None] + np.arange(TOKENS) % 2 + np.zeros(places)).astype(np.int32),
        "t": t.astype(np.float32),
        "l": np.full(places, 1 / TOKENS, dtype=np.float32),
        "mu": np.zeros((*places, axes)),
        "sigma": np.ones((*places, axes)),
        "token_concept": np.full(places, -1),
        "p": p,
        "evidence": np.array(["decoder", "cooccurrence"][: 2 * text], dtype=np.str_),
        "concepts": np.array(CONCEPTS),
        "classes": np.array(CLASSES),
        "channels": np.array(CHANNELS),
        "series": x,
        "x_hat": 0.9 * x,
        "drawn": drawn,
        **({"similarity": np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.0, -0.1, 0.7]])} if text else {}),
        **changes,
    }


def write_lexicon(store: Path, signature: str, arrays: dict[str, np.ndarray]) -> None:
    np.savez(store / "trials" / signature / "lexicon.npz", **arrays)  # type: ignore[arg-type]
