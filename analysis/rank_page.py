"""The page of ranks over several sweeps: which rows are better over data sets."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats

from analysis import rank_figure, stats, style
from analysis.source import Drawn, Missing, Source
from analysis.wording import metric_title


def critical_difference(sources: Sequence[Source]) -> list[Drawn]:
    """The rows that all sweeps have. Raises Missing for one data set."""
    if len(sources) < 2:
        raise Missing(
            "ranks need several data sets, name several sweeps; folds of one data set share their training data"
        )
    means = pd.DataFrame(
        {s.sweep: stats.summary(s.done(), s.metric, s.plan["unit"])["mean"] for s in sources}
    ).dropna()
    if len(means) < 2:
        raise Missing(f"{len(means)} row is done in all of {', '.join(means.columns)}: ranks need two")
    ranks = means.rank(ascending=False).mean(axis=1)
    pairs = [(a, b) for i, a in enumerate(means.index) for b in means.index[i + 1 :]]
    tested = [
        None
        if np.allclose(means.loc[a], means.loc[b])
        else float(scipy.stats.wilcoxon(means.loc[a], means.loc[b]).pvalue)
        for a, b in pairs
    ]
    p = pd.DataFrame(1.0, index=means.index, columns=means.index)
    for (a, b), value in zip(pairs, stats.holm(tested), strict=True):
        p.loc[a, b] = p.loc[b, a] = 1.0 if value is None else value
    figure = style.page(rank_figure.height_inches(len(ranks)))
    plan = {"rows": [row for row in sources[0].plan["rows"] if row["name"] in ranks]}
    rank_figure.critical_difference(ranks, p, style.palette(plan), figure.subplots())
    n = len(sources)
    text = (
        f"Mean rank by {metric_title(sources[0].metric)} over n = {n} data sets; rows under one bar do not differ at 5 % "
        f"(Wilcoxon, Holm over {len(pairs)} pairs)."
    )
    if (smallest := len(pairs) * 2 / 2**n) > 1 - stats.LEVEL:
        text += f" With {n} data sets no pair can: the smallest adjusted p is {min(smallest, 1):.3g}."
    return [Drawn(figure, text)]
