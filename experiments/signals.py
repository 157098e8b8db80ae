"""What a window's signal alone says, as coarse facts: `phrasing` puts them into sentences.

W windows, M channels, T steps, S sensors that a caption speaks of (SENSORS at most).

Numbers sit on coarse grids, so that signals that differ little mostly share their facts and captions.
"""

from typing import NamedTuple

import numpy as np

VERSION = 2  # raise it when a caption or a group changes: trials that read them get new names
SENSORS = 2  # more would not fit a short text
MOVEMENT = ("acc", "useracc", "bodyacc")  # the first that there is; only acc has gravity in it
ABSENT = -99  # a fact that a window does not have
MANY = 3  # events from here on are not counted
GRAVITY = {"g": 1.0, "m/s^2": 9.81}  # 1 g in each unit
STILL = {"g": 0.02, "m/s^2": 0.2, "rad/s": 0.05, "deg/s": 3.0}  # an RMS up to this counts as rest
PERIODIC = (0.4, 0.7)  # autocorrelation a period later: above the first weak, above the second strong
EVENT = 3.0  # times the RMS; a sine and 95 % of SPAR's windows stay below it
TREND_FRAC = 0.25  # of a channel's variance on a straight line
GRAVITY_NORM = (0.8, 1.2)  # g; below, the sensor turned or gravity was taken out
TILT = 0.5  # cosine: an axis within 60 degrees of gravity is said


class Sensor(NamedTuple):
    """What captions need of a data set. channels: `placement_sensor_axis`, `sensor_axis`, or any other name
    for a channel without axes. units: by sensor name (by channel name without axes); a missing unit is not
    said. placement: where it is worn ("a smart watch on the wrist"), or empty."""

    channels: tuple[str, ...]
    units: dict[str, str]
    rate_hz: float
    placement: str


class Facts(NamedTuple):
    """int64 each; ABSENT where a window has no such fact. Movement is a window less its mean.

    channel, energy (W, S): the channel that varies most, of the triad that varies most, and the triad's RMS
    on the grid 1, 2, 5, 10, ... (see `number`); both ABSENT where the sensor rests.
    The rest (W,) is about the first sensor. frequency: of its channel, in quarter octaves from 1 Hz.
    periodicity: 0 none, 1 weak, 2 strong. posture: signs of gravity on x, y, z as digits -1, 0, 1 in base 3.
    trend: -1 falls, 0 none, 1 rises; change: by how much, on the grid. events: peaks, up to MANY."""

    channel: np.ndarray
    energy: np.ndarray
    frequency: np.ndarray
    periodicity: np.ndarray
    posture: np.ndarray
    trend: np.ndarray
    change: np.ndarray
    events: np.ndarray


def parts(channel: str) -> tuple[str, str, str]:
    """(placement, sensor, axis) of a channel; a channel without axes is its own placement."""
    *front, axis = channel.split("_")
    if front and axis in ("x", "y", "z"):
        return " ".join(front[:-1]), front[-1], axis
    return channel.replace("_", " "), "", ""


def spoken(sensor: Sensor) -> list[tuple[str, list[list[int]]]]:
    """(name, triads as channel indices) of each sensor that is spoken of; channels without axes make one."""
    found = _triads(sensor)
    movement = [name for name in MOVEMENT if name in found][:1]  # one of them: they measure the same
    turning = [name for name in ("gyro",) if name in found]
    others = [name for name in found if name not in (*MOVEMENT, "gyro", "gravity")]
    names = [*movement, *turning, *others] or list(found)
    return [(name, list(found[name].values())) for name in names[:SENSORS]]


def _triads(sensor: Sensor) -> dict[str, dict[str, list[int]]]:
    """{sensor: {placement: channel indices}}."""
    found: dict[str, dict[str, list[int]]] = {}
    for index, channel in enumerate(sensor.channels):
        placement, name, _ = parts(channel)
        found.setdefault(name, {}).setdefault(placement, []).append(index)
    return found


