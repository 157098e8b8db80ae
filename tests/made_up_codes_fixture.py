"""A made-up lexicon.npz in the real format, to test what is drawn of it. No number in it was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.lexicon import TEXT, Lexicon
from experiments.naming import clear

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
    code = (label[:, None, None] + np.arange(TOKENS) % 2 + np.zeros(places)).astype(np.int32)
    example = np.full((CODES, 5, 2), -1)
    for n in range(CODES):
        mine = np.unique(np.nonzero(code == n)[0])[:5]
        example[n, : len(mine)] = np.stack([mine, 0 * mine], 1)
    drawn = np.arange(6)
    x = rng.normal(size=(len(drawn), len(CHANNELS), STEPS)).cumsum(-1)
    x[:, 1] *= 0.1
    found = {
        "shape": np.repeat(shape[:, None], axes, axis=1).astype(np.float32),
        "z": rng.normal(size=(CODES, 3)),
        "window": np.arange(WINDOWS) + 100,
        "label": label,
        "subject": np.arange(WINDOWS) % 2 + 7,
        "predicted": label,
        "code": code,
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
        "fit": np.full(places, 0.25),
        "contribution": rng.normal(size=places),
        "of_class": np.ones((len(CLASSES), len(CONCEPTS)), dtype=bool),
        "named_by": np.array("text" if text else "labels"),
        "example": example,
        "example_t": np.full((CODES, 5), 0.25),
        "example_l": np.full((CODES, 5), 1 / TOKENS),
        "example_x": np.tile(x[0].reshape(series, axes, -1)[0], (CODES, 5, 1, 1)),
        **({"similarity": np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.0, -0.1, 0.7]])} if text else {}),
        **changes,
    }
    return found | {"name": _name(found["p"])}


def _name(p: np.ndarray) -> np.ndarray:
    return np.array([clear(p_NQ) for p_NQ in p], dtype=int).reshape(p.shape[:2])


def made_up(layout: str = "independent", text: bool = True, **changes: Any) -> Lexicon:
    """The same as analysis reads it; `layout` is what made_up_lexicon calls channels."""
    arrays = made_up_lexicon(layout, text) | changes
    arrays["name"] = _name(arrays["p"])
    texts = {name: tuple(map(str, arrays[name])) for name in TEXT}
    return Lexicon(**{"similarity": None, **arrays, **texts})  # type: ignore[arg-type]


def write_lexicon(store: Path, signature: str, arrays: dict[str, np.ndarray]) -> None:
    """Of the trial's present result, where it has one."""
    result = store / "trials" / signature / "result.json"
    finished = json.loads(result.read_text())["finished_at"] if result.exists() else ""
    arrays = {"result": np.array(["1", finished]), **arrays}
    np.savez(store / "trials" / signature / "lexicon.npz", **arrays)  # type: ignore[arg-type]
