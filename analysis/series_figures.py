"""Windows, their reconstructions, and their tokens where they lie, from one trial's lexicon.

Tokens of a window lie on B series: one a channel (independent), one for all (joint), or all channels end to
end (flatten); `spans` brings them to one channel.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.lexicon import Lexicon
from analysis.style import COLUMN_INCHES, PAGE_INCHES, SMALL_POINTS, page, palette, short

FEWEST_LANES, MOST_LANES = 4, 12
LANE_INCHES = 0.15
PICTURES = 6
ACROSS = 3
Span = tuple[float, float, int, int]


def chosen(lexicon: Lexicon, most: int = PICTURES) -> list[int]:
    """Places in `series`: the first window of each class, then the second, up to `most`."""
    label = lexicon.label[lexicon.drawn]
    seen: dict[int, int] = {}
    turn = []
    for v, y in enumerate(label):
        seen[int(y)] = seen.get(int(y), -1) + 1
        turn.append((seen[int(y)], int(y), v))
    return [v for _, _, v in sorted(turn)[:most]]


def liveliest(lexicon: Lexicon, v: int) -> int:
    """The channel with the largest standard deviation relative to the windows that are kept."""
    usual = lexicon.series.std(-1).mean(0)
    return int((lexicon.series[v].std(-1) / np.where(usual > 0, usual, 1)).argmax())


def spans(lexicon: Lexicon, v: int, m: int) -> list[Span]:
    """Start, end (parts of the window), code and number of each token on channel `m` of picture `v`.

    Of channels end to end, a token may begin before the channel's 0 or end after its 1.
    """
    w, channels = int(lexicon.drawn[v]), lexicon.series.shape[1]
    many = lexicon.code.shape[1]
    b = m if many == channels else 0
    start, end = lexicon.t[w, b].astype(float), (lexicon.t[w, b] + lexicon.l[w, b]).astype(float)
    if many == 1 and channels > 1 and lexicon.shape.shape[1] == 1:  # end to end
        start, end = start * channels - m, end * channels - m
    found = [
        (float(s), float(e), int(lexicon.code[w, b, k]), k)
        for k, (s, e) in enumerate(zip(start, end, strict=True))
        if s < 1 and e > 0
    ]
    return sorted(found)


def lanes(found: list[Span], most: int = MOST_LANES) -> list[int]:
    """The lane of each span, so that none overlaps another in its lane; -1 for those beyond `most` lanes."""
    ends: list[float] = []
    placed = []
    for start, end, _, _ in found:
        lane = next((i for i, last in enumerate(ends) if last <= start + 1e-6), len(ends))
        if lane >= most:
            placed.append(-1)
            continue
        ends[lane:] = [end, *ends[lane + 1 :]]
        placed.append(lane)
    return placed


def window(lexicon: Lexicon, v: int, m: int, ax: Axes, below: Axes, most: int = MOST_LANES) -> int:
    """Channel `m` of picture `v` and its reconstruction on `ax`, its tokens in `most` lanes `below`.

    Returns how many tokens found no lane. Colours count codes by use; a number names the code where it fits.
    """
    time = np.linspace(0, 1, lexicon.series.shape[2])
    ax.plot(time, lexicon.series[v, m], color="0.35", linewidth=1.0, label="series")
    if lexicon.x_hat is not None:
        ax.plot(time, lexicon.x_hat[v, m], color=palette(_ONE)["x"], linewidth=1.0, label="reconstruction")
    found = spans(lexicon, v, m)
    placed = lanes(found, most)
    hues = palette({"rows": [{"name": str(n), "variant": ""} for n in lexicon.order]})
    a = m if lexicon.shape.shape[1] > 1 else 0
    for (start, end, n, _), lane in zip(found, placed, strict=True):
        if lane < 0:
            continue
        shape = lexicon.shape[n, a]
        reach = float(np.abs(shape).max()) or 1.0
        below.axvspan(
            start,
            end,
            ymin=1 - (lane + 0.95) / most,
            ymax=1 - (lane + 0.05) / most,
            color=hues[str(n)],
            alpha=0.22,
            linewidth=0,
        )
        x = np.linspace(start, end, len(shape))
        below.plot(x, -(lane + 0.5) + 0.4 * shape / reach, color=hues[str(n)], linewidth=0.9, alpha=0.8)
        if min(end, 1) - max(start, 0) > 0.035 * len(str(n)) + 0.02:
            below.text(
                max(start, 0) + 0.004,
                -(lane + 0.08),
                str(n),
                fontsize=SMALL_POINTS,
                va="top",
                color="0.1",
            )
    below.set_ylim(-most, 0)
    below.set_xlim(0, 1)
    below.set_yticks([])
    y = int(lexicon.label[lexicon.drawn[v]])
    ax.set_title(short(f"{lexicon.classes[y]}, {lexicon.channels[m]}", 30))
    return placed.count(-1)


def reconstructions(lexicon: Lexicon, most: int = PICTURES) -> tuple[Figure, int]:
    """Pictures of the chosen windows, each on its liveliest channel; and how many tokens found no lane."""
    places = chosen(lexicon, most)
    columns = min(ACROSS, len(places))
    lines = -(-len(places) // columns)
    taken = [max(lanes(spans(lexicon, v, liveliest(lexicon, v)), 999), default=0) + 1 for v in places]
    most = min(max(FEWEST_LANES, *taken), MOST_LANES)
    heights = [1.0, LANE_INCHES * most] * lines
    figure = page(sum(heights) + 0.35 * lines + 0.3, PAGE_INCHES if columns == ACROSS else COLUMN_INCHES)
    grid = figure.subplots(2 * lines, columns, squeeze=False, sharex=True, height_ratios=heights)
    for ax in grid.ravel():
        ax.set_visible(False)
    left = 0
    for i, v in enumerate(places):
        ax, below = grid[2 * (i // columns), i % columns], grid[2 * (i // columns) + 1, i % columns]
        ax.set_visible(True)
        below.set_visible(True)
        left += window(lexicon, v, liveliest(lexicon, v), ax, below, most)
        below.set_xlabel("part of the window" if i // columns == lines - 1 else "")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure, left


_ONE = {"rows": [{"name": "x", "variant": "x"}]}
