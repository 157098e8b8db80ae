"""From recordings and series of any length to windows of one length.

W windows, M channels, T steps of a window, R samples of a recording.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.config import DataConfig
from experiments.data.windows import Person, Raw, Recording, Windows


def cut(
    recordings: Iterable[Recording],
    config: DataConfig,
    rate_hz: float,
    people: dict[int, Person] | None = None,
) -> Raw:
    """Windows of `window_s` with `overlap_frac`, each inside one recording and one label; samples with label
    -1 are in no window. Raises ValueError where none is long enough."""
    assert config.window_s is not None and config.overlap_frac is not None
    length = round(config.window_s * rate_hz)
    step = max(1, round(length * (1 - config.overlap_frac)))
    parts, label, subject, session = [], [], [], []
    amount: dict[int, int] = {}
    for number, recording in enumerate(recordings):
        person = recording.subject
        amount[person] = amount.get(person, 0) + int((recording.label >= 0).sum())
        bounds = np.flatnonzero(np.diff(recording.label)) + 1
        for first, end in zip([0, *bounds], [*bounds, len(recording.label)], strict=True):
            if end - first < length or recording.label[first] < 0:
                continue
            series = np.asarray(recording.series[first:end], dtype=np.float32)
            views = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)[::step]
            parts.append(resize(views, config))
            label += [int(recording.label[first])] * len(views)
            subject += [person] * len(views)
            session += [number] * len(views)
    if not parts:
        raise ValueError(f"no recording holds {config.window_s:g} s of one label: make data.window_s smaller")
    windows = Windows(
        np.concatenate(parts),
        np.array(label, dtype=np.int64),
        np.array(subject, dtype=np.int64),
        np.array(session, dtype=np.int64),
        np.full(len(label), -1, dtype=np.int8),
    )
    return Raw(windows, {k: v for k, v in amount.items() if v}, people or {})


def resize(series: Sequence[np.ndarray] | np.ndarray, config: DataConfig) -> np.ndarray:
    """Series (M, R) each to windows (W, M, T) of `data.length` steps, float32: resampled by linear
    interpolation between end points, or padded with each channel's last value and cut at the end. As they
    are where no length is asked for. Raises ValueError for unequal lengths then."""
    length = config.length
    if length is None:
        lengths = {x.shape[-1] for x in series}
        if len(lengths) > 1:
            raise ValueError(f"series have {min(lengths)} to {max(lengths)} steps: set data.length")
        return np.ascontiguousarray(series, dtype=np.float32)
    if config.resize == "pad":
        padded = [np.pad(x, ((0, 0), (0, max(0, length - x.shape[-1]))), mode="edge") for x in series]
        return np.stack([x[:, :length] for x in padded]).astype(np.float32)
    return np.stack([resample(np.asarray(x), length) for x in series])


def resample(x_MR: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation at `length` evenly spaced places from the first sample to the last (M, T)."""
    last = x_MR.shape[-1] - 1
    place = np.linspace(0, last, length)
    left = np.minimum(place.astype(np.int64), max(last - 1, 0))
    part = (place - left).astype(np.float32)
    right = np.minimum(left + 1, last)
    return ((1 - part) * x_MR[:, left] + part * x_MR[:, right]).astype(np.float32)


def filled(x_MR: np.ndarray, longest: int | None = None) -> np.ndarray:
    """The series with its NaNs interpolated linearly in time, channel by channel, ends held. Gaps of more
    than `longest` samples stay NaN, as does a channel without any value."""
    x_MR = np.array(x_MR, dtype=np.float64)
    for channel in x_MR:
        gap = np.isnan(channel)
        if not gap.any() or gap.all():
            continue
        at = np.arange(len(channel))
        value = np.interp(at, at[~gap], channel[~gap])
        if longest is not None:
            edge = np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]).astype(np.int8)))
            for first, end in edge.reshape(-1, 2):
                if end - first > longest:
                    value[first:end] = np.nan
        channel[:] = value
    return x_MR
