"""Whether trials that differ in their seed alone say the same of the same windows.

W held-out windows, B series of a window, K tokens of one, G places of a series.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score, normalized_mutual_info_score

from analysis.lexicon import Lexicon

PLACES = 32  # of a series, evenly spread


def seeds(frame: pd.DataFrame, signature: str) -> dict[str, str]:
    """What the trial's seed and those of the done trials of its row and fold are called -> signature; `frame`
    is load.frame's. Raises ValueError for a trial that is not in it."""
    mine = frame[frame["signature"] == signature]
    if mine.empty:
        raise ValueError(f"expected a trial of the sweep, found {signature!r}")
    alike = (frame["row"] == mine["row"].iloc[0]) & (frame["fold"] == mine["fold"].iloc[0])
    found = frame[alike & (frame["status"] == "done") & frame["seed"].notna()]
    return {f"seed {seed}": str(name) for seed, name in zip(found["seed"], found["signature"], strict=True)}


def codes_at(found: Lexicon) -> np.ndarray:
    """The code of the shortest token that lies at each place (W, B, G), -1 where none does."""
    place_G = (np.arange(PLACES) + 0.5) / PLACES
    t, end = found.t[..., None], (found.t + found.l)[..., None]
    length = np.where((place_G >= t) & (place_G <= end), found.l[..., None], np.inf)
    code = np.take_along_axis(found.code, length.argmin(2), 2)
    return np.where(np.isfinite(length.min(2)), code, -1)


def between(trials: Mapping[str, Lexicon]) -> pd.DataFrame:
    """A line a pair of trials of the same held-out windows, indexed by their names.

    code_nmi: normalised mutual information of their codes where both have a token, whatever the codes'
    numbers; NaN where both use one code alone. name_kappa: Cohen's kappa of the names where both have one
    (0 is chance); NaN where all are the same. covered, named: the parts of all places that these rest on.
    Codes that follow the class or the place alone agree too: neither says that codes mean something.
    """
    lines = {}
    for (first, one), (second, other) in combinations(trials.items(), 2):
        if not np.array_equal(one.window, other.window) or one.code.shape[:2] != other.code.shape[:2]:
            raise ValueError(f"expected trials of the same held-out series, found other ones in {second}")
        a, b = codes_at(one), codes_at(other)
        both = (a >= 0) & (b >= 0)
        names = [_names(found)[codes[both]] for found, codes in ((one, a), (other, b))]
        named = (names[0] != "") & (names[1] != "")
        names = [of[named] for of in names]
        lines[first, second] = {
            "code_nmi": _nmi(a[both], b[both]),
            "name_kappa": cohen_kappa_score(*names) if len(np.unique(names)) > 1 else np.nan,
            "covered": both.mean(),
            "named": named.sum() / both.size,
        }
    index = pd.MultiIndex.from_tuples(lines, names=["one", "other"]) if lines else None
    return pd.DataFrame(
        lines.values(), index=index, columns=["code_nmi", "name_kappa", "covered", "named"], dtype=float
    )


def _nmi(a: np.ndarray, b: np.ndarray) -> float:
    """NaN where neither tells anything apart, which scikit-learn calls 1."""
    if max(len(np.unique(a)), len(np.unique(b))) < 2:
        return float("nan")
    return float(normalized_mutual_info_score(a, b))


def _names(found: Lexicon) -> np.ndarray:
    """Each code's name (N,), "" where it has none."""
    names = found.names()
    return np.array([names[n][0] if n in names else "" for n in range(len(found.z))])
