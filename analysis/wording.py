"""How numbers and metrics are written in tables and figures."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

VALIDATION = "val/macro_f1"
AFTERWARDS = ("robust/", "recon/", "meaning/")  # what evaluations add
NONE = "-"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
# Which way is better, as docs/metrics.md says; names that are in neither say nothing of better.
UP = (
    "macro_f1",
    "accuracy",
    "perplexity",
    "f1",
    "_mrr",
    "used",
    "kept_frac",
    "nmi",
    "purity",
    "recovered_frac",
    "shapes_apart_frac",
    "text_overlap",
    "series_r2",
)
DOWN = ("series_mse", "shape_mse", "dead_frac", "duplicate_frac", "_s", "_mb", "_p")
NEITHER = ("fcn_raw_macro_f1", "fcn_shuffled_codes_macro_f1")
LABELS = {
    "test/macro_f1": "macro-F1",
    "test/accuracy": "acc.",
    "test/tokens/macro_f1": "tokens",
    "test/histogram/macro_f1": "hist.",
    VALIDATION: "val",
}


def is_leaky(plan: Mapping[str, Any]) -> bool:
    """Whether windows were split at random."""
    return plan.get("split") == "leaky_random"


def metric_title(metric: str) -> str:
    """The metric in words, with its unit: "test macro-F1 in percent"."""
    words = (
        metric.replace("test/", "test ", 1).replace("val/", "validation ", 1).replace("macro_f1", "macro-F1")
    )
    return words + (" in percent" if metric_scale(metric) == 100 else "")


def where(plan: Mapping[str, Any]) -> str:
    """The sweep and its data, marked where the split makes its scores no result."""
    leaky = " (LEAKY: random windows)" if is_leaky(plan) else ""
    return f"{plan['sweep']} on {plan['dataset']}{leaky}"


def metric_scale(metric: str) -> int:
    """100 for fractions, which the field shows in percent, else 1."""
    return 100 if metric.endswith(("f1", "accuracy", "_frac")) else 1


def higher_is_better(metric: str) -> bool | None:
    """None where the metric describes only. Losses (`train/...`) are better where they are lower."""
    if metric.startswith("train/") or metric.endswith(DOWN):
        return False
    return True if metric.endswith(UP) and not metric.endswith(NEITHER) else None


def path(metric: str, primary: str) -> str:
    """What a caption says of how a score was come by, "" for what isn't read off windows alone. `primary`: in
    words, of metrics that name no representation."""
    of = metric.split("/")
    if of[0] not in ("test", "val", "robust"):
        return ""
    read = of[-1].endswith(("f1", "accuracy")) and not (len(of) == 3 and of[0] != "robust")
    return "series-only path" + (f", {primary}" if read else "")


def heading(metric: str) -> str:
    return LABELS.get(metric) or metric.removeprefix("test/").removesuffix("/macro_f1")


def formatter(metric: str) -> Callable[..., str]:
    """Number -> string: fractions in percent with one decimal, as the field does, the rest in four digits."""

    def show(value: float, signed: bool = False) -> str:
        if pd.isna(value):
            return NONE
        sign = "+" if signed else ""
        text = f"{100 * value:{sign}.1f}" if metric_scale(metric) == 100 else f"{value:{sign}.4g}"
        return text.replace("-", MINUS)

    return show


def mean_sd(show: Callable[..., str], mean: float, sd: float | None) -> str:
    return show(mean) if sd is None or pd.isna(sd) else f"{show(mean)} ± {show(sd)}"


def p_value(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def p_equals(p: float) -> str:
    """In a sentence."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
