"""The pages of codes: what each figure of a trial's code dictionary shows.

They are of the validation-best trial of the validation-best row that kept its codes. A function takes a
Source and returns what it drew, or raises Missing with the reason.
"""

import math

import numpy as np

from analysis import code_figures, lexicon, series_figures, style
from analysis.source import Drawn, Missing, Source

MOST_PANELS = 6
ACROSS = 3
NO_TEXT = "no trial whose codes were read off has similarities of series and text"
INSIDE_INCHES = 0.22  # what a number in a cell needs
PAGE_HEIGHT_INCHES = 9.0


def codebook(source: Source) -> list[Drawn]:
    found, whose = source.codes
    figure = code_figures.codebook(found)
    shown, used = min(len(found.order), code_figures.MOST_CODES), len(found.order)
    part = 100 * found.counts[found.order[:shown]].sum() / max(found.counts.sum(), 1)
    named = (
        f" Names: the most probable sub-action by {found.evidence[0]}, with its probability."
        if found.names()
        else ""
    )
    text = (
        "Codes, decoded and standardised, the most used first, with their share of tokens. "
        f"{shown} of {used} in use ({part:.0f} % of tokens); {len(found.shape) - used} of {len(found.shape)} "
        f"are unused.{named} {whose}"
    )
    return [Drawn(figure, text)]


def code_usage(source: Source) -> list[Drawn]:
    found, whose = source.codes
    owners = ["class"] + (["subject"] if (found.subject >= 0).any() else [])
    counts = [len({int(one) for one in owner if one >= 0}) for owner in (found.label, found.subject)]
    heights = [code_figures.usage_inches(count) for count in counts[: len(owners)]]
    figure = style.page(min(sum(heights), PAGE_HEIGHT_INCHES))
    axes = figure.subplots(len(owners), 1, squeeze=False, height_ratios=heights).ravel()
    for ax, by in zip(axes, owners, strict=True):
        code_figures.usage(found, by, ax)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    alone = "" if len(owners) > 1 else " The data have no subjects."
    more = _rarer(len(found.order))
    text = f"Use of codes by {' and by '.join(owners)}, in percent of its tokens.{more}{alone} {whose}"
    return [Drawn(figure, text)]


def reconstruction(source: Source) -> list[Drawn]:
    found, whose = source.codes
    if not len(found.series):
        raise Missing("the trial kept no windows for pictures")
    figure, left = series_figures.reconstructions(found)
    more = f" {left} tokens found no room." if left else ""
    text = (
        "Windows with their reconstruction and their tokens. Each on its liveliest channel, in deviations of "
        "the training windows; below, each token's decoded shape from its start to its end, numbered and "
        f"coloured by code.{more} {whose}"
    )
    return [Drawn(figure, text)]


def text_similarity(source: Source) -> list[Drawn]:
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
        raise Missing(NO_TEXT if source.trials else source.no_codes)
    across = min(len(found), ACROSS)
    lines = math.ceil(len(found) / across)
    width = style.COLUMN_INCHES if across == 1 else style.PAGE_INCHES
    classes = max(len(one.classes) for one in found.values())
    panel = (width - 1.7) / across
    longest = min(max(len(name) for one in found.values() for name in one.classes), style.LONGEST_NAME)
    figure = style.page((panel + 0.3) * lines + 0.6 + 0.05 * longest, width)
    axes = figure.subplots(lines, across, squeeze=False, sharex=True, sharey=True).ravel()
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    values = np.concatenate([one.similarity.ravel() for one in found.values() if one.similarity is not None])
    limits = float(values.min()), float(values.max())
    titles, common = style.titles(list(found), int(panel / style.LETTER_INCHES) - 2)
    for i, (ax, one, title) in enumerate(zip(axes, found.values(), titles, strict=False)):
        code_figures.similarity(one, ax, limits, inside=panel / classes > INSIDE_INCHES, bar=False)
        ax.set_title(title)
        if i % across:
            ax.set_ylabel("")
        if i < len(found) - across:
            ax.set_xlabel("")
        else:  # nothing stands below
            ax.xaxis.set_tick_params(labelbottom=True)
    figure.colorbar(axes[0].collections[0], ax=list(axes), label="cosine", aspect=30, pad=0.02)
    text = (
        "Mean cosine of held-out series and texts by class. Validation-best trial of "
        + ("each row that reads text" if len(found) < MOST_PANELS else f"the {MOST_PANELS} best such rows")
        + ", the best on validation first. "
        + (f"All rows: {common}. " if common else "")
        + "A diagnosis, no score: the label made the text."
    )
    return [Drawn(figure, text)]


def sub_actions(source: Source) -> list[Drawn]:
    found, whose = source.codes
    if not found.p.size:
        raise Missing("the trial names no sub-actions")
    drawn = []
    for i, evidence in enumerate(found.evidence):
        if not (named := code_figures.named(found, evidence)):
            continue
        figure = style.page(min(code_figures.usage_inches(len(found.concepts)), PAGE_HEIGHT_INCHES))
        code_figures.sub_actions(found, evidence, figure.subplots())
        more = _rarer(len(named))
        text = f"Probability that a code means a sub-action, by {evidence}.{more} {whose}"
        drawn.append(Drawn(figure, text, evidence if evidence.isidentifier() else str(i)))
    if not drawn:
        raise Missing("no code in use is named")
    return drawn


def _rarer(codes: int) -> str:
    """The sentence about those of `codes` for which a heat map has no column, "" if none."""
    left = codes - code_figures.MOST_COLUMNS
    return "" if left <= 0 else f" {left} rarer {'code is' if left == 1 else 'codes are'} left out."
