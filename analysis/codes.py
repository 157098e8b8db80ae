"""What each code of a trial means, in numbers: read from the trial's `lexicon.npz`.

W held-out windows, B series of a window, K tokens of one, N codes, Q concepts, T steps.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.lexicon import Lexicon

STEPS = 100  # of a window, when it is read out
UNNAMED = "-"
TIED = 1e-4


def series_names(found: Lexicon) -> list[str]:
    """What a window's B series are called: channels, or all of them where they share tokens."""
    channels = [str(name) for name in found.channels]
    return channels if found.code.shape[1] == len(channels) else ["all channels"]


def table(found: Lexicon) -> pd.DataFrame:
    """A line a code, the most used first: index code.

    tokens, share: held-out tokens, and of all. series, on: the series that it is most used on, and the
    part of its tokens there. start, start_sd, length: where it falls, in parts of the window. name, p,
    second, second_p, evidence: its most probable sub-actions, "-" where none is above the others. fit:
    mean squared error of its shape, both of unit deviation (2 is no likeness). gain: what one token adds
    to the predicted class's score, less what any token of the window does. NaN: what tokens tell of a code
    that has none. near: codes no farther than a tenth of the codes' mean distance. `class/...`,
    `subject/...`: part of that class's or subject's tokens.
    """
    code, codes = found.code, len(found.z)
    flat = code.reshape(len(code), -1)
    tokens = np.bincount(flat.ravel(), minlength=codes)
    on = np.stack([np.bincount(code[:, b].ravel(), minlength=codes) for b in range(code.shape[1])], 1)
    out = pd.DataFrame({"tokens": tokens, "share": tokens / max(tokens.sum(), 1)})
    out["series"] = np.where(tokens > 0, np.array(series_names(found), dtype=object)[on.argmax(1)], UNNAMED)
    out["on"] = on.max(1) / np.where(tokens > 0, tokens, np.nan)
    start, length = _mean(found.t, code, codes), _mean(found.l, code, codes)
    spread = _mean((found.t - start[code]) ** 2, code, codes)
    out["start"], out["start_sd"], out["length"] = start, np.sqrt(spread), length
    out = out.join(names(found))
    out["fit"] = _mean(found.fit, code, codes)
    added = found.contribution
    extra = added - added.sum((1, 2), keepdims=True) / max(added[0].size, 1)
    out["gain"] = _mean(extra, code, codes)
    out["near"] = near(found.z)
    whose = [("class", found.label, dict(enumerate(found.classes)))]
    people = [int(s) for s in np.unique(found.subject) if s >= 0]
    whose += [("subject", found.subject, {s: str(s) for s in people})]
    for kind, of, known in whose:
        for value, title in known.items():
            mine = flat[of == value].ravel()
            out[f"{kind}/{title}"] = np.bincount(mine, minlength=codes) / max(len(mine), 1)
    return out.rename_axis("code").sort_values("tokens", ascending=False, kind="stable")


def names(found: Lexicon) -> pd.DataFrame:
    """name, p, second, second_p and evidence of each code."""
    codes, named = len(found.z), found.names()
    if not found.p.size:
        return pd.DataFrame({"name": UNNAMED, "p": np.nan, "evidence": ""}, index=range(codes))
    p_NQ, rows, concepts = found.p[0], np.arange(codes), np.array(found.concepts)
    order = np.argsort(-p_NQ, axis=1, kind="stable")
    name = [named[n][0] if n in named else UNNAMED for n in range(codes)]
    out = pd.DataFrame({"name": name, "p": p_NQ[rows, order[:, 0]]})
    if order.shape[1] > 1:
        out["second"], out["second_p"] = concepts[order[:, 1]], p_NQ[rows, order[:, 1]]
    return out.assign(evidence=found.evidence[0])


def near(z_NC: np.ndarray) -> list[str]:
    """The codes that lie beside each, by number: no farther than a tenth of the mean distance."""
    distance = np.linalg.norm(z_NC[:, None] - z_NC[None], axis=-1)
    others = ~np.eye(len(z_NC), dtype=bool)
    if not others.any():
        return [""] * len(z_NC)
    close = (distance <= 0.1 * distance[others].mean()) & others
    return [" ".join(map(str, np.flatnonzero(row))) for row in close]


def _mean(values: np.ndarray, code: np.ndarray, codes: int) -> np.ndarray:
    """Over the tokens of each code (N,); NaN for one that never occurs."""
    total, count = (np.bincount(code.ravel(), weights=w, minlength=codes) for w in (values.ravel(), None))
    return total / np.where(count > 0, count, np.nan)


class Run(NamedTuple):
    """A stretch of a window, in parts of it, and the sub-action that its tokens are mostly named."""

    start: float
    end: float
    name: str
    p: float


def readout(found: Lexicon, window: int) -> list[Run]:
    """A held-out window read from left to right: at each step the tokens there vote for their codes' names,
    by their probability and the shorter the stronger; equal neighbours are one stretch. Steps at which no
    code has a name, or the best ones tie, are in none; empty where nothing names codes.
    """
    if not found.p.size:
        return []
    code, t, length = (getattr(found, name)[window].ravel() for name in ("code", "t", "l"))
    place = (np.arange(STEPS) + 0.5) / STEPS
    inside_TI = (place[:, None] >= t) & (place[:, None] <= t + length)
    named_NQ = np.where(
        found.name[0][:, None] == np.arange(len(found.concepts)), np.nan_to_num(found.p[0]), 0
    )
    weight_TI = inside_TI / np.maximum(length, 1e-6)
    share_TQ = weight_TI @ named_NQ[code] / np.maximum(weight_TI.sum(1, keepdims=True), 1e-12)
    ahead = (share_TQ >= share_TQ.max(1, keepdims=True) * (1 - TIED)).sum(1) == 1
    best = np.where(ahead & (share_TQ.max(1) > 0), share_TQ.argmax(1), -1)
    ends = [*(np.flatnonzero(np.diff(best)) + 1).tolist(), STEPS]
    runs, first = [], 0
    for end in ends:
        q = int(best[first])
        if q >= 0:
            p = float(share_TQ[first:end, q].mean())
            runs.append(Run(first / STEPS, end / STEPS, str(found.concepts[q]), p))
        first = end
    return runs
