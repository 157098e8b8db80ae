"""The page of ranks over several sweeps: which rows are better over data sets."""

from collections.abc import Sequence

from analysis import datasets, leaderboard, rank_figure, style
from analysis.source import Drawn, Missing, Source
from analysis.wording import higher_is_better, metric_title


def critical_difference(sources: Sequence[Source]) -> list[Drawn]:
    """Of the rows that all sweeps have, as the leaderboard ranks them. Raises Missing for one data set."""
    if len({source.plan["dataset"] for source in sources}) < 2:
        why = "ranks need several data sets (name a sweep of each), as folds of one share their training data"
        raise Missing(why)
    metric = sources[0].metric
    scores = datasets.scores([datasets.Sweep(s.plan, s.done()) for s in sources], metric).dropna(axis=1)
    if scores.shape[1] < 2:
        raise Missing(f"{scores.shape[1]} rows have a score in all of {', '.join(scores.index)}: ranks need two")
    found = leaderboard.rank(scores, higher_is_better(metric))
    figure = style.page(rank_figure.height_inches(len(found.ranks)))
    rows = {row["name"]: row for source in reversed(sources) for row in source.plan["rows"]}
    colours = style.palette({"rows": [rows[name] for name in scores]})
    rank_figure.critical_difference(found.ranks, found.pairs, colours, figure.subplots())
    text = (
        f"Mean rank of rows by {metric_title(metric)} over {len(scores)} data sets, 1 is best; rows under one bar do "
        f"not differ at 5 % (signed-rank tests of every two, Holm-adjusted). {' '.join(leaderboard.notes(found))}"
    )
    return [Drawn(figure, text)]
