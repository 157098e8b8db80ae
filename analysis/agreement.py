"""Whether trials that differ in their seed alone say the same of the same windows.

W held-out windows, B series of a window, K tokens of one, G places of a series.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score, normalized_mutual_info_score

from analysis.lexicon import Lexicon

PLACES = 32  # of a series, evenly spread


def codes_at(found: Lexicon) -> np.ndarray:
    """The code of the shortest token that lies at each place (W, B, G), -1 where none does."""
    place_G = (np.arange(PLACES) + 0.5) / PLACES
    t, end = found.t[..., None], (found.t + found.l)[..., None]
    length = np.where((place_G >= t) & (place_G <= end), found.l[..., None], np.inf)
    shortest = length.argmin(2)
    code = np.take_along_axis(found.code, shortest.reshape(*shortest.shape[:2], -1), 2)
    return np.where(np.isfinite(length.min(2)), code, -1)


def between(trials: Sequence[Lexicon]) -> pd.DataFrame:
    """A line a pair of trials of the same held-out windows: code_nmi, the normalised mutual information of
    their codes where both have a token, whatever the codes' numbers; name_kappa, Cohen's kappa of the names
    there (0 is chance), NaN without names; covered, the part of all places where both have a token."""
    lines = []
    for one, other in combinations(trials, 2):
        if not np.array_equal(one.window, other.window):
            raise ValueError("expected trials of the same held-out windows, found other ones")
        a, b = codes_at(one), codes_at(other)
        both = (a >= 0) & (b >= 0)
        kappa = float("nan")
        if one.p.size and other.p.size and both.any():
            names = [x.p[0].argmax(1)[codes[both]] for x, codes in ((one, a), (other, b))]
            kappa = float(cohen_kappa_score(*names)) if len(np.unique(names)) > 1 else float("nan")
        nmi = float(normalized_mutual_info_score(a[both], b[both])) if both.any() else float("nan")
        lines.append({"code_nmi": nmi, "name_kappa": kappa, "covered": float(both.mean())})
    return pd.DataFrame(lines, columns=["code_nmi", "name_kappa", "covered"])