def unit(sensor: Sensor, channel: int) -> str:
    name = sensor.channels[channel]
    return sensor.units.get(parts(name)[1] or name, "")


def _grid(value: np.ndarray) -> np.ndarray:
    """Step k of the grid 1, 2, 5, 10, ... that is nearest to value by ratio; ABSENT for 0."""
    positive = np.where(value > 0, value, 1.0)
    decade = np.floor(np.log10(positive))
    mantissa = positive / 10.0**decade
    step = 3 * decade + sum(mantissa > np.sqrt(edge) for edge in (2, 10, 50))
    return np.where(value > 0, step, ABSENT).astype(np.int64)


def decimal(value: float) -> str:
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def number(step: int) -> str:
    """The number at a step of the grid: 0 is 1, 1 is 2, 2 is 5, 3 is 10, -1 is 0.5."""
    return decimal((1, 2, 5)[step % 3] * 10.0 ** (step // 3))


def facts(x_WMT: np.ndarray, sensor: Sensor) -> Facts:
    """Facts of raw finite windows. A window's depend on nothing but the window."""
    if x_WMT.ndim != 3 or x_WMT.shape[1] != len(sensor.channels) or x_WMT.shape[2] < 8:
        raise ValueError(f"expected (W, {len(sensor.channels)}, 8 or more), found {x_WMT.shape}")
    x = np.ascontiguousarray(x_WMT, dtype=np.float64)
    mean_WM = x.mean(2)
    moving = x - mean_WM[:, :, None]
    var_WM = np.square(moving).mean(2)
    var_WM[var_WM <= 1e-12 * np.square(mean_WM)] = 0  # what rounding leaves of a constant
    row = np.arange(len(x))
    said = []  # per sensor: triads, the strongest, its channel, its RMS, whether it rests
    floor = np.array([STILL.get(unit(sensor, m), 0.0) for m in range(len(sensor.channels))])
    for _, triads in spoken(sensor):
        var_WG = np.stack([var_WM[:, triad].sum(1) for triad in triads], 1)
        strongest = var_WG.argmax(1)
        axis_WG = np.stack([np.array(triad)[var_WM[:, triad].argmax(1)] for triad in triads], 1)
        channel, rms = axis_WG[row, strongest], np.sqrt(var_WG[row, strongest])
        said.append((triads, strongest, channel, rms, rms <= floor[channel]))
    triads, strongest, channel, rms, rests = said[0]
    size2_WT = np.empty((len(x), x.shape[2]))  # squared distance from the mean
    for index, triad in enumerate(triads):
        of = np.flatnonzero(strongest == index)
        size2_WT[of] = sum(np.square(moving[of, m]) for m in triad)
    trend, change, rest_WT = _trend(moving[row, channel])
    frequency, periodicity = _rhythm(rest_WT, sensor.rate_hz)
    return Facts(
        channel=np.stack([np.where(rests, ABSENT, m) for *_, m, _, rests in said], 1),
        energy=np.stack([np.where(rests, ABSENT, _grid(rms)) for *_, rms, rests in said], 1),
        frequency=np.where(rests, ABSENT, frequency),
        periodicity=np.where(rests, 0, periodicity),
        posture=_posture(mean_WM, sensor, triads, np.where(rests, 0, strongest)),
        trend=np.where(rests, 0, trend),
        change=np.where(rests, ABSENT, change),
        events=np.where(rests, 0, _events(size2_WT, rms, sensor.rate_hz)),
    )


def _trend(y_WT: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction, grid step of the change from first to last, and y less its straight line."""
    time = np.arange(y_WT.shape[1]) - (y_WT.shape[1] - 1) / 2
    slope = (y_WT * time).sum(1) / np.square(time).sum()
    rest_WT = y_WT - slope[:, None] * time
    power, left = np.square(y_WT).sum(1), np.square(rest_WT).sum(1)
    has = (power > 0) & (left < (1 - TREND_FRAC) * power)
    rest_WT[left < 1e-6 * power] = 0  # a line, and nothing swings about it
    change = np.abs(slope) * (y_WT.shape[1] - 1)
    trend = np.where(has, np.sign(slope), 0).astype(np.int64)
    return trend, np.where(has, _grid(change), ABSENT), rest_WT


def _rhythm(y_WT: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequency of the highest spectral peak from one cycle a window on, and periodicity by the highest
    correlation of y with itself later, once it has turned negative, up to half a window: two cycles seen."""
    steps = y_WT.shape[1]
    n = 1 << (2 * steps - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(y_WT, n)))
    low = -(-n // steps)
    peak = power[:, low : n // 2].argmax(1) + low
    left, top, right = (power[np.arange(len(y_WT)), peak + d] for d in (-1, 0, 1))
    curve = 2 * top - left - right
    shift = np.where(curve > 0, (right - left) / np.where(curve > 0, 2 * curve, 1), 0)
    hertz = (peak + np.clip(shift, -0.5, 0.5)) * rate_hz / n
    frequency = np.where(top > 0, np.rint(4 * np.log2(hertz)), ABSENT).astype(np.int64)
    lag = np.arange(steps // 2 + 1)
    product = np.fft.irfft(power, n)[:, lag]
    energy = np.cumsum(np.square(y_WT), axis=1)
    total = energy[:, -1:]
    head = energy[:, steps - 1 - lag]  # of the steps that have a partner `lag` later
    tail = total - np.where(lag > 0, energy[:, lag - 1], 0)
    scale = np.sqrt(np.clip(head * tail, 0, None))
    ok = scale > 1e-9 * total
    correlation = np.where(ok, product / np.where(ok, scale, 1), 0)
    turned = np.logical_or.accumulate(correlation < -1e-9, axis=1)
    highest = np.where(turned, correlation, 0).max(1)
    return frequency, sum((highest > edge).astype(np.int64) for edge in PERIODIC)


def _posture(mean_WM: np.ndarray, sensor: Sensor, triads: list[list[int]], of: np.ndarray) -> np.ndarray:
    """Where gravity lies, read off the sensor of that name or the mean acceleration, if it is about 1 g long;
    ABSENT else."""
    absent, name = np.full(len(mean_WM), ABSENT), "acc"
    if len(apart := list(_triads(sensor).get("gravity", {}).values())) == len(triads):
        triads, name = apart, "gravity"
    one_g = GRAVITY.get(unit(sensor, triads[0][0]))
    wanted = [(name, axis) for axis in "xyz"]
    if one_g is None or any([parts(sensor.channels[m])[1:] for m in t] != wanted for t in triads):
        return absent
    gravity = mean_WM[np.arange(len(mean_WM))[:, None], np.array(triads)[of]] / one_g
    norm = np.sqrt(np.square(gravity).sum(1))
    signs = np.sign(gravity) * (np.abs(gravity) > TILT * norm[:, None])
    code = (signs * np.array([1, 3, 9])).sum(1).astype(np.int64)
    return np.where((norm > GRAVITY_NORM[0]) & (norm < GRAVITY_NORM[1]), code, absent)


def _events(size2_WT: np.ndarray, rms: np.ndarray, rate_hz: float) -> np.ndarray:
    """How often the movement rises above EVENT times its RMS after 0.2 s below, up to MANY."""
    above = size2_WT > np.square(EVENT * rms)[:, None]
    seen = np.cumsum(above, axis=1)
    quiet = max(1, round(0.2 * rate_hz))
    before = np.pad(seen, ((0, 0), (quiet + 1, 0)))[:, : seen.shape[1]]
    fresh = above & (seen - 1 == before)
    return np.minimum(fresh.sum(1), MANY)


def rows(found: Facts) -> np.ndarray:
    return np.column_stack(found)


def groups(found: Facts) -> np.ndarray:
    """(W,) int64, equal for windows whose facts are equal: the positives of a contrastive loss."""
    return np.unique(rows(found), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
