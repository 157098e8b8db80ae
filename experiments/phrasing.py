"""Captions of series: the facts of a window's signal as sentences with units."""

from typing import NamedTuple

import numpy as np

from experiments.signals import ABSENT, Facts, Sensor, decimal, number, parts, rows, spoken, unit

NOUNS = {  # a sensor's name: what it measures, and how that goes with an axis
    "acc": ("acceleration", "along"),
    "useracc": ("acceleration", "along"),
    "bodyacc": ("acceleration", "along"),
    "gravity": ("pull of gravity", "along"),
    "gyro": ("rotation", "about"),
    "mag": ("magnetic field", "along"),
    "": ("variation", "in"),
}


class Wording(NamedTuple):
    """One way to say every fact. moves, rests: a sensor; rhythm: by periodicity; trend: falling, rising."""

    order: tuple[str, ...]
    frame: str
    moves: str
    rests: str
    rhythm: tuple[str, str, str]
    gravity: str
    trend: tuple[str, str]
    events: tuple[str, str, str]


WORDINGS = (
    Wording(
        order=("sensors", "rhythm", "gravity", "trend", "events"),
        frame="{place}: {text}",
        moves="{noun} mostly {by} {axis}, {size} RMS",
        rests="no {noun}",
        rhythm=("aperiodic, near {hertz}", "weakly periodic at {hertz}", "strongly periodic at {hertz}"),
        gravity="gravity along {axes}",
        trend=("falling by {size}", "rising by {size}"),
        events=("one peak", "two peaks", "many peaks"),
    ),
    Wording(
        order=("rhythm", "events", "sensors", "trend", "gravity"),
        frame="{text}; from {place}",
        moves="RMS {noun} {size}, mainly {by} {axis}",
        rests="hardly any {noun}",
        rhythm=("irregular near {hertz}", "fairly regular near {hertz}", "regular near {hertz}"),
        gravity="gravity lies on {axes}",
        trend=("drifts down by {size}", "drifts up by {size}"),
        events=("one jolt", "two jolts", "several jolts"),
    ),
    Wording(
        order=("gravity", "sensors", "trend", "events", "rhythm"),
        frame="Signal of {place}: {text}",
        moves="{size} RMS {noun}, most {by} {axis}",
        rests="{noun} at rest",
        rhythm=("no rhythm, about {hertz}", "a faint rhythm of {hertz}", "a clear rhythm of {hertz}"),
        gravity="gravity felt on {axes}",
        trend=("ending {size} lower", "ending {size} higher"),
        events=("a single burst", "a pair of bursts", "a series of bursts"),
    ),
)
PHRASINGS = len(WORDINGS)


def captions(found: Facts, sensor: Sensor, phrasings: int = PHRASINGS) -> list[list[str]]:
    """For each window the first `phrasings` wordings of its facts; equal facts share one list."""
    if not 1 <= phrasings <= len(WORDINGS):
        raise ValueError(f"expected 1 to {len(WORDINGS)} phrasings, found {phrasings}")
    distinct_rows, group = np.unique(rows(found), axis=0, return_inverse=True)
    distinct = [
        [_caption(row, sensor, say) for say in WORDINGS[:phrasings]] for row in distinct_rows.tolist()
    ]
    return [distinct[g] for g in group.reshape(-1)]


def _caption(row: list[int], sensor: Sensor, say: Wording) -> str:
    """Of one window's facts, in their order."""
    sensors = spoken(sensor)
    channels, energies = row[: len(sensors)], row[len(sensors) : 2 * len(sensors)]
    frequency, periodicity, posture, trend, change, events = row[2 * len(sensors) :]

    def size(step: int, channel: int) -> str:
        return f"{number(step)} {unit(sensor, channel)}".strip()

    said: dict[str, list[str]] = {name: [] for name in say.order}
    for (name, _), channel, energy in zip(sensors, channels, energies, strict=True):
        noun, by = NOUNS.get(name, (name, "along"))
        if channel == ABSENT:
            said["sensors"].append(say.rests.format(noun=noun))
        else:
            placement, _, axis = parts(sensor.channels[channel])
            axis = " of the ".join(filter(None, (axis, placement)))
            said["sensors"].append(say.moves.format(noun=noun, by=by, axis=axis, size=size(energy, channel)))
    if frequency != ABSENT:
        said["rhythm"].append(say.rhythm[periodicity].format(hertz=f"{decimal(2 ** (frequency / 4))} Hz"))
    if posture != ABSENT:
        signs = [(posture + 13) // 3**i % 3 - 1 for i in range(3)]
        axes = [f"{'+-'[sign < 0]}{axis}" for sign, axis in zip(signs, "xyz", strict=True) if sign]
        said["gravity"].append(say.gravity.format(axes=" and ".join(axes)))
    if trend:
        said["trend"].append(say.trend[trend > 0].format(size=size(change, channels[0])))
    if events:
        said["events"].append(say.events[events - 1])
    text = "; ".join(clause for name in say.order for clause in said[name])
    text = say.frame.format(place=sensor.placement, text=text) if sensor.placement else text
    return text[0].upper() + text[1:] + "."
