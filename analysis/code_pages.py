"""The pages of codes: what each figure of a trial's code dictionary shows.

They are of the validation-best trial of the validation-best row that kept its codes. A function takes a Source and
returns what it drew, or raises Missing with the reason.
"""

import math

from analysis import code_figures, lexicon, series_figures, style
from analysis.source import Drawn, Missing, Source

MOST_PANELS = 6
PAGE_HEIGHT_INCHES = 9.0


def codebook(source: Source) -> list[Drawn]:
    found, whose = source.lexicon()
    figure = code_figures.codebook(found)
    shown, used = min(len(found.order), code_figures.MOST_CODES), len(found.order)
    part = 100 * found.counts[found.order[:shown]].sum() / max(found.counts.sum(), 1)
    named = f" Names: the most probable sub-action by {found.evidence[0]}." if found.names() else ""
    text = (
        f"Codes of {whose}, each decoded and standardised, the most used first, with its share of tokens: {shown} of "
        f"{used} in use ({part:.0f} % of tokens); {len(found.shape) - used} of {len(found.shape)} are unused.{named}"
    )
    return [Drawn(figure, text)]


def code_usage(source: Source) -> list[Drawn]:
    found, whose = source.lexicon()
    owners = ["class"] + (["subject"] if (found.subject >= 0).any() else [])
    counts = [len({int(one) for one in owner if one >= 0}) for owner in (found.label, found.subject)]
    heights = [code_figures.usage_inches(count) for count in counts[: len(owners)]]
    figure = style.page(sum(heights))
    axes = figure.subplots(len(owners), 1, squeeze=False, height_ratios=heights).ravel()
    for ax, by in zip(axes, owners, strict=True):
        code_figures.usage(found, by, ax)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    alone = "" if len(owners) > 1 else " The data have no subjects."
    left = len(found.order) - code_figures.MOST_CODES
    more = f" {left} rarer codes are left out." if left > 0 else ""
    text = f"Use of codes by {' and by '.join(owners)}, in percent of its tokens, of {whose}.{more}{alone}"
    return [Drawn(figure, text)]


def reconstruction(source: Source) -> list[Drawn]:
    found, whose = source.lexicon()
    if not len(found.series):
        raise Missing("the trial kept no windows for pictures")
    figure, left = series_figures.reconstructions(found)
    more = f" {left} tokens found no room." if left else ""
    text = (
        f"Windows on their liveliest channel with their reconstruction, and below each its tokens where they start and "
        f"end, as their codes' decoded shapes, numbered and coloured by code, of {whose}.{more}"
    )
    return [Drawn(figure, text)]


def text_similarity(source: Source) -> list[Drawn]:
    source.lexicon()
    found = {}
    for row, name in source.trials.items():
        try:
            one = lexicon.read(source.store, name)
        except (OSError, ValueError):
            continue
        if one.similarity is not None and one.similarity.size:
            found[row] = one
        if len(found) == MOST_PANELS:
            break
    if not found:
        raise Missing("no row reads text")
    classes = max(len(one.classes) for one in found.values())
    across = 1 if len(found) == 1 else 2 if classes > 6 or len(found) in (2, 4) else 3
    width = style.COLUMN_INCHES if len(found) == 1 else style.PAGE_INCHES
    lines = math.ceil(len(found) / across)
    figure = style.page((0.75 + 0.62 * width / across) * lines, width)
    axes = figure.subplots(lines, across, squeeze=False).ravel()
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    for i, (ax, (row, one)) in enumerate(zip(axes, found.items(), strict=False)):
        code_figures.similarity(one, ax, style.short(row, 26), inside=width / across > 0.5 * len(one.classes))
        if i % across:
            ax.set_ylabel("")
    text = (
        "Mean cosine of held-out series and texts by class, of the validation-best trial of "
        + ("each row that reads text" if len(found) < MOST_PANELS else f"the {MOST_PANELS} best such rows")
        + ", the best on validation first. Series-only values never see a text; this is a diagnosis, no score."
    )
    return [Drawn(figure, text)]


def sub_actions(source: Source) -> list[Drawn]:
    found, whose = source.lexicon()
    if not found.p.size:
        raise Missing("the trial names no sub-actions")
    drawn = []
    for evidence in found.evidence:
        figure = style.page(min(code_figures.usage_inches(len(found.concepts)), PAGE_HEIGHT_INCHES))
        code_figures.sub_actions(found, evidence, figure.subplots())
        text = f"Probability that a code means a sub-action, by {evidence}, of {whose}."
        drawn.append(Drawn(figure, text, evidence))
    return drawn
