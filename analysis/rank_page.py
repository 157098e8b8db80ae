"""The page of ranks over several sweeps: which rows are better over data sets."""

from collections.abc import Sequence
from itertools import combinations

from analysis import datasets, leaderboard, rank_figure, stats, style
from analysis.source import Drawn, Missing, Source
from analysis.wording import higher_is_better, metric_title


def critical_difference(sources: Sequence[Source]) -> list[Drawn]:
    """Of the rows that all sweeps have, as the leaderboard ranks them. Raises Missing for one data set."""
    sources = [source for source in sources if "done" in set(source.frame["status"])]
    if len({source.plan["dataset"] for source in sources}) < 2:
        raise Missing("ranks need several data sets, a sweep of each: folds of one share their training data")
    metric = sources[0].metric
    higher = higher_is_better(metric)
    if higher is None:
        raise Missing(f"{metric} has no better direction")
    scores = datasets.scores([datasets.Sweep(s.plan, s.done()) for s in sources], metric).dropna(axis=1)
    if scores.shape[1] < 2:
        raise Missing(f"ranks need two rows with a score in each of {', '.join(scores.index)}")
    found = leaderboard.rank(scores, higher)
    figure = style.page(rank_figure.height_inches(len(found.ranks)))
    rows = {row["name"]: row for source in reversed(sources) for row in source.plan["rows"]}
    colours = style.palette({"rows": [rows[name] for name in scores]})
    rank_figure.critical_difference(found.ranks, found.pairs, colours, figure.subplots())
    count, tests = len(scores), len(list(combinations(scores, 2)))
    text = (
        f"Mean rank of rows by {metric_title(metric)} over {count} data sets, 1 is best; no two of the "
        "rows that have a dot on one bar are told apart at 5 % (signed-rank tests of every two, "
        f"Holm-adjusted over {tests})."
    )
    if (smallest := min(1.0, tests * 2 / 2**count)) > 1 - stats.LEVEL:
        text += f" With {count} data sets the smallest adjusted p is {smallest:.3g}: no two rows can "
        text += "be told apart."
    return [Drawn(figure, f"{text} {leaderboard.repeated([s.plan['dataset'] for s in sources])}".rstrip())]
