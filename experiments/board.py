"""How MLflow's UI shows a sweep when `shapelex ui` opens it: variants' means, intervals and n and what they
differ in as columns, bars and parallel coordinates first among the charts.

It is a "shared view" of the UI, a tag of the experiment. A UI that knows no such tag shows its own view.
"""

import json

from experiments.runcard import Cards, Json

KEY = "shapelex"
TAG = f"mlflow.sharedViewState.{KEY}"
QUERY = f"workflowType=machine_learning&viewStateShareKey={KEY}"
MOST = 5000  # letters that MLflow keeps of a tag
SCORE = "test/macro_f1"
METRICS = (SCORE, f"{SCORE}/ci_low", f"{SCORE}/ci_high", f"{SCORE}/sd", "n", "failed", "val/macro_f1")
BARS = (SCORE, "val/macro_f1", "test/series_mse", "codes/perplexity")
SECTION = {"uuid": KEY, "name": "Variants", "display": True, "isReordered": True, "deleted": False}
CHART = {"metricSectionId": KEY, "runsCountToCompare": 20, "deleted": False, "isGenerated": False}


def view(cards: Cards) -> str:
    """The tag's value. What is left out where rows differ in too much to keep can be chosen in the UI."""
    told = [cards.factors(row) for row in cards.rows]
    names = sorted(cards.names, key=lambda name: -len({factors.get(name) for factors in told}))
    while len(text := json.dumps(_state(names), separators=(",", ":"))) > MOST:
        names = names[:-1]
    return text


def _state(factors: list[str]) -> Json:
    columns = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{name}`" for name in factors]
    columns += ["attributes.`Models`", "attributes.`Dataset`"]
    charts: list[Json] = [
        CHART | {"type": "BAR", "uuid": f"{KEY}-{name}", "metricKey": name} for name in BARS
    ]
    if factors:
        axes = {"selectedParams": factors[:8], "selectedMetrics": [SCORE], "showAllRuns": False}
        charts.append(CHART | {"type": "PARALLEL", "uuid": f"{KEY}-parallel"} | axes)
    return {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: 150 for column in columns[1:4]},
        "compareRunCharts": charts,
        "compareRunSections": [SECTION | {"isGenerated": False}],
        "isAccordionReordered": True,
    }
