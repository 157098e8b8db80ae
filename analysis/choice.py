"""What validation picks: among a sweep's rows, and among a row's trials."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import stats
from analysis.wording import VALIDATION

ERROR = "val/series_mse"
PERPLEXITY = "codes/perplexity"  # of whatever has codes


def ranking(frame: pd.DataFrame, unit: stats.Unit, rows: Sequence[str]) -> list[str]:
    """Those of `rows` with a validation score, the best first: its mean over pairs, ties to lower series
    error; equal ones as in `rows`."""
    found = [
        stats.per_pair(frame, name, unit).mean() if name in frame else pd.Series(dtype="float64")
        for name in (VALIDATION, ERROR)
    ]
    keys = pd.concat(found, axis=1, keys=["score", "error"]).reindex(rows).round(12)
    keys = keys.dropna(subset=["score"]).fillna(np.inf)
    return list(keys.sort_values(["score", "error"], ascending=[False, True], kind="stable").index)


def best_trials(frame: pd.DataFrame) -> dict[str, str]:
    """Row -> signature of its trial that is best on validation, ties to lower series error; without rows that
    have none with a validation score."""
    done = frame[frame["status"] == "done"]
    if VALIDATION not in done:
        return {}
    keys = done.assign(error=done.get(ERROR, np.inf)).dropna(subset=[VALIDATION])
    ranked = keys.sort_values([VALIDATION, "error"], ascending=[False, True], kind="stable")
    return dict(ranked.drop_duplicates("row")[["row", "signature"]].itertuples(index=False, name=None))


def best_coded(frame: pd.DataFrame, unit: stats.Unit, rows: Sequence[str]) -> tuple[str, str] | None:
    """Row and signature of the trial that is best on validation, of the best of `rows` that have codes; None
    where none is done."""
    if PERPLEXITY not in frame:
        return None
    coded = set(frame.loc[frame[PERPLEXITY].notna(), "row"])
    ranked = ranking(frame, unit, [row for row in rows if row in coded])
    return (ranked[0], best_trials(frame)[ranked[0]]) if ranked else None
