"""The picture of a data set, read off its axes: its windows, classes, names, colours and counts."""

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments import data
from experiments.data.picture import picture
from experiments.data.windows import Windows

pytestmark = pytest.mark.filterwarnings("error")  # matplotlib warns of what it can't draw


def drawn(labels: list[int], classes: int, subjects: list[int] | None = None, **changes: Any) -> Figure:
    """Windows of 3 channels and 20 steps, each window's values its place, of a set of so many classes."""
    n = len(labels)
    channels = changes.pop("channels", ("acc_x", "acc_y", "acc_z"))
    series = changes.pop("series", np.ones((n, len(channels), 20)) * np.arange(n)[:, None, None])
    names = changes.pop("names", tuple(f"class {y}" for y in range(classes)))
    entry = dataclasses.replace(data.DATASETS["spar"], name="mine", classes=names, channels=channels)
    known = np.array(subjects or [-1] * n)
    windows = Windows(series.astype(np.float32), np.array(labels), known, np.arange(n), np.full(n, -1))
    figure = picture(entry, windows, 10.0)
    figure.draw_without_rendering()
    return figure


def panels(figure: Figure, classes: int) -> np.ndarray:
    """The axes of the windows, (classes, 3)."""
    return np.array(figure.subfigs[0].axes).reshape(classes, 3)


def shown(ax: Axes) -> list[float]:
    return [float(line.get_ydata()[0]) for line in ax.lines]  # type: ignore[index]


def blank(ax: Axes) -> bool:
    ticks = [tick.label1 for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_major_ticks()]
    seen = any(label.get_visible() and label.get_text() for label in ticks)
    return not ax.lines and not seen and not any(spine.get_visible() for spine in ax.spines.values())


def test_a_class_without_a_window_is_a_blank_row_that_says_so() -> None:
    axes = panels(drawn([0, 0, 0, 2, 2, 2], 3), 3)
    assert [bool(ax.lines) for ax in axes[:, 0]] == [True, False, True]
    assert all(blank(ax) for ax in axes[1]) and not blank(axes[0, 0])
    assert [text.get_text() for text in axes[1, 0].texts] == ["no window"]
    assert axes[1, 0].get_ylabel() == "class 1"


def test_no_window_is_drawn_twice() -> None:
    axes = panels(drawn([0, 1, 1, 2, 2, 2, 2, 2], 3), 3)
    firsts = [[shown(ax)[0] for ax in row if ax.lines] for row in axes]
    assert firsts == [[0], [1, 2], [3, 5, 7]]
    assert blank(axes[0, 1]) and blank(axes[0, 2]) and blank(axes[1, 2])


def test_each_column_has_its_times_below_its_last_window() -> None:
    axes = panels(drawn([0, 0, 0, 1], 3), 3)
    assert [[bool(ax.get_xlabel()) for ax in row] for row in axes] == [
        [False, True, True],
        [True, False, False],
        [False, False, False],
    ]


def test_the_title_says_which_classes_and_channels_are_left_out() -> None:
    labels = list(range(14))
    assert drawn(labels, 14).get_suptitle() == "mine, 12 of 14 classes"
    assert len(drawn(labels, 14).subfigs[0].axes) == 36
    channels = tuple(f"{sensor}_{axis}" for sensor in ("acc", "gyro") for axis in "xyz")
    assert drawn([0, 1], 2, channels=channels).get_suptitle() == "mine, 3 of 6 channels"
    assert drawn([0, 1], 2).get_suptitle() == "mine"


@pytest.mark.parametrize(
    "words", ["walking upstairs with a heavy bag in one hand", "going_down_the_stairs" * 3]
)
def test_a_long_name_lies_flat_in_short_lines_inside_the_page_and_clear_of_the_others(words: str) -> None:
    names = tuple(f"{words} {y}" for y in range(12))
    figure = drawn(list(range(12)), 12, list(range(12)), names=names)
    labels = [row[0].yaxis.label for row in panels(figure, 12)]
    assert all(max(map(len, label.get_text().split("\n"))) <= 18 for label in labels)
    assert len({label.get_text() for label in labels}) == 12
    assert {label.get_rotation() for label in labels} == {0}
    boxes = [label.get_window_extent() for label in labels]
    assert min(box.x0 for box in boxes) >= 0
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def test_dollars_in_a_name_are_no_formula() -> None:
    assert panels(drawn([0], 1, names=("a $x_$ b",)), 1)[0, 0].get_ylabel() == r"a \$x_\$ b"


def test_no_curve_is_cut_off_by_the_scale_which_is_the_same_everywhere() -> None:
    series = np.zeros((300, 3, 20))
    series[0, 1, 5], series[299, 2, 7] = 100, -50  # one step each: no percentile of all windows sees them
    axes = panels(drawn([0] * 300, 1, series=series), 1)
    limits = {ax.get_ylim() for ax in axes.flat}
    assert len(limits) == 1
    low, high = limits.pop()
    assert -60 < low < -50 and 100 < high < 110


@pytest.mark.parametrize("value", [0.0, 1.0, 3e30])
def test_constant_windows_are_drawn_without_a_warning(value: float) -> None:
    low, high = panels(drawn([0], 1, series=np.full((1, 3, 20), value)), 1)[0, 0].get_ylim()
    assert low < value < high


def test_twelve_channels_have_twelve_colours_and_a_legend_beside_the_windows() -> None:
    figure = drawn([0], 1, channels=tuple(f"sensor_{m}" for m in range(12)))
    axes = panels(figure, 1)
    assert len({to_hex(line.get_color()) for line in axes[0, 0].lines}) == 12
    (legend,) = figure.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [f"sensor_{m}" for m in range(12)]
    colours = [to_hex(line.get_color()) for line in legend.get_lines()]
    assert colours == [to_hex(line.get_color()) for line in axes[0, 0].lines]
    assert legend.get_window_extent().y0 > axes[0, 0].get_window_extent().y1


def test_counts_are_written_by_class_and_subject() -> None:
    ax = drawn([0, 0, 1, 1], 3, [7, 7, 7, 30]).subfigs[1].axes[0]
    assert [text.get_text() for text in ax.texts] == ["2", "0", "1", "1", "0", "0"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["7", "30"]


def test_many_subjects_are_colours_with_a_scale_and_few_names_that_are_clear_of_each_other() -> None:
    ax, scale = drawn([0] * 60 + [1] * 60, 2, [1600 + s for s in range(60)] * 2).subfigs[1].axes
    assert not ax.texts and ax.images[0].get_array().shape == (2, 60)  # type: ignore[union-attr]
    names = ax.get_xticklabels()
    assert [text.get_text() for text in names] == [str(1600 + s) for s in range(0, 60, 5)]
    boxes = [text.get_window_extent() for text in names]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert scale.get_xlim() == (0, 1)


def test_without_known_subjects_there_are_no_counts() -> None:
    assert len(drawn([0, 1], 2).subfigs) == 1 and len(drawn([0, 1], 2, [0, 1]).subfigs) == 2
